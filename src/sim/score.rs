//! A run's numbers, as defined in design section 7.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::domain::outcome::PodOutcome;
use crate::sim::facts::{Facts, LayerId, NodeId, PodId};
use crate::sim::world::{Mover, Notes};

/// A layer counts as used when a pod with it is bound within this time of the node's joining.
const USE_WITHIN: Duration = Duration::from_hours(1);

/// Reactive waits below this in all are no basis for a gain.
pub const LEAST_WAIT_S: f64 = 1.0;

/// What is added up over nodes, pods and scenarios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Image wait of each scored pod, in seconds.
    pub waits_s: Vec<f64>,
    /// Scored pods for which nothing was pulled.
    pub warm_pods: usize,
    /// Bytes delivered to nodes.
    pub node_bytes: f64,
    /// Bytes that the agent delivered and no pod used.
    pub wasted_bytes: f64,
    /// Bytes of layers that pods bound to the nodes needed and the nodes did not have.
    pub needed_bytes: f64,
    /// Bytes from the origin: into the cache, or straight to nodes where there is none.
    pub origin_bytes: f64,
    /// Bytes out of the cache.
    pub cache_bytes: f64,
    /// Leads of planned images that were used, in seconds before the node's Ready.
    pub leads_s: Vec<f64>,
    /// Images on new nodes that pods used.
    pub uses: usize,
}

/// Quantiles and sum of image waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    /// Median, seconds.
    pub p50: f64,
    /// Seconds.
    pub p95: f64,
    /// Seconds.
    pub p99: f64,
    /// Seconds.
    pub sum: f64,
}

/// How far ahead of Ready plans named what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Leads {
    /// Seconds; negative after Ready. Null where no plan named anything in time.
    pub p10: Option<f64>,
    /// Seconds.
    pub p50: Option<f64>,
    /// Share of the used images that a plan had named before they were used.
    pub planned: f64,
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// (reactive - this) / (reactive - oracle) of the summed waits; null where reactive waits less
    /// than a second in all, or the oracle saves nothing.
    pub gain: Option<f64>,
    /// Bytes delivered and never used / bytes needed; null where nothing was needed.
    pub waste_node: Option<f64>,
    /// Image wait of pods on new nodes.
    pub wait_s: Waits,
    /// Pods on new nodes that started in the recording.
    pub pods: usize,
    /// Of these, pods for which nothing was pulled.
    pub warm_pods: usize,
    /// Bytes delivered to nodes.
    pub node_bytes: u64,
    /// Of these, bytes that no pod used.
    pub wasted_bytes: u64,
    /// Bytes of layers that pods needed and nodes did not have.
    pub needed_bytes: u64,
    /// Bytes from the origin: into the cache, or straight to nodes where there is none.
    pub origin_bytes: u64,
    /// Bytes out of the cache.
    pub cache_bytes: u64,
    /// How early plans were right.
    pub lead_s: Leads,
}

// === impl Tally ===

impl Tally {
    /// Counts one run.
    #[must_use]
    pub fn of(facts: &Facts, notes: &Notes) -> Self {
        let outcomes = outcomes(facts, notes);
        Self {
            waits_s: outcomes.iter().map(PodOutcome::wait_s).collect(),
            warm_pods: outcomes.iter().filter(|outcome| outcome.warm).count(),
            node_bytes: notes.spans.iter().map(|span| span.bytes).sum(),
            wasted_bytes: wasted_bytes(facts, notes),
            needed_bytes: needed_bytes(facts),
            origin_bytes: notes.origin_bytes,
            cache_bytes: notes.cache_bytes,
            leads_s: notes.leads.clone(),
            uses: notes.uses,
        }
    }

    /// Sum of the waits in seconds.
    #[must_use]
    pub fn wait_s(&self) -> f64 {
        self.waits_s.iter().sum()
    }

    /// Adds another scenario's tally.
    pub fn add(&mut self, other: &Self) {
        self.waits_s.extend(&other.waits_s);
        self.warm_pods += other.warm_pods;
        self.node_bytes += other.node_bytes;
        self.wasted_bytes += other.wasted_bytes;
        self.needed_bytes += other.needed_bytes;
        self.origin_bytes += other.origin_bytes;
        self.cache_bytes += other.cache_bytes;
        self.leads_s.extend(&other.leads_s);
        self.uses += other.uses;
    }

