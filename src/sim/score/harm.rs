//! Whether pods that nothing was sent for wait longer than they would without us.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::sim::facts::{Facts, LayerId, NodeId, PodId};
use crate::sim::score::rounded;
use crate::sim::world::{Mover, Notes};

/// Waits below this in all are no basis for a slowdown.
const LEAST_WAIT_S: f64 = 1.0;

/// Image waits of pods for which the agent brought no byte, on all nodes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Harm {
    /// How many.
    pub pods: usize,
    /// Under the policy.
    pub wait_s: f64,
    /// Of the same pods under a kubelet alone.
    pub reactive_s: f64,
    /// The same, with a cache that fetches nothing ahead.
    pub cache_s: f64,
}

/// As a report says it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HarmScore {
    /// Pods for which the agent brought no byte.
    pub pods: usize,
    /// Their image wait.
    pub wait_s: f64,
    /// Under reactive.
    pub reactive_s: f64,
    /// Under reactive-cache.
    pub reactive_cache_s: f64,
    /// wait / reactive - 1; null where reactive waits less than a second.
    pub slowdown: Option<f64>,
    /// wait / reactive-cache - 1: what sending ahead costs them, the cache's own help left out.
    pub slowdown_cache: Option<f64>,
}

// === impl Harm ===

impl Harm {
    /// Compares a run with those of reactive and reactive-cache.
    #[must_use]
    pub fn of(facts: &Facts, run: &Notes, reactive: &Notes, cache: &Notes) -> Self {
        let by_agent = run.spans.iter().filter(|span| span.mover == Mover::Agent);
        let brought: BTreeSet<(NodeId, LayerId)> =
            by_agent.map(|span| (span.node, span.layer)).collect();
        let mut harm = Self::default();
        for pod in 0..facts.pods.len() {
            let fact = &facts.pods[pod];
            let helped = || {
                let mut layers = facts.layers_of(pod);
                layers.any(|layer| brought.contains(&(fact.node, layer)))
            };
            let waits = [run, reactive, cache].map(|notes| wait_s(facts, notes, pod));
            if let [Some(own), Some(reactive), Some(cache)] = waits
                && fact.started
                && !helped()
            {
                harm.pods += 1;
                harm.wait_s += own;
                harm.reactive_s += reactive;
                harm.cache_s += cache;
            }
        }
        harm
    }

    /// Sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            pods: self.pods + other.pods,
            wait_s: self.wait_s + other.wait_s,
            reactive_s: self.reactive_s + other.reactive_s,
            cache_s: self.cache_s + other.cache_s,
        }
    }

    /// As a report says it.
    #[must_use]
    pub fn score(&self) -> HarmScore {
        let against =
            |other: f64| (other >= LEAST_WAIT_S).then(|| rounded(self.wait_s / other - 1.0));
        HarmScore {
            pods: self.pods,
            wait_s: rounded(self.wait_s),
            reactive_s: rounded(self.reactive_s),
            reactive_cache_s: rounded(self.cache_s),
            slowdown: against(self.reactive_s),
            slowdown_cache: against(self.cache_s),
        }
    }
}

fn wait_s(facts: &Facts, notes: &Notes, pod: PodId) -> Option<f64> {
    let ready = notes.pods[pod]?.ready;
    Some(ready.secs_since(facts.waits_from(pod)).max(0.0))
}
