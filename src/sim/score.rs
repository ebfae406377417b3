//! A run's numbers, as defined in design section 7.

mod calibration;
mod harm;
mod moment;
mod recall;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::domain::outcome::PodOutcome;
use crate::sim::bootstrap::Interval;
use crate::sim::facts::{Facts, LayerId, NodeId, PodId};
use crate::sim::world::{First, Mover, Notes};

pub use calibration::{Bin, Calibration, Forecasts};
pub use harm::{Harm, HarmScore};
pub use moment::{Moment, Waiting};
pub use recall::Recall;

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
    /// Of these, by the agent.
    pub agent_bytes: f64,
    /// Bytes that the agent delivered and no pod used.
    pub wasted_bytes: f64,
    /// Of these, on nodes whose hour was not over when the recording ended.
    pub unused_at_end_bytes: f64,
    /// Bytes of layers that pods bound to the nodes needed and the nodes did not have.
    pub needed_bytes: f64,
    /// Bytes from the origin: into the cache, or straight to nodes where there is none.
    pub origin_bytes: f64,
    /// Bytes out of the cache.
    pub cache_bytes: f64,
    /// Of these, bytes of layers that no pod used on any node in time.
    pub cache_wasted_bytes: f64,
    /// What was there in time.
    pub recall: Recall,
    /// What plans said, and what came of it.
    pub forecasts: Forecasts,
    /// What became of pods that nothing was sent for; the policies' comparer fills it in.
    pub harm: Harm,
    /// Seconds from bound and Ready to the application's start, where the recording tells how long
    /// that took after the last image.
    pub pod_ready_s: Vec<f64>,
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
    /// Bytes that the cache fetched of layers that no node used / bytes needed; null as above.
    pub waste_cache: Option<f64>,
    /// Part of the bytes needed in nodes' first ten minutes that was there when needed.
    pub recall_node: Option<f64>,
    /// Part of them that was whole at the cache when the node was Ready; null without a cache.
    pub recall_cache: Option<f64>,
    /// Part of the bytes that agents brought that was used; null where they brought nothing.
    pub precision: Option<f64>,
    /// Part of the bytes needed in the first ten minutes that a plan named sooner before the need than
    /// they take to transfer and unpack.
    pub useful_lead: Option<f64>,
    /// How true the plans' probabilities were; null where no plan says any.
    pub calibration: Option<Calibration>,
    /// What pods paid that nothing was sent for.
    pub harm: HarmScore,
    /// From bound and Ready to the application's start; null where the recording does not tell how long
    /// applications take to start.
    pub pod_ready_s: Option<Waits>,
    /// 95 % bootstrap interval; in pooled rows of three scenarios or more.
    pub interval: Option<Interval>,
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
    /// Of those, bytes on nodes whose hour was not over when the recording ended: counted as wasted,
    /// though somebody may still have come.
    pub unused_at_end_bytes: u64,
    /// Bytes of layers that pods needed and nodes did not have.
    pub needed_bytes: u64,
    /// Bytes from the origin: into the cache, or straight to nodes where there is none.
    pub origin_bytes: u64,
    /// Bytes out of the cache.
    pub cache_bytes: u64,
    /// How early plans were right.
    pub lead_s: Leads,
}

// === impl Waits ===

