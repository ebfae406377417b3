//! Why a node or a pool was sent what it was sent, and what came of it, out of a replay.

mod node;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::image::ImageRef;
use crate::domain::plan::{Priority, Reason, Target};
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::engine::cluster::Cluster;
use crate::forecast::model::Model;
use crate::plan::explain::{Explanation, Fate, Fill, Verdict};
use crate::sim::facts::{Facts, FactsError, NodeId, PodId};
use crate::sim::score::used_layers;
use crate::sim::world::{Mover, Notes, Planner, Stage, Watch, World};

pub use node::{Left, NodeStory, PodStory, Sent};
pub use pool::{Expected, Named, NodeLine, PoolStory};

/// Names that are offered where one does not exist.
const NEAR: usize = 5;

/// A scenario, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Of the scenario.
    pub header: &'a Header,
    /// Of the scenario.
    pub signals: &'a [Signal],
    /// Parameters to predict with.
    pub model: &'a Model,
    /// Also how things stood at this instant.
    pub at: Option<Timestamp>,
}

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The scenario cannot be replayed.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// No such name in it.
    #[error("scenario {scenario} has no {kind} `{name}`: {}", offer(.near))]
    Unknown {
        /// scenario
        scenario: String,
        /// `node` or `pool`
        kind: &'static str,
        /// as asked
        name: String,
        /// names that are there, the nearest first
        near: Vec<String>,
    },
    /// An instant outside of the recording.
    #[error("{at} is not in scenario {scenario}, which goes from {start} to {end}")]
    Outside {
        /// as asked
        at: Timestamp,
        /// scenario
        scenario: String,
        /// first instant
        start: Timestamp,
        /// last instant
        end: Timestamp,
    },
}

/// Why an image was wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// When this was thought.
    pub at: Timestamp,
    /// Probability that it is needed within the window.
    pub chance: f64,
    /// Probability from which it is sent: the price of its bytes against the seconds it saves.
    pub threshold: Option<f64>,
    /// Class of its turn.
    pub priority: Priority,
    /// Expected number of pods that wait for it.
    pub pods: f64,
    /// All that speaks for it, strongest first, with probabilities.
    pub reasons: Vec<(Reason, f64)>,
}

/// A budget that did not hold everything, at the look at which it held least.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Short {
    /// When.
    pub at: Timestamp,
    /// What was made of it.
    #[serde(flatten)]
    pub fill: Fill,
}

/// Everything that both kinds of answers are made of.
struct Played {
    facts: Facts,
    reactive: Notes,
    forelay: Notes,
}

/// What one node got and what that was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Bytes that the agent brought ahead of pods.
    pub sent_bytes: u64,
    /// Of these, bytes that no pod used.
    pub wasted_bytes: u64,
    /// Bytes that the kubelet still pulled.
    pub pulled_bytes: u64,
    /// Summed image waits of its pods without Forelay, seconds.
    pub reactive_wait_s: f64,
    /// With Forelay.
    pub wait_s: f64,
    /// The difference.
    pub saved_s: f64,
}

// === impl Question ===

impl Question<'_> {
    /// Explains a node.
    pub fn node(&self, name: &str) -> Result<NodeStory, ExplainError> {
        let facts = self.facts()?;
        let Some(node) = self.incarnation(&facts, name) else {
            let names = facts.nodes.iter().map(|node| node.name.as_str());
            return Err(self.unknown("node", name, names));
        };
        let pool = Target::Pool(facts.nodes[node].pool.clone());
        let played = self.play(facts, [Target::Node(name.to_owned()), pool]);
        Ok(NodeStory::new(self, &played, node))
    }

    /// Explains a pool.
    pub fn pool(&self, name: &str) -> Result<PoolStory, ExplainError> {
        let facts = self.facts()?;
        if !facts.nodes.iter().any(|node| node.pool == name) {
            let names = facts.nodes.iter().map(|node| node.pool.as_str());
            return Err(self.unknown("pool", name, names));
        }
        let played = self.play(facts, [Target::Pool(name.to_owned())]);
        Ok(PoolStory::new(self, &played, name))
    }

    fn facts(&self) -> Result<Facts, ExplainError> {
        let (start, end) = (self.header.start, self.header.end);
        if let Some(at) = self.at.filter(|at| !(start..=end).contains(at)) {
            let scenario = self.header.name.clone();
            return Err(ExplainError::Outside {
                at,
                scenario,
                start,
                end,
            });
        }
        Ok(Facts::gather(self.header, self.signals)?)
    }

    /// A name may come back: the node of it at the asked instant, or the last.
    fn incarnation(&self, facts: &Facts, name: &str) -> Option<NodeId> {
        let nodes = facts.by_name.get(name)?;
        let here = |node: &&NodeId| self.at.is_none_or(|at| facts.nodes[**node].joined <= at);
        let last = nodes.iter().rev().find(here).or(nodes.first());
        last.copied()
    }

    fn unknown<'n>(
        &self,
        kind: &'static str,
        name: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> ExplainError {
        let mut near: Vec<&str> = names.collect();
        near.sort_unstable();
        near.dedup();
        let likeness = |other: &str| strsim::jaro_winkler(name, other);
        near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        near.truncate(NEAR);
        ExplainError::Unknown {
            scenario: self.header.name.clone(),
            kind,
            name: name.chars().take(100).collect(),
            near: near.into_iter().map(str::to_owned).collect(),
        }
    }

    fn play(&self, facts: Facts, targets: impl IntoIterator<Item = Target>) -> Played {
        let (header, signals) = (self.header, self.signals);
        let reactive = World::new(Stage::new(header, &facts, &[]), Planner::Nobody).run();
        let engine = Planner::Engine(Box::new(Cluster::new(self.model.clone())));
        let world = World::new(Stage::new(header, &facts, signals), engine);
        let ours = world.watched(Watch::new(targets, self.at)).run();
        Played {
            facts,
            reactive,
            forelay: ours,
        }
    }
}

