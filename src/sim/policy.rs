//! The policies that are compared, each run over the same facts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::engine::cluster::Cluster;
use crate::forecast::model::{Model, Uses};
use crate::sim::baseline::{Recent, operators_list, right_images};
use crate::sim::facts::{Facts, FactsError, recorded_wait};
use crate::sim::oracle;
use crate::sim::perturb::{Trouble, perturbed};
use crate::sim::score::{Harm, Tally};
use crate::sim::world::{Notes, Planner, Rules, Stage, World};

/// A way to prepare nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Nothing: the kubelet pulls from the origin when a pod asks.
    Reactive,
    /// The same through a pull-through cache in the cluster.
    ReactiveCache,
    /// A list that an operator wrote at the start, on all nodes.
    Static,
    /// Images of DaemonSets that match the node.
    Daemonsets,
    /// The distinct images that were started in the pool last.
    LastN,
    /// Decayed counts of what ran on earlier nodes of the pool.
    Decayed,
    /// Images of pods that exist already: exact, late.
    PendingOnly,
    /// Everything that the engine knows.
    Forelay,
    /// Which images each node will need, not when.
    OracleImages,
    /// The best schedule known to somebody who knows the future.
    Oracle,
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy: use {list}", list = Policy::ALL.map(Policy::name).join(", "))]
pub struct UnknownPolicy(String);

/// All runs of one scenario.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Of the scenario.
    pub header: Header,
    /// What really happened.
    pub facts: Facts,
    /// What each policy made of it; reactive (with and without a cache) and oracle are always here.
    pub runs: BTreeMap<Policy, Run>,
    /// Image waits in the recording itself, seconds; `None` where it tells of no pull.
    pub recorded_wait_s: Option<f64>,
    /// Images that a kubelet pulled at once.
    pub pulls: usize,
    /// Forelay at each of [`PRICES`]; empty unless asked for.
    pub frontier: Vec<Tally>,
    /// Policies with kubelets that pull in parallel; empty unless asked for.
    pub parallel: BTreeMap<Policy, Tally>,
}

/// One policy's run.
#[derive(Clone, Debug)]
pub struct Run {
    /// All that was noted.
    pub notes: Notes,
    /// The numbers.
    pub tally: Tally,
}

// === impl Policy ===

impl Policy {
    /// Every policy, from the least to the most that is known.
    pub const ALL: [Self; 10] = [
        Self::Reactive,
        Self::ReactiveCache,
        Self::Static,
        Self::Daemonsets,
        Self::LastN,
        Self::Decayed,
        Self::PendingOnly,
        Self::Forelay,
        Self::OracleImages,
        Self::Oracle,
    ];

    /// As written on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reactive => "reactive",
            Self::ReactiveCache => "reactive-cache",
            Self::Static => "static",
            Self::Daemonsets => "daemonsets",
            Self::LastN => "last-n",
            Self::Decayed => "decayed",
            Self::PendingOnly => "pending-only",
            Self::Forelay => "forelay",
            Self::OracleImages => "oracle-images",
            Self::Oracle => "oracle",
        }
    }

    /// What a policy's engine may use: nothing where no engine plans.
    fn uses(self, all: &Uses) -> Uses {
        let nothing = Uses::nothing();
        match self {
            Self::Daemonsets => Uses {
                daemonsets: true,
                ..nothing
            },
            Self::Decayed => Uses {
                history: true,
                ..nothing
            },
            Self::PendingOnly => Uses {
                pods: true,
                ..nothing
            },
            Self::Forelay => all.clone(),
            Self::Reactive
            | Self::ReactiveCache
            | Self::Static
            | Self::LastN
            | Self::OracleImages
            | Self::Oracle => nothing,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let named = Self::ALL.into_iter().find(|policy| policy.name() == text);
        named.ok_or_else(|| UnknownPolicy(text.chars().take(100).collect()))
    }
}

/// Under which circumstances policies are compared.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Parameters of prediction and planning.
    pub model: Model,
    /// Images that a kubelet pulls at once; 0 and 1 are one after the other.
    pub pulls: usize,
    /// The controller dies so long after the start, and another one takes over.
    pub restart_after: Option<Duration>,
    /// What happens to signals on their way to the engine.
    pub trouble: Trouble,
    /// Whether forelay is also run at other prices of a second.
    pub frontier: bool,
    /// Whether some policies are also run with kubelets that pull in parallel.
    pub sensitivity: bool,
}

/// Prices of a second on the frontier, as multiples of the model's.
pub const PRICES: [f64; 7] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Images that kubelets pull at once in the sensitivity rows.
pub const PARALLEL_PULLS: usize = 5;

/// Policies of the sensitivity rows.
pub const SENSITIVE: [Policy; 4] = [
    Policy::Reactive,
    Policy::PendingOnly,
    Policy::Forelay,
    Policy::Oracle,
];

/// Runs policies over one scenario; `began` hears of each before it runs. Reactive, reactive through
/// the cache, and the oracle run always: gains are measured between the first and the last, harm
/// against the first two.
pub fn replay(
    header: &Header,
    signals: &[Signal],
    policies: &[Policy],
    model: &Model,
    began: impl FnMut(Policy),
) -> Result<Replay, FactsError> {
    let setting = Setting {
        model: model.clone(),
        ..Setting::default()
    };
    replay_in(header, signals, policies, &setting, began)
}

