//! The parameters of prediction and planning, each with its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod card;
mod file;
mod space;

pub use card::{Card, Marks, Source};
pub use file::{ModelError, ModelFile, SHIPPED};
pub use space::{Fault, PARAMETERS, Parameter, Scale, Search};

/// The model file format that this program reads.
pub const MODEL_VERSION: u32 = 1;

/// Everything that `models/*.toml` may set; unknown keys are errors.
///
/// `Model::default()` is the shipped file, [`Model::untuned`] what was argued by hand before any
/// tuning: the defaults of the tables below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default = "Model::untuned")]
pub struct Model {
    /// File format; this program reads 1.
    pub version: u32,
    /// Which sources of knowledge are used: baselines are the same engine with fewer of them.
    pub uses: Uses,
    /// Lengths of time.
    pub times: Times,
    /// How sure each source of knowledge is.
    pub chances: Chances,
    /// What is remembered of earlier nodes.
    pub history: HistoryModel,
    /// What a second and a byte are worth.
    pub price: Price,
    /// How much of a node's disk a plan may fill.
    pub disk: Disk,
    /// What guesses may take of what is everybody's.
    pub guesses: Guesses,
    /// How references are asked for.
    pub resolve: ResolveModel,
}

/// Sources of knowledge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uses {
    /// DaemonSets that match the node.
    pub daemonsets: bool,
    /// Pending, gated, nominated and bound pods.
    pub pods: bool,
    /// HPA wishes.
    pub scalers: bool,
    /// Workload template changes.
    pub rollouts: bool,
    /// Announced capacity and calendars.
    pub announcements: bool,
    /// Decayed history of what ran on new nodes of the pool.
    pub history: bool,
}

/// Lengths of time, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// A node counts as new for so long after Ready: the horizon of every probability.
    pub window_s: f64,
    /// A bound pod's images are taken as present after this, should nothing have said so earlier.
    pub settle_s: f64,
    /// A request for a node that has not joined is forgotten after this.
    pub request_s: f64,
    /// A plan is void so long after it was made; it is renewed at half of it.
    pub expiry_s: f64,
    /// Images that nothing names any more are forgotten after this.
    pub forget_s: f64,
    /// How far ahead a scaler's wishes are foreseen.
    pub ahead_s: f64,
}

/// Probabilities by source of knowledge, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chances {
    /// A matching DaemonSet starts a pod on the node.
    pub daemonset: f64,
    /// A nominated pod is bound where it was nominated to.
    pub nominated: f64,
    /// A pod that is nominated to a request comes to the node that it becomes, as long as a cluster
    /// has not shown how often that is so.
    pub promised: f64,
    /// A gated pod becomes schedulable within the window.
    pub gated: f64,
    /// A pod that a scaler's wish, or a workload's replica count, is ahead of comes to exist.
    pub wished: f64,
    /// A pod that a scaler is foreseen to ask for comes to exist, where the forecast is sure.
    pub ahead: f64,
    /// A pod of the new template comes to exist within the window, for each that is missing.
    pub rollout: f64,
    /// Announced capacity is filled within the window.
    pub announced: f64,
    /// A pod that a calendar starts comes to exist.
    pub scheduled: f64,
    /// Spare capacity (a `CapacityBuffer`) is filled by the very pod that it is measured by.
    pub spare: f64,
    /// A pod of a node that is being replaced moves to the replacement.
    pub replacement: f64,
    /// A pod of a node that is drained without a named replacement is pending again soon.
    pub drained: f64,
    /// That the order in which coming nodes take pods is not the expected one.
    pub race: f64,
    /// That a pod which no existing node could take is bound to one when pods leave it.
    pub vacancy: f64,
    /// From which probability an image is for *any* coming node (the pool's plan).
    pub sure: f64,
}

/// Memory of earlier nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryModel {
    /// Nodes remembered per pool.
    pub nodes: usize,
    /// Weight of a node relative to the one that joined after it.
    pub decay: f64,
    /// Laplace smoothing: imagined nodes that used the image.
    pub prior_used: f64,
    /// Laplace smoothing: imagined nodes that did not.
    pub prior_unused: f64,
    /// Weight of a node that was older than the window when it was first seen: what it runs says
    /// less about a node's first minutes.
    pub resident: f64,
    /// Part of the probability of what only waiting pods brought to earlier nodes, that counts where
    /// nobody waits.
    pub unasked: f64,
    /// Durations remembered per pool for the arrival quantiles.
    pub arrivals: usize,
    /// How far probabilities are corrected by what became of earlier ones of their kind: 0 not at
    /// all, 1 as far as was seen.
    pub calibration: f64,
}

