//! The configuration as it is written: every key, its meaning and its default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit::{Count, List, Rate, Size, Span};
use crate::domain::quantity::ByteSize;
use crate::engine::node::Limits;

mod expander;
#[macro_use]
mod words;

pub use expander::RawExpander;
pub use words::{KafkaSecurity, LogFormat, NotOneOf, RuntimeKind};

/// The whole configuration. Doc comments and defaults here become `docs/configuration.md`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// What is logged, and how. Logs go to standard error.
    pub log: RawLog,
    /// How every process ends.
    pub shutdown: RawShutdown,
    /// Where the API server is. With neither key set: in a cluster its service account, elsewhere
    /// the usual kubeconfig.
    pub kubernetes: RawKubernetes,
    /// `forelay controller`: predicts, and publishes plans.
    pub controller: RawController,
    /// `forelay agent`: brings layers to its node.
    pub agent: RawAgent,
    /// `forelay cache`: fetches each layer once for the whole cluster.
    pub cache: RawCache,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    /// `text`, `json`, or `auto`: text on a terminal, JSON in a cluster or into a pipe.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module:
    /// `info,forelay::source=debug`.
    pub level: String,
}

/// `[shutdown]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawShutdown {
    /// How long work under way may take to finish after SIGTERM. Below the 30 s after which a
    /// kubelet kills.
    pub deadline: Span,
}

/// `[kubernetes]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawKubernetes {
    /// Path of a kubeconfig.
    #[schemars(example = &"/etc/forelay/kubeconfig")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, where not its current one.
    #[schemars(example = &"staging")]
    pub context: Option<String>,
}

/// `[controller]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawController {
    /// Namespace of the Lease and of the state object. Also read from `POD_NAMESPACE`.
    pub namespace: String,
    /// Who this replica is in the Lease. Also read from `POD_NAME`; made up when absent.
    #[schemars(example = &"forelay-controller-0")]
    pub identity: Option<String>,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    pub listen: String,
    /// Pause between two looks at the whole cluster; pressing signals are acted on at once.
    pub step_interval: Span,
    /// Node labels that name a node's pool; the first one that a node carries wins.
    pub pool_labels: List,
    /// Model file, read again when it changes; the one built in when absent.
    #[schemars(example = &"/etc/forelay/model.toml")]
    pub model: Option<PathBuf>,
    /// Caches to ask what references mean, in order, before the origin.
    #[schemars(example = ["http://forelay-cache.forelay:5000"])]
    pub caches: List,
    /// Where a registry is reached when that is not `https://` and its name.
    #[schemars(example = BTreeMap::from([("docker.io", "https://registry-1.docker.io")]))]
    pub origins: UrlTable,
    /// Leadership: one replica publishes, the others follow along.
    pub lease: RawLease,
    /// Where what was learned is kept.
    pub state: RawState,
    /// Signals over Kafka; off without brokers.
    pub kafka: RawKafka,
    /// Load series from Prometheus; off without a URL.
    pub prometheus: RawPrometheus,
    /// cluster-autoscaler's gRPC expander; off without an address.
    pub expander: RawExpander,
}

/// `[controller.lease]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLease {
    /// Name of the Lease object.
    pub name: String,
    /// How long a silent leader stays leader. Kubernetes' own components use 15 s.
    pub duration: Span,
    /// `namespace/name` of another Lease: the replica whose identity holds that one had best lead.
    #[schemars(example = &"kube-system/cluster-autoscaler")]
    pub follow: Option<String>,
}

/// `[controller.state]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawState {
    /// Name of the object that holds the learned state.
    pub name: String,
    /// Time between two saves; at most this much learning is lost with a leader.
    pub save_interval: Span,
}

/// `[controller.kafka]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawKafka {
    /// Bootstrap brokers, `host:port`.
    #[schemars(example = ["kafka-0.kafka:9092"])]
    pub brokers: List,
    /// Topics that carry CloudEvents.
    pub topics: List,
    /// Every replica reads everything under a group of its own: this prefix and its identity.
    pub group_prefix: String,
    /// How much recent history is read again at start; ids make that harmless.
    pub history: Span,
    /// `plain` is the only one so far: no TLS, no authentication.
    pub security: KafkaSecurity,
}

/// `[controller.prometheus]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPrometheus {
    /// Base URL of the Prometheus HTTP API.
    #[schemars(example = &"http://prometheus.monitoring:9090")]
    pub url: Option<String>,
    /// Time between two samples of a query.
    pub interval: Span,
    /// How long one query may take.
    pub timeout: Span,
    /// The load series: `name` (of the series), `query` (PromQL giving one value), `workload`
    /// (`Kind/namespace/name`, the workload that scales with it). Only in a file.
    #[schemars(example = [RawQuery::example()])]
    pub queries: Vec<RawQuery>,
}