/// As [`replay`], under other circumstances.
pub fn replay_in(
    header: &Header,
    signals: &[Signal],
    policies: &[Policy],
    setting: &Setting,
    mut began: impl FnMut(Policy),
) -> Result<Replay, FactsError> {
    let facts = Facts::gather(header, signals)?;
    let heard = perturbed(signals, header.start, &setting.trouble);
    let stage = Stage {
        header,
        facts: &facts,
        signals: &heard,
        rules: Rules {
            pulls: setting.pulls.max(1),
            restart_at: setting.restart_after.map(|after| header.start + after),
            deduplicates: setting.trouble.duplicate > 0.0,
        },
    };
    let always = [Policy::Reactive, Policy::ReactiveCache, Policy::Oracle];
    let wanted = |policy: &Policy| always.contains(policy) || policies.contains(policy);
    let planned: Vec<Policy> = Policy::ALL.into_iter().filter(wanted).collect();
    let mut runs = BTreeMap::new();
    for policy in planned {
        began(policy);
        runs.insert(policy, run(stage, policy, &setting.model));
    }
    take_best(&mut runs);
    note_harm(&facts, &mut runs);
    let recorded_wait_s = recorded_wait(&facts, signals);
    let frontier = if setting.frontier {
        frontier(stage, &setting.model)
    } else {
        Vec::new()
    };
    let parallel = if setting.sensitivity {
        parallel(stage, &setting.model)
    } else {
        BTreeMap::new()
    };
    let pulls = stage.rules.pulls;
    Ok(Replay {
        header: header.clone(),
        facts,
        runs,
        recorded_wait_s,
        pulls,
        frontier,
        parallel,
    })
}

/// Whoever did better than the oracle showed a better schedule: the best known is the oracle's by
/// definition.
fn take_best(runs: &mut BTreeMap<Policy, Run>) {
    let best = runs
        .iter()
        .min_by(|a, b| a.1.tally.wait_s().total_cmp(&b.1.tally.wait_s()))
        .map(|(policy, _)| *policy);
    let oracle_s = runs.get(&Policy::Oracle).map(|run| run.tally.wait_s());
    if let (Some(best), Some(oracle_s)) = (best, oracle_s)
        && runs[&best].tally.wait_s() < oracle_s
    {
        runs.insert(Policy::Oracle, runs[&best].clone());
    }
}

/// Forelay at other prices of a second: what each saves, and what it wastes.
fn frontier(stage: Stage<'_>, model: &Model) -> Vec<Tally> {
    let at = |factor: f64| {
        let mut model = model.clone();
        model.price.second_bytes *= factor;
        run(stage, Policy::Forelay, &model).tally
    };
    PRICES.into_iter().map(at).collect()
}

/// Some policies with kubelets that pull in parallel.
fn parallel(stage: Stage<'_>, model: &Model) -> BTreeMap<Policy, Tally> {
    let mut stage = stage;
    stage.rules.pulls = PARALLEL_PULLS;
    let runs = SENSITIVE.map(|policy| (policy, run(stage, policy, model)));
    let mut runs = BTreeMap::from(runs);
    take_best(&mut runs);
    let tallies = runs.into_iter();
    tallies.map(|(policy, run)| (policy, run.tally)).collect()
}

/// Compares each run with those of reactive and reactive-cache.
fn note_harm(facts: &Facts, runs: &mut BTreeMap<Policy, Run>) {
    let of = |policy: Policy| runs.get(&policy).map(|run| &run.notes);
    let (Some(reactive), Some(cache)) = (of(Policy::Reactive), of(Policy::ReactiveCache)) else {
        return;
    };
    let harms = runs
        .values()
        .map(|run| Harm::of(facts, &run.notes, reactive, cache));
    let harms: Vec<Harm> = harms.collect();
    for (run, harm) in runs.values_mut().zip(harms) {
        run.tally.harm = harm;
    }
}

/// Seconds that all scored pods wait under one policy (not the oracle's), without the others' runs.
pub fn wait_s(
    header: &Header,
    signals: &[Signal],
    policy: Policy,
    model: &Model,
) -> Result<f64, FactsError> {
    let facts = Facts::gather(header, signals)?;
    let stage = Stage::new(header, &facts, signals);
    Ok(run(stage, policy, model).tally.wait_s())
}

/// One policy's run over facts that were gathered before: what a tuner calls for every trial.
#[must_use]
pub fn run(stage: Stage<'_>, policy: Policy, model: &Model) -> Run {
    let facts = stage.facts;
    let deaf = Stage {
        signals: &[],
        ..stage
    };
    let notes = match policy {
        Policy::Reactive => World::new(deaf, Planner::Nobody).run(),
        Policy::ReactiveCache => World::new(deaf, Planner::Cache).run(),
        Policy::Static => World::new(deaf, Planner::Listed(operators_list(facts))).run(),
        Policy::LastN => World::new(deaf, Planner::LastN(Recent::new(facts))).run(),
        Policy::OracleImages => World::new(deaf, Planner::Listed(right_images(facts))).run(),
        Policy::Oracle => oracle::run(deaf),
        Policy::Daemonsets | Policy::Decayed | Policy::PendingOnly | Policy::Forelay => {
            let model = Model {
                uses: policy.uses(&model.uses),
                ..model.clone()
            };
            let planner = Planner::Engine(Box::new(Cluster::new(model)));
            World::new(stage, planner).run()
        }
    };
    Run::of(facts, notes)
}

// === impl Run ===

impl Run {
    fn of(facts: &Facts, notes: Notes) -> Self {
        let tally = Tally::of(facts, &notes);
        Self { notes, tally }
    }
}
