//! A spec as it is written: the sections of `docs/compose.md`, before anything is checked.

mod event;
mod pool;
mod quantity;
mod scale;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::unit::{Rate, Size, Span};
use crate::domain::image::ImageRef;
use crate::domain::quantity::Bandwidth;
use crate::domain::time::Timestamp;

pub use event::{Event, EventKind};
pub use pool::{Pool, StockOut};
pub use quantity::{Cpu, Draw, Portion};
pub use scale::{Behaviour, Fill, Hpa, Load, Metric, Policy, PolicyKind, Select, Where};
pub use workload::{Arrivals, Container, Kind, Requests, Rollout, Spread, Topology, Workload};

/// One scenario to be composed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Short name, the file's without its ending.
    pub name: String,
    /// What happens, for a reader.
    pub story: String,
    /// SPDX expression or names of the licences of its parts.
    pub licence: String,
    /// What of the spec itself is real, said before the composer's own account.
    #[serde(default)]
    pub provenance: String,
    /// What the scenario is for.
    #[serde(default)]
    pub part: Part,
    /// First instant. Missing only where the scenario is recorded.
    pub start: Option<Timestamp>,
    /// From `start` to the end. Missing only where the scenario is recorded.
    pub length: Option<Span>,
    /// How long the model runs silently before `start`, to get to what stands there then.
    #[serde(default = "settle")]
    pub settle: Span,
    /// Of all draws; `--seed` goes before it.
    #[serde(default = "one")]
    pub seed: u64,
    /// Where images are looked up.
    pub catalogue: Option<CatalogueFiles>,
    /// Images that no catalogue has.
    #[serde(default)]
    pub images: BTreeMap<ImageRef, MadeImage>,
    /// What nodes share.
    #[serde(default)]
    pub shared: Shared,
    /// Who adds nodes.
    #[serde(default)]
    pub autoscaler: Autoscaler,
    /// Kinds of nodes.
    #[serde(default)]
    pub pools: BTreeMap<String, Pool>,
    /// Whatever makes pods.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// What befalls the cluster.
    #[serde(default)]
    pub events: Vec<Event>,
    /// How late and how lossy watchers see it.
    #[serde(default)]
    pub watch: Watch,
    /// Numbers that a replay of it must meet; each name ends in `_min` or `_max`.
    #[serde(default)]
    pub bounds: BTreeMap<String, f64>,
    /// The scenario is a recording: there is nothing to compose.
    pub recorded: Option<Recorded>,
}

/// Which use of the pack a scenario belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Parameters are fitted on it.
    #[default]
    Training,
    /// Parameters are chosen by it.
    Validation,
    /// No tuning ever sees it.
    HeldOut,
    /// For speed, not for scores.
    Throughput,
}

/// Two tables, their paths relative to the spec's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueFiles {
    /// `repository,tag,arch,...,layer_ids`, gzip.
    pub images: PathBuf,
    /// `layer_id,digest16,compressed_bytes`, gzip.
    pub layers: PathBuf,
}

/// An image made of layers of given sizes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeImage {
    /// Architectures that it exists for.
    #[serde(default = "amd64")]
    pub archs: Vec<String>,
    /// An image of this table whose layers come first: shared, byte for byte.
    pub base: Option<ImageRef>,
    /// Compressed sizes of its own layers, base first.
    pub layers: Vec<Size>,
}

/// `[shared]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    /// Out of the cache, all nodes together.
    pub cache_uplink: Rate,
    /// Out of the origin, all readers together.
    pub origin: Rate,
}

/// `[autoscaler]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Autoscaler {
    /// Whose manners.
    pub kind: AutoscalerKind,
    /// cluster-autoscaler: time between two loops.
    pub scan: Span,
    /// cluster-autoscaler: which of several pools that would do grows.
    pub expander: Expander,
    /// How long a node must be unneeded before it goes (Karpenter: `consolidateAfter`).
    pub unneeded: Span,
    /// cluster-autoscaler: no scale-down within this time of a scale-up.
    pub delay_after_add: Span,
    /// Requested over allocatable below which a node may be unneeded.
    pub utilisation: f64,
    /// A request without a node for so long is given up.
    pub provision_max: Span,
    /// cluster-autoscaler: whether the status ConfigMap is written each loop.
    pub status: bool,
    /// Karpenter: quiet time that ends a batch of pending pods.
    pub batch_idle: Span,
    /// Karpenter: longest time that a batch is waited for.
    pub batch_max: Span,
    /// Whether nodes go, and which.
    pub consolidation: Consolidation,
}

/// Whose manners an autoscaler has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoscalerKind {
    /// Node groups, a loop, a status ConfigMap.
    #[default]
    ClusterAutoscaler,
    /// NodeClaims.
    Karpenter,
    /// Nobody: pools stay at `min`.
    None,
}

/// cluster-autoscaler's `--expander`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expander {
    /// The pool that leaves the least CPU unused, then memory.
    #[default]
    LeastWaste,
    /// Any.
    Random,
    /// The highest `priority` of a pool.
    Priority,
    /// The pool that takes the most pods.
    MostPods,
}

/// Which nodes an autoscaler takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consolidation {
    /// Empty ones, and ones whose pods fit elsewhere.
    #[default]
    Underused,
    /// Those without pods (beside DaemonSets').
    Empty,
    /// None.
    Never,
}

/// `[watch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// From a change of an object to its watcher.
    pub objects: Draw,
    /// From the happening to the watcher of Kubernetes Events.
    pub events: Draw,
    /// From a sample to whoever queries it.
    pub load: Draw,
    /// Share of Events that are lost.
    pub events_lost: f64,
    /// Share of load samples that are lost.
    pub load_lost: f64,
    /// Events about pods that an autoscaler may write a second; a burst of twice as many.
    pub pod_events: f64,
}

/// `[recorded]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// What made the scenario: `forelay import`.
    pub by: String,
}

fn settle() -> Span {
    Span(Duration::from_mins(30))
}

const fn one() -> u64 {
    1
}

fn amd64() -> Vec<String> {
    vec!["amd64".to_owned()]
}

impl Default for Shared {
    /// The shared rates of imported scenarios: 10 Gbit/s and 2 Gbit/s.
    fn default() -> Self {
        Self {
            cache_uplink: Rate(Bandwidth(1.25e9)),
            origin: Rate(Bandwidth(250e6)),
        }
    }
}

impl Default for Autoscaler {
    /// The flags' own defaults of cluster-autoscaler 1.37 and Karpenter 1.9.
    fn default() -> Self {
        Self {
            kind: AutoscalerKind::default(),
            scan: Span(Duration::from_secs(10)),
            expander: Expander::default(),
            unneeded: Span(Duration::from_mins(10)),
            delay_after_add: Span(Duration::from_mins(10)),
            utilisation: 0.5,
            provision_max: Span(Duration::from_mins(15)),
            status: true,
            batch_idle: Span(Duration::from_secs(1)),
            batch_max: Span(Duration::from_secs(10)),
            consolidation: Consolidation::default(),
        }
    }
}

impl Default for Watch {
    /// Objects: half of the recordings' watch lines came within 5 ms, 19 of 20 within 50 ms of their
    /// neighbours. Karpenter writes 5 Events about pods a second, a burst of 10.
    fn default() -> Self {
        Self {
            objects: Draw::quantiles(0.001, 0.005, 0.05),
            events: Draw::quantiles(0.005, 0.05, 0.8),
            load: Draw::quantiles(0.2, 1.0, 5.0),
            events_lost: 0.0,
            load_lost: 0.0,
            pod_events: 5.0,
        }
    }
}