/// An entry of `controller.prometheus.queries`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawQuery {
    /// Name of the series.
    pub name: String,
    /// PromQL that gives one value.
    pub query: String,
    /// The workload that scales with it, `Kind/namespace/name`.
    pub workload: Option<String>,
}

/// `[agent]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawAgent {
    /// The node this agent serves. Also read from `NODE_NAME`; there is no default.
    #[schemars(example = &"node-7")]
    pub node_name: Option<String>,
    /// Node labels that name a node's pool; must equal the controller's.
    pub pool_labels: List,
    /// Where images go: `containerd` (layers are unpacked beside its own), `cri` (the runtime pulls images
    /// itself, whole, one at a time; only what may be recorded), `layout` (a directory), or `auto`:
    /// containerd where its socket is; CRI where its snapshots cannot be reached or another runtime serves
    /// CRI; otherwise the layout.
    pub runtime: RuntimeKind,
    /// Socket of the node's containerd.
    pub containerd: PathBuf,
    /// Socket of the node's CRI runtime. Absent: containerd's, or CRI-O's where only that is there.
    #[schemars(example = &"/run/crio/crio.sock")]
    pub cri: Option<PathBuf>,
    /// Where is kept what has to be known after a restart where the runtime pulls images itself: their
    /// manifests, and which were pulled for us.
    pub state: PathBuf,
    /// Where layers are unpacked before containerd takes them: on the mount that holds its
    /// snapshots. Absent: beside them.
    #[schemars(example = &"/var/lib/containerd/forelay")]
    pub staging: Option<PathBuf>,
    /// Whether what was unpacked is written to disk before an image is recorded: a power cut then
    /// leaves no empty files. containerd itself does not, by default.
    pub sync: bool,
    /// Whether layers' blobs are kept in containerd's content store, too, as its own pulls leave them: to export, push or tag an
    /// image from the node, unpack it into another snapshotter, or serve peers. Written once the image is shown to
    /// pods; each byte then counts twice in `disk_budget`. A layer that the node had already is not fetched for it.
    pub blobs: bool,
    /// Images that are held ready but never recorded: pods' kubelets ask the registry what the tag
    /// means, and move no layer. `*` stands for any text in the whole reference.
    pub unrecorded: List,
    /// Whether the kubelet's image collector passes over what is recorded, for as long as the plan
    /// foresees it: it removes other unused images first then. From containerd 2.0 on, which ends a pin
    /// by itself where the agent does not come back.
    pub pin: bool,
    /// How often a recorded tag is asked again at its registry, until a pod uses it: one that moved
    /// loses its record. `0s` never asks.
    pub recheck: Span,
    /// Credentials for registries: a Docker `config.json`. What only they can read is held ready, not
    /// recorded.
    #[schemars(example = &"/etc/forelay/config.json")]
    pub credentials: Option<PathBuf>,
    /// The OCI image layout that images are put into.
    pub layout: PathBuf,
    /// Caches to ask, in order, before the origin.
    #[schemars(example = ["http://forelay-cache.forelay:5000"])]
    pub caches: List,
    /// Whether to go to an image's own registry when no cache answers, and to ask it what a tag means
    /// before an image is recorded. Without, images are held ready, not recorded.
    pub origin_fallback: bool,
    /// Where a registry is reached when that is not `https://` and its name.
    #[schemars(example = BTreeMap::from([("docker.io", "https://registry-1.docker.io")]))]
    pub origins: UrlTable,
    /// Layers fetched at the same time. A runtime that pulls itself is asked for one image at a time.
    pub concurrency: Count,
    /// Most bytes per second for layers that no pod waits for; absent means no limit. A runtime that pulls
    /// itself cannot be held to it.
    #[schemars(example = &"50MiB/s")]
    pub bandwidth_limit: Option<Rate>,
    /// Most bytes that fetched layers may take on the node's disk.
    pub disk_budget: Size,
    /// How long the layers of an image stay that no plan names any more; its record goes at once. Where the
    /// runtime pulls itself a tag goes only with its image: at once, too.
    pub linger: Span,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    pub listen: String,
    /// The mirror that containerd asks first, on loopback: for manifests of images that the agent brought.
    pub mirror: RawMirror,
}

/// `[agent.mirror]`: answers containerd on loopback for images that the agent brought.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawMirror {
    /// Whether there is one. It needs `agent.origin_fallback`, because origins say who may have an image; without
    /// a folder for its `hosts.toml` nobody is led to it.
    pub enabled: bool,
    /// Its address: one of loopback.
    pub listen: String,
    /// Folder of containerd's `hosts.toml` files. Absent: where containerd says (1.6, 1.7), or its own default
    /// (2.x, which does not say).
    #[schemars(example = &"/etc/containerd/certs.d")]
    pub config_path: Option<PathBuf>,
    /// A tag is asked at its registry at every pull. Where that does not answer, what it last said counts for so
    /// long; longer than `agent.recheck`, or what is recorded is not always fresh. `0s` never.
    pub fresh: Span,
}

