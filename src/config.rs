//! L4: the configuration, layered, checked whole before anything starts.
//!
//! `raw` says what may be written, `layer` merges file, environment and flags with the `config`
//! crate, `read` turns each value alone into its raw form so that every problem is found at once,
//! `check` turns raw sections into the types below.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::workload::WorkloadRef;
use crate::forecast::model::Model;
use crate::plan::policy::Pattern;

mod check;
pub mod layer;
pub mod model;
pub mod problem;
pub mod raw;
mod read;
pub mod reference;
pub mod unit;

pub use layer::Layers;
pub use problem::{Origin, Problem, Problems};
pub use raw::{KafkaSecurity, LogFormat, POOL_LABELS, RuntimeKind};

/// What every process has.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// How log lines look.
    pub log_format: LogFormat,
    /// A level, or levels by module (`info,forelay::source=debug`), known to parse.
    pub log_level: String,
    /// How long work under way may take to finish after SIGTERM.
    pub shutdown_deadline: Duration,
}

/// How the API server is found: neither key means in-cluster, then the usual kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// Path of a kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, where not its current one.
    pub context: Option<String>,
}

/// `forelay controller`.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    /// Where the API server is.
    pub kubernetes: Kubernetes,
    /// Namespace of the Lease and of the state object.
    pub namespace: String,
    /// Who this replica is in the Lease; the driver makes one up when absent.
    pub identity: Option<String>,
    /// Address of the admin server.
    pub listen: SocketAddr,
    /// Pause between two looks at the whole cluster.
    pub step_interval: Duration,
    /// Node labels that name a node's pool, the strongest first; never empty.
    pub pool_labels: Vec<String>,
    /// Parameters of the engine: those of the model file, where one is named.
    pub model: Model,
    /// That model file: it is read again when it changes.
    pub model_file: Option<PathBuf>,
    /// Base URLs of caches, asked in order before the origin.
    pub caches: Vec<String>,
    /// Base URLs of registries that are not reached under their names.
    pub origins: BTreeMap<String, String>,
    /// Name of the Lease object.
    pub lease_name: String,
    /// How long a silent leader stays leader; whole seconds, at least 3.
    pub lease_duration: Duration,
    /// Namespace and name of a Lease whose holder had best lead.
    pub lease_follow: Option<(String, String)>,
    /// Name of the object that holds the learned state.
    pub state_name: String,
    /// Time between two saves of it.
    pub state_save_interval: Duration,
    /// Signals over Kafka.
    pub kafka: Option<Kafka>,
    /// Load series.
    pub prometheus: Option<Prometheus>,
    /// cluster-autoscaler's gRPC expander.
    pub expander: Option<Expander>,
}

/// `[controller.expander]`, when there is an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expander {
    /// Where the autoscaler asks.
    pub listen: SocketAddr,
    /// The server's certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// `[controller.kafka]`, when there are brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Bootstrap brokers, `host:port`; never empty.
    pub brokers: Vec<String>,
    /// Topics that carry CloudEvents; never empty.
    pub topics: Vec<String>,
    /// The consumer group is this and the replica's identity.
    pub group_prefix: String,
    /// How much recent history is read again at start.
    pub history: Duration,
    /// How brokers are spoken to.
    pub security: KafkaSecurity,
}

/// `[controller.prometheus]`, when there is a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    /// Base URL, without a slash at its end.
    pub url: String,
    /// Time between two samples of a query.
    pub interval: Duration,
    /// How long one query may take; shorter than the interval.
    pub timeout: Duration,
    /// The load series, at least one, with distinct names.
    pub queries: Vec<Query>,
}

/// One load series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Name of the series.
    pub name: String,
    /// PromQL that gives one value.
    pub query: String,
    /// The workload that scales with it.
    pub workload: Option<WorkloadRef>,
}

