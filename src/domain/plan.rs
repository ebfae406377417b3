//! What a node, or any coming node of a pool, should have, in which order, with the reason why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::image::{Digest, ImageRef, Platform};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Whom a plan is for.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One existing node, by name.
    Node(String),
    /// Any coming node of a pool.
    Pool(String),
}

/// Who waits for an image. Declared in the order in which links and disks are given.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Priority {
    /// A pod that exists and waits (pending, nominated, bound).
    Pending,
    /// A pod that will very probably exist.
    Predicted,
    /// Nobody in particular.
    Background,
}

/// Why an entry is in a plan; the strongest of its reasons.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", content = "of")]
pub enum Reason {
    /// A pod bound to this node.
    Bound(Arc<str>),
    /// A pod nominated to this node or request.
    Nominated(Arc<str>),
    /// A pending pod that this node can take.
    PendingPod(Arc<str>),
    /// A DaemonSet that matches the node.
    DaemonSet(Arc<str>),
    /// An announcement (buffer, provisioning request).
    Announced(Arc<str>),
    /// A workload whose scaler wants more replicas.
    ScalerWish(Arc<str>),
    /// A workload that is rolling out a new template.
    Rollout(Arc<str>),
    /// Pods of a node that this one replaces.
    Replacement(Arc<str>),
    /// A CronJob that is due.
    Schedule(Arc<str>),
    /// What new nodes of this pool ran before.
    History(Arc<str>),
}

/// One image that the target should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanEntry {
    /// As pods name it.
    pub image: ImageRef,
    /// The manifest for `platform`: what is fetched, whatever the tag says later.
    pub digest: Digest,
    /// Platform of the target.
    pub platform: Platform,
    /// Class of its turn.
    pub priority: Priority,
    /// Why.
    pub reason: Reason,
    /// Probability that the target needs it within the model's horizon, 0 to 1.
    pub probability: f64,
    /// Bytes that this entry adds to those before it (shared layers are counted once).
    pub bytes: ByteSize,
    /// When a pod is expected to need it, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// After this the entry is void: a plan dies with its controller.
    pub expires: Timestamp,
}

/// A whole plan: entries in the order of transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// For whom.
    pub target: Target,
    /// The leader's epoch (transitions of its Lease): never goes back.
    pub epoch: u64,
    /// When it was made.
    pub made: Timestamp,
    /// First to fetch first.
    pub entries: Vec<PlanEntry>,
    /// Images that were wanted and left out, by reason (`budget`, `unresolved`, `policy`, ...).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u32>,
    /// What earlier plans brought to the node, that nothing uses and hardly anything speaks for any more:
    /// gone before all else when room is needed. What an entry names is pinned while the entry lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub let_go: Vec<LetGo>,
    /// New nodes to be ready for (a pool's plan).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Staging>,
}

/// An image that was brought in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LetGo {
    /// As the earlier plan named it.
    pub image: ImageRef,
    /// The manifest that was fetched.
    pub digest: Digest,
}

/// New nodes of a pool that pending and foreseen pods need, those on their way among them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Staging {
    /// As likely more as fewer.
    pub p50: u32,
    /// Not exceeded in nine cases of ten.
    pub p90: u32,
    /// Fewer cannot hold the pods of `p50`, however they are packed.
    pub least: u32,
}

impl Target {
    /// Name of the node or pool.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Node(name) | Self::Pool(name) => name,
        }
    }
}

impl Plan {
    /// A plan that asks for nothing.
    #[must_use]
    pub fn empty(target: Target, epoch: u64, made: Timestamp) -> Self {
        Self {
            target,
            epoch,
            made,
            entries: Vec::new(),
            left_out: BTreeMap::new(),
            let_go: Vec::new(),
            nodes: None,
        }
    }

    /// Whether the plans ask for the same things in the same order: times of making and expiry and
    /// small moves of the probability do not count, nor what is let go or how many nodes come, so that a
    /// plan is not rewritten for them.
    #[must_use]
    pub fn same_wishes(&self, other: &Self) -> bool {
        self.target == other.target
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(a, b)| {
                a.digest == b.digest && a.image == b.image && a.priority == b.priority
            })
    }

    /// Whether a newer plan would be for many more nodes: four more, and twice as many, at the ninth
    /// decile. That fewer come can wait for the plan's renewal.
    #[must_use]
    pub fn is_outgrown_by(&self, newer: Option<Staging>) -> bool {
        let [told, now] = [self.nodes, newer].map(|nodes| nodes.map_or(0, |nodes| nodes.p90));
        now >= told.saturating_mul(2).max(told.saturating_add(4))
    }
}
