//! Gains and waste over a folder of scenarios: pooled, each, and against its bounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use forelay::compose;
use forelay::compose::spec::Spec;
use forelay::domain::signal::Signal;
use forelay::forecast::model::Model;
use forelay::sim::policy::{Policy, Replay, Run, Setting, replay_in};
use forelay::sim::report::Report;
use forelay::sim::score::Score;
use serde::Serialize;

use crate::files::{Scenario, scenario, specs};
use crate::{crew, say};

/// Policies that the numbers are about; reactive and the oracle run always.
const POLICIES: [Policy; 4] = [
    Policy::Reactive,
    Policy::PendingOnly,
    Policy::Forelay,
    Policy::Oracle,
];

/// Seeds that each composed scenario of the pack is composed with again.
pub const OTHER_SEEDS: [u64; 2] = [101, 202];

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    pub spec: Spec,
    /// Where it is not the spec's own.
    pub seed: Option<u64>,
    pub scenario: Scenario,
    pub replay: Replay,
}

/// Numbers of several scenarios.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// Pooled gain.
    pub gain: f64,
    /// Its 95 % interval over scenarios.
    gain_interval: Option<[f64; 2]>,
    /// Pooled gain of pending-only.
    pub pending_only: f64,
    /// Part of what pending-only leaves to the oracle that is closed: 1 - (1 - G) / (1 - G_pending).
    pub closed: f64,
    /// Gain over pending-only, 95 % interval.
    over_pending_interval: Option<[f64; 2]>,
    /// Median of the scenarios' gains.
    pub median_gain: f64,
    /// Bytes in vain over bytes needed.
    pub waste_node: f64,
    /// Its interval.
    waste_interval: Option<[f64; 2]>,
    /// The same of pending-only.
    pub pending_waste_node: f64,
    /// The scenario whose pods wait longest against reactive.
    worst_scenario: String,
    /// By which part of reactive's wait they wait longer; negative is shorter.
    pub worst_against_reactive: f64,
    /// Bytes that agents brought where nobody waits.
    pub quiet_node_bytes: f64,
    /// Scenarios that miss a bound of their own.
    pub bounds_missed: usize,
    /// Each.
    scenarios: BTreeMap<String, One>,
}

/// One scenario.
#[derive(Debug, Serialize)]
struct One {
    /// Null where nobody waits.
    gain: Option<f64>,
    pending_only: Option<f64>,
    waste_node: Option<f64>,
    pending_waste_node: Option<f64>,
    /// Waits, seconds.
    reactive_s: f64,
    forelay_s: f64,
    oracle_s: f64,
    agent_bytes: f64,
    bounds: BTreeMap<String, Bound>,
}

/// A number of a spec's `[bounds]`.
#[derive(Debug, Serialize)]
struct Bound {
    limit: f64,
    found: f64,
    met: bool,
}

/// Plays the committed files of a folder.
pub fn play(folder: &Path) -> anyhow::Result<Vec<Played>> {
    crew::map(&specs(folder)?, |path| {
        let spec = compose::read(path)?;
        say(&format!("playing {}", spec.name));
        played(spec, None, scenario(path)?)
    })
}

/// Composes what can be composed with other seeds, and plays that.
pub fn play_seeds(folder: &Path) -> anyhow::Result<Vec<Played>> {
    let tasks = specs(folder)?.into_iter();
    let tasks = tasks.flat_map(|path| OTHER_SEEDS.map(|seed| (path.clone(), seed)));
    let tasks: Vec<(PathBuf, u64)> = tasks.collect();
    let all = crew::map(&tasks, |(path, seed)| {
        let spec = compose::read(path)?;
        if spec.recorded.is_some() {
            return Ok(None);
        }
        say(&format!("composing and playing {}, seed {seed}", spec.name));
        let cast = compose::cast(&spec, path, Some(*seed))?;
        let header = compose::header(&spec, &cast);
        let mut signals = Vec::new();
        let mut sink = |signal: &Signal| {
            signals.push(signal.clone());
            Ok(())
        };
        compose::play(&cast, &mut sink, |_| {})?;
        played(spec, Some(*seed), Scenario { header, signals }).map(Some)
    });
    Ok(all?.into_iter().flatten().collect())
}

fn played(spec: Spec, seed: Option<u64>, scenario: Scenario) -> anyhow::Result<Played> {
    let setting = Setting {
        model: Model::default(),
        ..Setting::default()
    };
    let Scenario { header, signals } = &scenario;
    let replay = replay_in(header, signals, &POLICIES, &setting, |_| {})?;
    Ok(Played {
        spec,
        seed,
        scenario,
        replay,
    })
}