/// `forelay agent`.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Where the API server is.
    pub kubernetes: Kubernetes,
    /// The node this agent serves.
    pub node_name: String,
    /// Node labels that name a node's pool, the strongest first; never empty.
    pub pool_labels: Vec<String>,
    /// What images are put into.
    pub runtime: RuntimeKind,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// The CRI runtime's socket, where it is given.
    pub cri: Option<PathBuf>,
    /// What has to be known after a restart, where the runtime pulls images itself.
    pub state: PathBuf,
    /// Where layers are unpacked, where not beside containerd's snapshots.
    pub staging: Option<PathBuf>,
    /// Whether an image is on disk before it is recorded.
    pub sync: bool,
    /// Whether layers' blobs are kept in containerd's content store, too.
    pub blobs: bool,
    /// Images that are never recorded.
    pub unrecorded: Vec<Pattern>,
    /// Whether the kubelet's collector passes over what is recorded and foreseen.
    pub pin: bool,
    /// So often recorded tags are asked again; zero: never.
    pub recheck: Duration,
    /// A Docker `config.json` with credentials.
    pub credentials: Option<PathBuf>,
    /// The OCI image layout that images are put into.
    pub layout: PathBuf,
    /// Base URLs of caches to ask, in order, without a slash at the end.
    pub caches: Vec<String>,
    /// Whether to go to an image's own registry when no cache answers.
    pub origin_fallback: bool,
    /// Registry name to base URL, where that is not `https://` and the name.
    pub origins: BTreeMap<String, String>,
    /// Layers fetched at the same time; at least 1.
    pub concurrency: usize,
    /// Most bytes per second for layers that no pod waits for.
    pub bandwidth_limit: Option<Bandwidth>,
    /// Most bytes that fetched layers may take on the node's disk.
    pub disk_budget: ByteSize,
    /// How long the layers of an image stay that no plan names any more.
    pub linger: Duration,
    /// Address of the admin server.
    pub listen: SocketAddr,
    /// The mirror that containerd asks first.
    pub mirror: Mirror,
}

/// `[agent.mirror]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Whether there is one; only where origins may be asked.
    pub enabled: bool,
    /// Its address, of loopback.
    pub listen: SocketAddr,
    /// Folder of `hosts.toml` files, where not the one that containerd names.
    pub config_path: Option<PathBuf>,
    /// How long an origin's word on a tag counts while it does not answer.
    pub fresh: Duration,
}

/// `forelay cache`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Address of the registry API.
    pub listen: SocketAddr,
    /// Address of the admin server.
    pub admin_listen: SocketAddr,
    /// Where blobs and manifests are kept.
    pub directory: PathBuf,
    /// Registry name to base URL: the closed list of what may be asked for; never empty.
    pub upstreams: BTreeMap<String, String>,
    /// Most bytes kept on disk.
    pub max_bytes: ByteSize,
    /// How long an upstream may keep silent.
    pub request_timeout: Duration,
}

/// The configuration of a command that needs no section of its own.
pub fn common(layers: &Layers) -> Result<Common, Problems> {
    let mut read = read::read(layers);
    let common = check::common(&mut read);
    read.problems.or(|| common)
}

/// The configuration of `forelay controller`.
pub fn controller(layers: &Layers) -> Result<(Common, Controller), Problems> {
    let mut read = read::read(layers);
    let (common, controller) = (check::common(&mut read), check::controller(&mut read));
    read.problems.or(|| (common, controller))
}

/// The configuration of `forelay agent`.
pub fn agent(layers: &Layers) -> Result<(Common, Agent), Problems> {
    let mut read = read::read(layers);
    let (common, agent) = (check::common(&mut read), check::agent(&mut read));
    read.problems.or(|| (common, agent))
}

/// The configuration of `forelay cache`.
pub fn cache(layers: &Layers) -> Result<(Common, Cache), Problems> {
    let mut read = read::read(layers);
    let (common, cache) = (check::common(&mut read), check::cache(&mut read));
    read.problems.or(|| (common, cache))
}

#[cfg(test)]
mod tests;
