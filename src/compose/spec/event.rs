//! `[[events]]`: what befalls the cluster, each at an instant.

use serde::Deserialize;

use crate::config::unit::Span;

/// One thing that happens. Which members count depends on the kind; others are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, from `start`.
    pub at: Span,
    /// What.
    pub kind: EventKind,
    /// Nodes of this pool.
    pub pool: Option<String>,
    /// Nodes of this zone.
    pub zone: Option<String>,
    /// How many nodes, or how many pods for `announce` and `buffer`.
    pub count: Option<u32>,
    /// Which share of the nodes, 0 to 1.
    pub share: Option<f64>,
    /// How long before the end the notice comes.
    pub notice: Option<Span>,
    /// How long before the notice a hint comes.
    pub hint: Option<Span>,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// `announce`: when the capacity is wanted, counted from `at`.
    #[serde(rename = "in")]
    pub ahead: Option<Span>,
    /// `announce`, `buffer`: its name; `scale`, `announce`, `buffer`: see `workload`.
    pub name: Option<String>,
    /// `Kind/namespace/name` of the workload that is meant.
    pub workload: Option<String>,
    /// `scale`: replicas from then on.
    pub replicas: Option<u32>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The cloud takes nodes of a pool back, all at once, after a notice.
    SpotReclaim,
    /// All nodes of a zone vanish, and none comes there for a while.
    ZoneOutage,
    /// No machine of a pool can be had for a while.
    StockOut,
    /// Somebody drains nodes of a pool, one after the other.
    Drain,
    /// Nodes of a pool vanish without a word.
    NodeFailure,
    /// Somebody says that pods will come.
    Announce,
    /// A CapacityBuffer: the autoscaler keeps room for so many pods.
    Buffer,
    /// Somebody sets the replicas of a workload without an HPA.
    Scale,
}