/// Prices, for the newsvendor rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// A pod's saved second is worth so many bytes moved in vain.
    pub second_bytes: f64,
    /// Bytes per second at which a pod would wait for its image: real kubelet pulls move 28 MB/s
    /// (median).
    pub rate: f64,
    /// Seconds that a pull takes beside its bytes.
    pub overhead_s: f64,
    /// Pods beyond this many do not make a second more worth.
    pub pods_max: f64,
    /// How many times dearer a byte is on a node that is not new: it serves pods already.
    pub resident: f64,
    /// An entry stays in a plan until its probability falls below the threshold times this.
    pub keep: f64,
}

/// The disk budget of one plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// Part of a node's ephemeral capacity that planned images may fill.
    pub fraction: f64,
    /// Bytes on disk per compressed byte: the kept blob and its unpacked files.
    pub expansion: f64,
    /// Compressed bytes, where the node's capacity is not known.
    pub unknown_bytes: u64,
}

/// Budgets of guesses, beside the disk; pods that wait are never held back by them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guesses {
    /// Bytes per second that a node's link brings: what it cannot bring while the node is new is no
    /// guess.
    pub link_rate: f64,
    /// Bytes that are on their way into one zone at once.
    pub zone_bytes: u64,
    /// Requests for manifests and layers per minute and registry.
    pub requests: u64,
}

/// Asking what references mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolveModel {
    /// References asked for in one step.
    pub batch: usize,
    /// First pause before an unanswered reference is asked for again; doubles.
    pub retry_s: f64,
    /// Longest pause.
    pub retry_max_s: f64,
    /// A tag that is still wanted is asked again after this; a digest never.
    pub refresh_s: f64,
}

// === impl Model ===

impl Model {
    /// The parameters as argued by hand: the start of every tuning, and what it has to beat.
    #[must_use]
    pub fn untuned() -> Self {
        Self {
            version: MODEL_VERSION,
            uses: Uses::default(),
            times: Times::default(),
            chances: Chances::default(),
            history: HistoryModel::default(),
            price: Price::default(),
            disk: Disk::default(),
            guesses: Guesses::default(),
            resolve: ResolveModel::default(),
        }
    }
}

impl Default for Uses {
    fn default() -> Self {
        Self {
            daemonsets: true,
            pods: true,
            scalers: true,
            rollouts: true,
            announcements: true,
            history: true,
        }
    }
}

impl Uses {
    /// Nothing at all: the start of every baseline.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            daemonsets: false,
            pods: false,
            scalers: false,
            rollouts: false,
            announcements: false,
            history: false,
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            window_s: 600.0,
            settle_s: 180.0,
            request_s: 900.0,
            expiry_s: 600.0,
            forget_s: 3600.0,
            ahead_s: 120.0,
        }
    }
}

impl Times {
    /// How long a plan holds.
    #[must_use]
    pub fn expiry(&self) -> Duration {
        Duration::from_secs_f64(self.expiry_s.clamp(1.0, 86_400.0))
    }
}

impl Default for Chances {
    fn default() -> Self {
        Self {
            daemonset: 0.98,
            nominated: 0.95,
            promised: 0.6,
            gated: 0.3,
            wished: 0.7,
            ahead: 0.8,
            rollout: 0.7,
            announced: 0.9,
            scheduled: 0.95,
            spare: 0.25,
            replacement: 0.9,
            drained: 0.9,
            race: 0.5,
            vacancy: 0.5,
            sure: 0.9,
        }
    }
}

impl Default for HistoryModel {
    fn default() -> Self {
        Self {
            nodes: 24,
            decay: 0.9,
            prior_used: 0.3,
            prior_unused: 0.7,
            resident: 0.5,
            unasked: 0.0,
            arrivals: 32,
            calibration: 0.0,
        }
    }
}

impl Default for Price {
    fn default() -> Self {
        Self {
            second_bytes: 40e6,
            rate: 28e6,
            overhead_s: 0.4,
            pods_max: 4.0,
            resident: 3.0,
            keep: 0.7,
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            fraction: 0.4,
            expansion: 3.5,
            unknown_bytes: 8_000_000_000,
        }
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            link_rate: 125e6,
            zone_bytes: 2_000_000_000_000,
            requests: 60_000,
        }
    }
}

impl Default for ResolveModel {
    fn default() -> Self {
        Self {
            batch: 64,
            retry_s: 30.0,
            retry_max_s: 3600.0,
            refresh_s: 3600.0,
        }
    }
}
