//! The policies that are compared, each run over the same facts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::engine::cluster::Cluster;
use crate::forecast::model::{Model, Uses};
use crate::sim::facts::{Facts, FactsError};
use crate::sim::oracle;
use crate::sim::score::Tally;
use crate::sim::world::{Notes, Planner, Stage, World};

/// A way to prepare nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Nothing: the kubelet pulls when a pod asks.
    Reactive,
    /// Images of DaemonSets that match the node.
    Daemonsets,
    /// Decayed counts of what ran on earlier nodes of the pool.
    Decayed,
    /// Images of pods that exist already: exact, late.
    PendingOnly,
    /// Everything that the engine knows.
    Forelay,
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
    /// What each policy made of it; reactive and oracle are always here.
    pub runs: BTreeMap<Policy, Run>,
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
    pub const ALL: [Self; 6] = [
        Self::Reactive,
        Self::Daemonsets,
        Self::Decayed,
        Self::PendingOnly,
        Self::Forelay,
        Self::Oracle,
    ];

    /// As written on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reactive => "reactive",
            Self::Daemonsets => "daemonsets",
            Self::Decayed => "decayed",
            Self::PendingOnly => "pending-only",
            Self::Forelay => "forelay",
            Self::Oracle => "oracle",
        }
    }

    /// What a policy's engine may use; `None` where no engine plans.
    fn uses(self, all: &Uses) -> Option<Uses> {
        let nothing = Uses {
            daemonsets: false,
            pods: false,
            scalers: false,
            rollouts: false,
            announcements: false,
            history: false,
        };
        match self {
            Self::Reactive | Self::Oracle => None,
            Self::Daemonsets => Some(Uses {
                daemonsets: true,
                ..nothing
            }),
            Self::Decayed => Some(Uses {
                history: true,
                ..nothing
            }),
            Self::PendingOnly => Some(Uses {
                pods: true,
                ..nothing
            }),
            Self::Forelay => Some(all.clone()),
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

/// Runs policies over one scenario; `began` hears of each before it runs. Reactive and the oracle run
/// always: every gain is measured between them.
pub fn replay(
    header: &Header,
    signals: &[Signal],
    policies: &[Policy],
    model: &Model,
    mut began: impl FnMut(Policy),
) -> Result<Replay, FactsError> {
    let facts = Facts::gather(header, signals)?;
    let stage = Stage {
        header,
        facts: &facts,
        signals: &[],
    };
    let mut runs = BTreeMap::new();
    let planned = Policy::ALL
        .into_iter()
        .filter(|policy| *policy == Policy::Reactive || policies.contains(policy));
    for policy in planned.filter(|policy| *policy != Policy::Oracle) {
        began(policy);
        runs.insert(policy, one(stage, signals, policy, model));
    }
    began(Policy::Oracle);
    let own = oracle::run(stage);
    let own = run(&facts, own);
    // Whoever did better showed a better schedule: the best known is the oracle's by definition.
    let best = runs
        .values()
        .min_by(|a, b| a.tally.wait_s().total_cmp(&b.tally.wait_s()))
        .filter(|best| best.tally.wait_s() < own.tally.wait_s())
        .cloned();
    runs.insert(Policy::Oracle, best.unwrap_or(own));
    Ok(Replay {
        header: header.clone(),
        facts,
        runs,
    })
}

/// Seconds that all scored pods wait under one policy (not the oracle's), without the others' runs.
pub fn wait_s(
    header: &Header,
    signals: &[Signal],
    policy: Policy,
    model: &Model,
) -> Result<f64, FactsError> {
    let facts = Facts::gather(header, signals)?;
    let stage = Stage {
        header,
        facts: &facts,
        signals: &[],
    };
    Ok(one(stage, signals, policy, model).tally.wait_s())
}

fn one(stage: Stage<'_>, signals: &[Signal], policy: Policy, model: &Model) -> Run {
    let notes = match policy.uses(&model.uses) {
        None => World::new(stage, Planner::Nobody).run(),
        Some(uses) => {
            let model = Model {
                uses,
                ..model.clone()
            };
            let planner = Planner::Engine(Box::new(Cluster::new(model)));
            World::new(Stage { signals, ..stage }, planner).run()
        }
    };
    run(stage.facts, notes)
}

fn run(facts: &Facts, notes: Notes) -> Run {
    let tally = Tally::of(facts, &notes);
    Run { notes, tally }
}