/// `[cache]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawCache {
    /// Address of the registry API.
    pub listen: String,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    pub admin_listen: String,
    /// Where blobs and manifests are kept.
    pub directory: PathBuf,
    /// Registries that may be asked for, each with its URL. The list is closed: what is not named
    /// here is answered with 404. A list that is given replaces this one whole.
    pub upstreams: UrlTable,
    /// Most bytes kept on disk.
    pub max_bytes: Size,
    /// How long an upstream may keep silent.
    pub request_timeout: Span,
}

/// Registry name to URL: a table in a file, `name=url,name=url` in an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct UrlTable(
    #[serde(deserialize_with = "crate::config::layer::table")] pub BTreeMap<String, String>,
);

// === impl defaults ===

/// The label that names a node's pool, by who made the node; the ones that say most come first.
pub const POOL_LABELS: [&str; 6] = [
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "kops.k8s.io/instancegroup",
    "node.kubernetes.io/instance-group",
];

fn pool_labels() -> List {
    List(POOL_LABELS.map(str::to_owned).to_vec())
}

const fn secs(secs: u64) -> Span {
    Span(Duration::from_secs(secs))
}

const fn gibibytes(count: u64) -> Size {
    Size(ByteSize(count << 30))
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".into(),
        }
    }
}

impl Default for RawShutdown {
    fn default() -> Self {
        Self { deadline: secs(20) }
    }
}

impl Default for RawController {
    fn default() -> Self {
        Self {
            namespace: "forelay".into(),
            identity: None,
            listen: "0.0.0.0:9464".into(),
            step_interval: secs(1),
            pool_labels: pool_labels(),
            model: None,
            caches: List::default(),
            origins: UrlTable::default(),
            lease: RawLease::default(),
            state: RawState::default(),
            kafka: RawKafka::default(),
            prometheus: RawPrometheus::default(),
            expander: RawExpander::default(),
        }
    }
}

impl Default for RawLease {
    fn default() -> Self {
        Self {
            name: "forelay-controller".into(),
            duration: secs(15),
            follow: None,
        }
    }
}

impl Default for RawState {
    fn default() -> Self {
        Self {
            name: "forelay-state".into(),
            save_interval: secs(180),
        }
    }
}

impl Default for RawKafka {
    fn default() -> Self {
        Self {
            brokers: List::default(),
            topics: List(vec!["forelay-signals".into()]),
            group_prefix: "forelay".into(),
            history: secs(6 * 3600),
            security: KafkaSecurity::Plain,
        }
    }
}

impl Default for RawPrometheus {
    fn default() -> Self {
        Self {
            url: None,
            interval: secs(30),
            timeout: secs(10),
            queries: Vec::new(),
        }
    }
}

impl RawQuery {
    /// What the reference shows.
    fn example() -> Self {
        Self {
            name: "checkout-rps".into(),
            query: "sum(rate(http_requests_total{app=\"checkout\"}[1m]))".into(),
            workload: Some("Deployment/shop/checkout".into()),
        }
    }
}

impl Default for RawAgent {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            node_name: None,
            pool_labels: pool_labels(),
            runtime: RuntimeKind::Auto,
            containerd: "/run/containerd/containerd.sock".into(),
            cri: None,
            state: "/var/lib/forelay/state".into(),
            staging: None,
            sync: false,
            blobs: false,
            unrecorded: List(vec!["*:latest".into()]),
            pin: false,
            recheck: secs(30),
            credentials: None,
            layout: "/var/lib/forelay/layout".into(),
            caches: List::default(),
            origin_fallback: true,
            origins: UrlTable::default(),
            concurrency: Count(limits.concurrency as u32),
            bandwidth_limit: None,
            disk_budget: gibibytes(20),
            linger: Span(limits.linger),
            listen: "0.0.0.0:9465".into(),
            mirror: RawMirror::default(),
        }
    }
}

impl Default for RawMirror {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:9467".into(),
            config_path: None,
            fresh: secs(60),
        }
    }
}

impl Default for RawCache {
    fn default() -> Self {
        let public = [
            ("docker.io", "https://registry-1.docker.io"),
            ("ghcr.io", "https://ghcr.io"),
            ("quay.io", "https://quay.io"),
            ("registry.k8s.io", "https://registry.k8s.io"),
        ];
        Self {
            listen: "0.0.0.0:5000".into(),
            admin_listen: "0.0.0.0:9466".into(),
            directory: "/var/lib/forelay/cache".into(),
            upstreams: UrlTable(public.map(|(name, url)| (name.into(), url.into())).into()),
            max_bytes: gibibytes(100),
            request_timeout: secs(30),
        }
    }
}

schema!(UrlTable, {"type": "object", "format": "table", "additionalProperties": {"type": "string"}});
