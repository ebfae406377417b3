//! Which pods the waiting is left with, by how early anybody could know of them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sim::facts::{Facts, PodId};
use crate::sim::world::{Notes, window_end};

/// Bound to a serving node within this after its Ready, seconds: what was on its way when it came.
const SOON_S: f64 = 60.0;

/// When a pod could be known of, seen from the node that it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// A DaemonSet's: known before any node.
    Daemonset,
    /// Its object was there when the node joined.
    BeforeJoin,
    /// Its object came between the node's joining and its Ready.
    BeforeReady,
    /// It came within the first minute after Ready.
    FirstMinute,
    /// It came later, within the ten minutes in which a node counts as new.
    FirstTenMinutes,
    /// It came after that.
    Later,
}

/// Pods of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Pods.
    pub pods: usize,
    /// Their summed image waits, seconds.
    pub wait_s: f64,
}

// === impl Moment ===

impl Moment {
    /// Of one pod.
    #[must_use]
    pub fn of(facts: &Facts, pod: PodId) -> Self {
        let fact = &facts.pods[pod];
        let node = &facts.nodes[fact.node];
        let ready = node.ready.unwrap_or(fact.bound);
        if fact.of_daemonset {
            Self::Daemonset
        } else if fact.made <= node.joined {
            Self::BeforeJoin
        } else if fact.made <= ready {
            Self::BeforeReady
        } else if fact.bound.secs_since(ready) <= SOON_S {
            Self::FirstMinute
        } else if window_end(facts, fact.node).is_some_and(|end| fact.bound <= end) {
            Self::FirstTenMinutes
        } else {
            Self::Later
        }
    }

    /// As a heading.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Daemonset => "pods of DaemonSets",
            Self::BeforeJoin => "there before the node joined",
            Self::BeforeReady => "made between joining and Ready",
            Self::FirstMinute => "bound in the first minute after Ready",
            Self::FirstTenMinutes => "bound in the first ten minutes",
            Self::Later => "bound later",
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// Of the scored pods of one run.
    #[must_use]
    pub fn of(facts: &Facts, notes: &Notes) -> BTreeMap<Moment, Self> {
        let mut moments: BTreeMap<Moment, Self> = BTreeMap::new();
        for pod in (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod)) {
            if let Some(note) = notes.pods[pod] {
                let wait = note.ready.secs_since(facts.waits_from(pod)).max(0.0);
                let row = moments.entry(Moment::of(facts, pod)).or_default();
                row.pods += 1;
                row.wait_s += wait;
            }
        }
        moments
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.pods += other.pods;
        self.wait_s += other.wait_s;
    }
}