// === impl Why ===

impl Why {
    fn of(verdict: &Verdict, at: Timestamp) -> Self {
        Self {
            at,
            chance: verdict.chance,
            threshold: verdict.threshold,
            priority: verdict.priority,
            pods: verdict.pods,
            reasons: verdict.reasons.clone(),
        }
    }
}

// === impl Played ===

impl Played {
    /// Looks at one target that came with a plan, in order.
    fn sights<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a Explanation> {
        let sights = self.forelay.sights.iter();
        sights
            .filter(|sight| sight.published)
            .map(|sight| &sight.explanation)
            .filter(move |explanation| explanation.target == *target)
    }

    /// The look that was asked for.
    fn asked(&self, target: &Target) -> Option<Explanation> {
        let sights = self.forelay.sights.iter();
        let asked = sights.filter(|sight| !sight.published);
        let mut asked = asked.map(|sight| &sight.explanation);
        asked.find(|seen| seen.target == *target).cloned()
    }

    /// How long a pod waited; none where it was not played.
    fn wait_s(&self, notes: &Notes, pod: PodId) -> Option<f64> {
        let ready = notes.pods[pod]?.ready;
        Some(ready.secs_since(self.facts.waits_from(pod)).max(0.0))
    }

    fn totals(&self, node: NodeId) -> Totals {
        let used = used_layers(&self.facts, node);
        let (mut sent, mut wasted, mut pulled) = (0.0, 0.0, 0.0);
        for span in self.forelay.spans.iter().filter(|span| span.node == node) {
            match span.mover {
                Mover::Agent => {
                    sent += span.bytes;
                    if !used.contains(&span.layer) {
                        wasted += span.bytes;
                    }
                }
                Mover::Kubelet => pulled += span.bytes,
            }
        }
        let pods = self.facts.nodes[node].pods.iter();
        let scored = pods.filter(|pod| self.facts.is_scored(**pod));
        let (mut reactive_s, mut wait_s) = (0.0, 0.0);
        for pod in scored {
            reactive_s += self.wait_s(&self.reactive, *pod).unwrap_or(0.0);
            wait_s += self.wait_s(&self.forelay, *pod).unwrap_or(0.0);
        }
        Totals {
            sent_bytes: sent.round() as u64,
            wasted_bytes: wasted.round() as u64,
            pulled_bytes: pulled.round() as u64,
            reactive_wait_s: reactive_s,
            wait_s,
            saved_s: reactive_s - wait_s,
        }
    }
}

/// Candidates that no plan of a target ever named, as they were last seen.
fn never_planned<'a>(
    sights: impl Iterator<Item = &'a Explanation>,
) -> Vec<(Timestamp, &'a Verdict)> {
    let mut last: BTreeMap<&ImageRef, Option<(Timestamp, &Verdict)>> = BTreeMap::new();
    for sight in sights {
        for verdict in &sight.verdicts {
            let slot = last
                .entry(&verdict.image)
                .or_insert(Some((sight.made, verdict)));
            match verdict.fate {
                Fate::Planned(_) => *slot = None,
                _ if slot.is_some() => *slot = Some((sight.made, verdict)),
                _ => {}
            }
        }
    }
    last.into_values().flatten().collect()
}

/// Per budget the look at which it left out the most.
fn shortages<'a>(sights: impl Iterator<Item = &'a Explanation>) -> Vec<Short> {
    let mut short: BTreeMap<&str, Short> = BTreeMap::new();
    let out = |fill: &Fill| fill.wanted - fill.taken;
    for sight in sights {
        for fill in &sight.fills {
            let known = short.get(fill.budget).map_or(0, |known| out(&known.fill));
            if out(fill) > known {
                let (at, fill) = (sight.made, fill.clone());
                short.insert(fill.budget, Short { at, fill });
            }
        }
    }
    short.into_values().collect()
}

fn offer(near: &[String]) -> String {
    if near.is_empty() {
        return "it has none at all".to_owned();
    }
    format!("there is {}", near.join(", "))
}
