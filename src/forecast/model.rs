//! The parameters of prediction and planning, each with its default.

use serde::{Deserialize, Serialize};

/// Everything that `models/*.toml` may set; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// File format; this program reads 1.
    pub version: u32,
    /// Which sources of knowledge are used: baselines are the same engine with fewer of them.
    pub uses: Uses,
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

impl Default for Model {
    fn default() -> Self {
        Self {
            version: 1,
            uses: Uses::default(),
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
