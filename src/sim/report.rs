//! Scores of many scenarios, side by side.

mod html;
mod timeline;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::sim::policy::{Policy, Replay};
use crate::sim::score::{Score, Tally};

pub use html::page;

/// What `forelay replay --output json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In the order in which they were given.
    pub scenarios: Vec<ScenarioReport>,
    /// All of them together.
    pub pooled: Pooled,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioReport {
    /// Name in the header.
    pub name: String,
    /// Score by policy.
    pub policies: Rows,
}

/// All scenarios together: sums of sums, quantiles over all pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooled {
    /// Score by policy.
    pub policies: Rows,
}

/// Scores in the order of [`Policy::ALL`]; written as one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows(pub Vec<(Policy, Score)>);

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(policy, score)| (policy.name(), score)))
    }
}

impl Report {
    /// Scores of the policies that were asked for; gains are measured between reactive and the oracle
    /// whether or not these are shown.
    #[must_use]
    pub fn new(replays: &[Replay], shown: &[Policy]) -> Self {
        let mut pooled: BTreeMap<Policy, Tally> = BTreeMap::new();
        let mut scenarios = Vec::new();
        for replay in replays {
            let tallies = replay
                .runs
                .iter()
                .map(|(policy, run)| (*policy, &run.tally));
            let tallies: BTreeMap<Policy, &Tally> = tallies.collect();
            for (policy, tally) in &tallies {
                pooled.entry(*policy).or_default().add(tally);
            }
            scenarios.push(ScenarioReport {
                name: replay.header.name.clone(),
                policies: rows(&tallies, shown),
            });
        }
        let pooled = pooled.iter().map(|(policy, tally)| (*policy, tally));
        let pooled = Pooled {
            policies: rows(&pooled.collect(), shown),
        };
        Self { scenarios, pooled }
    }
}

fn rows(tallies: &BTreeMap<Policy, &Tally>, shown: &[Policy]) -> Rows {
    let wait_s = |policy: Policy| tallies.get(&policy).map_or(0.0, |tally| tally.wait_s());
    let (reactive_s, oracle_s) = (wait_s(Policy::Reactive), wait_s(Policy::Oracle));
    let shown = tallies.iter().filter(|(policy, _)| shown.contains(policy));
    Rows(
        shown
            .map(|(policy, tally)| (*policy, tally.score(reactive_s, oracle_s)))
            .collect(),
    )
}