impl Waits {
    fn of(seconds: &[f64]) -> Self {
        Self {
            p50: quantile(seconds, 0.5).map_or(0.0, rounded),
            p95: quantile(seconds, 0.95).map_or(0.0, rounded),
            p99: quantile(seconds, 0.99).map_or(0.0, rounded),
            sum: rounded(seconds.iter().sum()),
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts one run.
    #[must_use]
    pub fn of(facts: &Facts, notes: &Notes) -> Self {
        let outcomes = outcomes(facts, notes);
        let wasted = wasted(facts, notes);
        let lead = |first: &First| {
            let ready = facts.nodes[first.node].ready?;
            Some(ready.secs_since(first.since?))
        };
        let agent = notes.spans.iter().filter(|span| span.mover == Mover::Agent);
        Self {
            waits_s: outcomes.iter().map(PodOutcome::wait_s).collect(),
            warm_pods: outcomes.iter().filter(|outcome| outcome.warm).count(),
            node_bytes: notes.spans.iter().map(|span| span.bytes).sum(),
            agent_bytes: agent.map(|span| span.bytes).sum(),
            wasted_bytes: wasted.all,
            unused_at_end_bytes: wasted.at_end,
            needed_bytes: needed_bytes(facts),
            origin_bytes: notes.origin_bytes,
            cache_bytes: notes.cache_bytes,
            cache_wasted_bytes: cache_wasted_bytes(facts, notes),
            recall: Recall::of(facts, notes),
            forecasts: Forecasts::of(facts, notes),
            harm: Harm::default(),
            pod_ready_s: pod_ready_s(facts, notes),
            leads_s: notes.firsts.iter().filter_map(lead).collect(),
            uses: notes.firsts.len(),
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
        self.agent_bytes += other.agent_bytes;
        self.wasted_bytes += other.wasted_bytes;
        self.unused_at_end_bytes += other.unused_at_end_bytes;
        self.cache_wasted_bytes += other.cache_wasted_bytes;
        self.recall = self.recall.plus(other.recall);
        self.forecasts.add(&other.forecasts);
        self.harm = self.harm.plus(other.harm);
        self.pod_ready_s.extend(&other.pod_ready_s);
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
        let part = |part: f64, whole: f64| (whole > 0.0).then(|| rounded(part / whole));
        let (recall, cached) = (self.recall, self.cache_bytes > 0.0);
        Score {
            gain,
            waste_node: part(self.wasted_bytes, self.needed_bytes),
            waste_cache: part(self.cache_wasted_bytes, self.needed_bytes),
            recall_node: part(recall.at_node, recall.needed),
            recall_cache: part(recall.at_cache, recall.needed).filter(|_| cached),
            precision: part(self.agent_bytes - self.wasted_bytes, self.agent_bytes),
            useful_lead: part(recall.in_time, recall.needed),
            calibration: self.forecasts.calibration(),
            harm: self.harm.score(),
            pod_ready_s: (!self.pod_ready_s.is_empty()).then(|| Waits::of(&self.pod_ready_s)),
            interval: None,
            wait_s: Waits::of(&self.waits_s),
            pods: self.waits_s.len(),
            warm_pods: self.warm_pods,
            node_bytes: self.node_bytes.round() as u64,
            wasted_bytes: self.wasted_bytes.round() as u64,
            unused_at_end_bytes: self.unused_at_end_bytes.round() as u64,
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
pub fn rounded(value: f64) -> f64 {
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

struct Wasted {
    all: f64,
    at_end: f64,
}

/// Bytes that agents brought in vain.
fn wasted(facts: &Facts, notes: &Notes) -> Wasted {
    let mut used: BTreeMap<NodeId, BTreeSet<LayerId>> = BTreeMap::new();
    let mut wasted = Wasted {
        all: 0.0,
        at_end: 0.0,
    };
    for span in notes.spans.iter().filter(|span| span.mover == Mover::Agent) {
        let layers = used.entry(span.node);
        let layers = layers.or_insert_with(|| used_layers(facts, span.node));
        if !layers.contains(&span.layer) {
            let fact = &facts.nodes[span.node];
            let lives = fact.removed.is_none_or(|removed| removed > facts.end);
            let hour = fact.joined.max(facts.start) + USE_WITHIN;
            wasted.all += span.bytes;
            if lives && hour > facts.end {
                wasted.at_end += span.bytes;
            }
        }
    }
    wasted
}

/// Bytes of layers that came to the cache, and that no pod bound during the recording uses.
fn cache_wasted_bytes(facts: &Facts, notes: &Notes) -> f64 {
    let bound = (0..facts.pods.len()).filter(|pod| !facts.pods[*pod].resident);
    let used: BTreeSet<LayerId> = bound.flat_map(|pod| facts.layers_of(pod)).collect();
    let fetched = notes.cached.keys();
    let in_vain = fetched.filter(|layer| !used.contains(*layer));
    in_vain.map(|layer| facts.bytes(*layer)).sum()
}

fn pod_ready_s(facts: &Facts, notes: &Notes) -> Vec<f64> {
    let scored = (0..facts.pods.len()).filter(|pod| facts.is_scored(*pod));
    let ready = scored.filter_map(|pod| {
        let wait = notes.pods[pod]?.ready.secs_since(facts.waits_from(pod));
        Some(wait.max(0.0) + facts.pods[pod].app_start_s?)
    });
    ready.collect()
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