    /// The row of a report, given the summed waits of reactive and of the oracle.
    #[must_use]
    pub fn score(&self, reactive_s: f64, oracle_s: f64) -> Score {
        let possible = reactive_s - oracle_s;
        let gain = (reactive_s >= LEAST_WAIT_S && possible > 0.0)
            .then(|| rounded((reactive_s - self.wait_s()) / possible));
        let waste = self.wasted_bytes / self.needed_bytes;
        Score {
            gain,
            waste_node: (self.needed_bytes > 0.0).then(|| rounded(waste)),
            wait_s: Waits {
                p50: quantile(&self.waits_s, 0.5).map_or(0.0, rounded),
                p95: quantile(&self.waits_s, 0.95).map_or(0.0, rounded),
                p99: quantile(&self.waits_s, 0.99).map_or(0.0, rounded),
                sum: rounded(self.wait_s()),
            },
            pods: self.waits_s.len(),
            warm_pods: self.warm_pods,
            node_bytes: self.node_bytes.round() as u64,
            wasted_bytes: self.wasted_bytes.round() as u64,
            needed_bytes: self.needed_bytes.round() as u64,
            origin_bytes: self.origin_bytes.round() as u64,
            cache_bytes: self.cache_bytes.round() as u64,
            lead_s: Leads {
                p10: quantile(&self.leads_s, 0.1).map(rounded),
                p50: quantile(&self.leads_s, 0.5).map(rounded),
                planned: rounded(self.leads_s.len() as f64 / self.uses.max(1) as f64),
            },
        }
    }
}

/// What became of every scored pod.
#[must_use]
pub fn outcomes(facts: &Facts, notes: &Notes) -> Vec<PodOutcome> {
    let scored = (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod));
    let outcome = |pod: usize| {
        let fact = &facts.pods[pod];
        let node = &facts.nodes[fact.node];
        let note = notes.pods[pod]?;
        Some(PodOutcome {
            pod: fact.name.clone(),
            node: node.name.clone(),
            bound: fact.bound,
            node_ready: node.ready.unwrap_or(fact.bound),
            images_ready: note.ready,
            warm: note.warm,
        })
    };
    scored.filter_map(outcome).collect()
}

/// The value below which a share `q` of the values lies (nearest rank); `None` of nothing.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Six digits after the point: a microsecond, the clock's own step.
fn rounded(value: f64) -> f64 {
    // Adding zero turns -0, the sum of nothing, into 0.
    (value * 1e6).round() / 1e6 + 0.0
}

/// Pods that are bound to a node in time for what they use to count as used.
pub fn used_pods(facts: &Facts, node: NodeId) -> impl Iterator<Item = PodId> + '_ {
    let fact = &facts.nodes[node];
    let gone = fact.removed.unwrap_or(facts.end);
    let until = gone.min(fact.joined.max(facts.start) + USE_WITHIN);
    let pods = fact.pods.iter().copied();
    pods.filter(move |pod| facts.pods[*pod].bound <= until)
}

/// Layers that pods use on a node in time for their bytes to count as used.
pub fn used_layers(facts: &Facts, node: NodeId) -> BTreeSet<LayerId> {
    used_pods(facts, node)
        .flat_map(|pod| facts.layers_of(pod))
        .collect()
}

fn wasted_bytes(facts: &Facts, notes: &Notes) -> f64 {
    let mut used: BTreeMap<NodeId, BTreeSet<LayerId>> = BTreeMap::new();
    let by_agent = notes.spans.iter().filter(|span| span.mover == Mover::Agent);
    by_agent
        .filter(|span| {
            let layers = used.entry(span.node);
            let layers = layers.or_insert_with(|| used_layers(facts, span.node));
            !layers.contains(&span.layer)
        })
        .map(|span| span.bytes)
        .sum()
}

fn needed_bytes(facts: &Facts) -> f64 {
    let needed = |node: &crate::sim::facts::NodeFact| -> f64 {
        let pods = node.pods.iter().filter(|pod| !facts.pods[**pod].resident);
        let layers: BTreeSet<LayerId> = pods.flat_map(|pod| facts.layers_of(*pod)).collect();
        let missing = layers.difference(&node.holds);
        missing.map(|layer| facts.bytes(*layer)).sum()
    };
    facts.nodes.iter().map(needed).sum()
}
