//! Where the seconds are that are left, and who else could save them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sim::policy::{Policy, Replay};
use crate::sim::score::{Moment, Waiting, rounded};

/// Policies that are compared: what is known grows from one to the next.
pub const COMPARED: [Policy; 5] = [
    Policy::Reactive,
    Policy::PendingOnly,
    Policy::Forelay,
    Policy::OracleImages,
    Policy::Oracle,
];

/// What pending-only leaves to the oracle, and where the rest is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remaining {
    /// Part of the seconds between pending-only and the oracle that each policy saves; null where
    /// there are none.
    pub closed: BTreeMap<&'static str, Option<f64>>,
    /// By how early a pod could be known of.
    pub moments: Vec<Row>,
}

/// Pods of one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which pods.
    pub moment: Moment,
    /// How many.
    pub pods: usize,
    /// Their summed image waits by policy, seconds.
    pub wait_s: BTreeMap<&'static str, f64>,
}

// === impl Remaining ===

impl Remaining {
    /// Of all replays together; `None` where one of the compared policies was not played.
    #[must_use]
    pub fn of(replays: &[Replay]) -> Option<Self> {
        let mut sums: BTreeMap<Moment, BTreeMap<Policy, Waiting>> = BTreeMap::new();
        let mut total: BTreeMap<Policy, f64> = BTreeMap::new();
        for replay in replays {
            for policy in COMPARED {
                let run = replay.runs.get(&policy)?;
                for (moment, waiting) in Waiting::of(&replay.facts, &run.notes) {
                    let row = sums.entry(moment).or_default();
                    row.entry(policy).or_default().add(&waiting);
                    *total.entry(policy).or_default() += waiting.wait_s;
                }
            }
        }
        let wait_s = |policy| total.get(&policy).copied().unwrap_or(0.0);
        let (pending, oracle) = (wait_s(Policy::PendingOnly), wait_s(Policy::Oracle));
        let closed = |policy: Policy| {
            let part = (pending - wait_s(policy)) / (pending - oracle);
            (policy.name(), (pending > oracle).then(|| rounded(part)))
        };
        Some(Self {
            closed: [Policy::Forelay, Policy::OracleImages].map(closed).into(),
            moments: sums.into_iter().map(row).collect(),
        })
    }
}

fn row((moment, policies): (Moment, BTreeMap<Policy, Waiting>)) -> Row {
    let named = policies.iter();
    Row {
        moment,
        pods: policies.values().map(|w| w.pods).max().unwrap_or(0),
        wait_s: named.map(|(p, w)| (p.name(), rounded(w.wait_s))).collect(),
    }
}