// === impl Played ===

impl Played {
    /// One policy's run.
    pub fn run(&self, policy: Policy) -> &Run {
        &self.replay.runs[&policy]
    }

    fn name(&self) -> String {
        let seed = self.seed.map(|seed| format!(", seed {seed}"));
        self.spec.name.clone() + &seed.unwrap_or_default()
    }
}

/// The numbers of scenarios that were played.
pub fn numbers(played: &[Played]) -> anyhow::Result<Numbers> {
    let replays: Vec<Replay> = played.iter().map(|one| one.replay.clone()).collect();
    let report = Report::new(&replays, &POLICIES);
    let pooled = |policy| -> anyhow::Result<&Score> {
        let row = report.pooled.policies.0.iter().find(|row| row.0 == policy);
        Ok(&row.context("a policy that was played")?.1)
    };
    let (forelay, pending) = (pooled(Policy::Forelay)?, pooled(Policy::PendingOnly)?);
    let gain = forelay.gain.context("nobody waits in these scenarios")?;
    let pending_only = pending.gain.context("nobody waits in these scenarios")?;
    let scenarios: anyhow::Result<BTreeMap<String, One>> = played
        .iter()
        .map(|one| Ok((one.name(), one_of(one)?)))
        .collect();
    let scenarios = scenarios?;
    let gains: Vec<f64> = scenarios.values().filter_map(|one| one.gain).collect();
    let worse = |one: &One| (one.forelay_s - one.reactive_s) / one.reactive_s.max(1.0);
    let worst = scenarios
        .iter()
        .filter(|(_, one)| one.gain.is_some() || one.forelay_s > one.reactive_s)
        .max_by(|a, b| worse(a.1).total_cmp(&worse(b.1)));
    let (worst_scenario, worst) = worst.context("no scenario")?;
    let quiet = scenarios.values().filter(|one| one.gain.is_none());
    let missed = |one: &&One| one.bounds.values().any(|bound| !bound.met);
    Ok(Numbers {
        gain,
        gain_interval: forelay.interval.and_then(|interval| interval.gain),
        pending_only,
        closed: 1.0 - (1.0 - gain) / (1.0 - pending_only),
        over_pending_interval: report.pooled.over_pending.and_then(|over| over.interval),
        median_gain: median(&gains),
        waste_node: forelay.waste_node.unwrap_or(0.0),
        waste_interval: forelay.interval.and_then(|interval| interval.waste_node),
        pending_waste_node: pending.waste_node.unwrap_or(0.0),
        worst_scenario: worst_scenario.clone(),
        worst_against_reactive: worse(worst),
        quiet_node_bytes: quiet.map(|one| one.agent_bytes).sum::<f64>() + 0.0,
        bounds_missed: scenarios.values().filter(missed).count(),
        scenarios,
    })
}

fn one_of(played: &Played) -> anyhow::Result<One> {
    let wait_s = |policy| played.run(policy).tally.wait_s();
    let (reactive_s, oracle_s) = (wait_s(Policy::Reactive), wait_s(Policy::Oracle));
    let score = |policy| played.run(policy).tally.score(reactive_s, oracle_s);
    let (forelay, pending) = (score(Policy::Forelay), score(Policy::PendingOnly));
    // Adding zero turns -0, the sum of nothing, into 0.
    let agent_bytes = played.run(Policy::Forelay).tally.agent_bytes + 0.0;
    let bounds = played.spec.bounds.iter().map(|(name, limit)| {
        let found = match name.as_str() {
            // Where there is nothing to gain, nothing was missed.
            "gain_min" => forelay.gain.unwrap_or(1.0),
            "waste_max" => forelay.waste_node.unwrap_or(0.0),
            "node_bytes_max" => agent_bytes,
            other => bail!("{}: bounds.{other} is not known here", played.spec.name),
        };
        let met = if name.ends_with("_min") {
            found >= *limit
        } else {
            found <= *limit
        };
        let limit = *limit;
        Ok((name.clone(), Bound { limit, found, met }))
    });
    Ok(One {
        gain: forelay.gain,
        pending_only: pending.gain,
        waste_node: forelay.waste_node,
        pending_waste_node: pending.waste_node,
        reactive_s,
        forelay_s: wait_s(Policy::Forelay),
        oracle_s,
        agent_bytes,
        bounds: bounds.collect::<anyhow::Result<_>>()?,
    })
}

/// Of an even number the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}
