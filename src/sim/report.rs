//! Scores of many scenarios, side by side.

mod html;
pub mod remaining;
mod timeline;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::sim::bootstrap::{Resamples, Sums};
use crate::sim::policy::{PARALLEL_PULLS, PRICES, Policy, Replay};
use crate::sim::report::remaining::Remaining;
use crate::sim::score::{Score, Tally, rounded};

pub use html::page;

/// Of the bootstrap: the same replays, the same intervals.
const SEED: u64 = 1;

/// What `forelay replay --output json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In the order in which they were given.
    pub scenarios: Vec<ScenarioReport>,
    /// All of them together.
    pub pooled: Pooled,
    /// Forelay at several prices of a second, over all scenarios; only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frontier: Vec<Point>,
    /// The same world with kubelets that pull one image after the other, and several at once; only when
    /// asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<Variant>,
}

/// One point of the frontier of waste against saved seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The price of a second as a multiple of the model's.
    pub price: f64,
    /// Bytes delivered and never used / bytes needed.
    pub waste_node: Option<f64>,
    /// Seconds that pods wait less than under reactive.
    pub saved_s: f64,
    /// Gain.
    pub gain: Option<f64>,
}

/// Pooled scores in a world with other kubelets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// Images that a kubelet pulls at once.
    pub parallel_pulls: usize,
    /// Score by policy; gains between this world's own reactive and oracle.
    pub policies: Rows,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioReport {
    /// Name in the header.
    pub name: String,
    /// Score by policy.
    pub policies: Rows,
    /// Image waits of the recording itself, seconds, beside the modelled ones of `reactive`; null where
    /// it tells of no pull.
    pub recorded_wait_s: Option<f64>,
}

/// All scenarios together: sums of sums, quantiles over all pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooled {
    /// Score by policy.
    pub policies: Rows,
    /// Forelay's gain less that of pending-only, the honest opponent; null where one of them is not
    /// shown.
    pub over_pending: Option<Difference>,
    /// Where the seconds are that are left; null unless reactive, pending-only, forelay and both oracles
    /// are shown.
    pub remaining: Option<Remaining>,
}

/// Difference of two gains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Of the pooled gains; null where they are.
    pub gain: Option<f64>,
    /// 95 % paired bootstrap interval over scenarios; null for fewer than three.
    pub interval: Option<[f64; 2]>,
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
        let mut scenarios = Vec::new();
        let mut pooled: BTreeMap<Policy, Tally> = BTreeMap::new();
        for replay in replays {
            let tallies = tallies(replay);
            for (policy, tally) in &tallies {
                pooled.entry(*policy).or_default().add(tally);
            }
            scenarios.push(ScenarioReport {
                name: replay.header.name.clone(),
                policies: rows(&tallies, shown),
                recorded_wait_s: replay.recorded_wait_s.map(rounded),
            });
        }
        let by_policy: BTreeMap<Policy, &Tally> = pooled.iter().map(|(p, t)| (*p, t)).collect();
        Self {
            scenarios,
            pooled: with_intervals(rows(&by_policy, shown), replays),
            frontier: frontier(replays, &by_policy),
            sensitivity: sensitivity(replays, &by_policy),
        }
    }
}

fn tallies(replay: &Replay) -> BTreeMap<Policy, &Tally> {
    let runs = replay.runs.iter();
    runs.map(|(policy, run)| (*policy, &run.tally)).collect()
}

fn frontier(replays: &[Replay], pooled: &BTreeMap<Policy, &Tally>) -> Vec<Point> {
    let wait_s = |policy: Policy| pooled.get(&policy).map_or(0.0, |tally| tally.wait_s());
    let (reactive_s, oracle_s) = (wait_s(Policy::Reactive), wait_s(Policy::Oracle));
    let point = |(at, price): (usize, f64)| {
        let mut tally: Option<Tally> = None;
        for one in replays.iter().filter_map(|replay| replay.frontier.get(at)) {
            tally.get_or_insert_default().add(one);
        }
        let tally = tally?;
        let score = tally.score(reactive_s, oracle_s);
        Some(Point {
            price,
            waste_node: score.waste_node,
            saved_s: rounded(reactive_s - tally.wait_s()),
            gain: score.gain,
        })
    };
    PRICES.into_iter().enumerate().filter_map(point).collect()
}

fn sensitivity(replays: &[Replay], serial: &BTreeMap<Policy, &Tally>) -> Vec<Variant> {
    let mut parallel: BTreeMap<Policy, Tally> = BTreeMap::new();
    for (policy, tally) in replays.iter().flat_map(|replay| &replay.parallel) {
        parallel.entry(*policy).or_default().add(tally);
    }
    if parallel.is_empty() {
        return Vec::new();
    }
    let shown: Vec<Policy> = parallel.keys().copied().collect();
    let parallel = parallel.iter().map(|(p, t)| (*p, t)).collect();
    let pulls = replays.iter().map(|replay| replay.pulls).max();
    let variant = |parallel_pulls, tallies| Variant {
        parallel_pulls,
        policies: rows(tallies, &shown),
    };
    vec![
        variant(pulls.unwrap_or(1), serial),
        variant(PARALLEL_PULLS, &parallel),
    ]
}

fn with_intervals(mut rows: Rows, replays: &[Replay]) -> Pooled {
    let names: Vec<&str> = replays.iter().map(|r| r.header.name.as_str()).collect();
    let resamples = Resamples::draw(&names, SEED);
    let sums = |policy: Policy| -> Vec<Sums> { replays.iter().map(|r| sums(r, policy)).collect() };
    if let Some(resamples) = &resamples {
        for (policy, score) in &mut rows.0 {
            score.interval = Some(resamples.interval(&sums(*policy)));
        }
    }
    let gain = |policy: Policy| {
        let row = rows.0.iter().find(|(row, _)| *row == policy);
        row.map(|(_, score)| score.gain)
    };
    let both = gain(Policy::Forelay).zip(gain(Policy::PendingOnly));
    let over_pending = both.map(|(ours, pending)| Difference {
        gain: ours.zip(pending).map(|(a, b)| rounded(a - b)),
        interval: resamples.and_then(|resamples| {
            resamples.gain_difference(&sums(Policy::Forelay), &sums(Policy::PendingOnly))
        }),
    });
    Pooled {
        policies: rows,
        over_pending,
        remaining: Remaining::of(replays),
    }
}

fn sums(replay: &Replay, policy: Policy) -> Sums {
    let wait_s = |policy: Policy| {
        replay
            .runs
            .get(&policy)
            .map_or(0.0, |run| run.tally.wait_s())
    };
    let tally = replay.runs.get(&policy).map(|run| &run.tally);
    Sums {
        reactive_s: wait_s(Policy::Reactive),
        oracle_s: wait_s(Policy::Oracle),
        wait_s: wait_s(policy),
        wasted: tally.map_or(0.0, |tally| tally.wasted_bytes),
        needed: tally.map_or(0.0, |tally| tally.needed_bytes),
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
