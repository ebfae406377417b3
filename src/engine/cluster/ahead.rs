//! Pods that scalers do not ask for yet, and will while a coming node is new.
//!
//! A forecast never brings a node: the groups that are made here land only where a node is on its way
//! or new (design section 6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::plan::{Priority, Reason};
use crate::domain::signal::{LoadSample, Scaler};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::counts::Counts;
use crate::forecast::demand::Group;
use crate::forecast::load::{LoadForecaster, LoadSettings};
use crate::forecast::scaler::{Behaviour, Growth, Observed};

use super::{Applied, Cluster, UNUSED};

/// Load series that are followed, at most: what a forecaster keeps is a day of minutes.
const SERIES_MAX: usize = 4_000;

/// Probabilities are told in steps of a tenth: what moves less is no reason to plan anew.
const STEPS: f64 = 10.0;

/// Instants at which a load forecast guides a scaler's path.
const GUIDES: [Duration; 3] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(10),
];

/// Load of one workload.
#[derive(Debug)]
pub struct Series {
    forecaster: LoadForecaster,
    last: f64,
}

/// More pods than a workload has or lacks now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surplus {
    /// How many, if any come.
    pub pods: f64,
    /// That any come.
    pub chance: f64,
}

impl Cluster {
    /// A sample of a workload's load; series of nobody are not followed.
    pub(super) fn load_sampled(&mut self, fact: &LoadSample, at: Timestamp) -> Applied {
        let Some(workload) = &fact.workload else {
            return UNUSED;
        };
        if !self.model.uses.scalers {
            return UNUSED;
        }
        if let Some(series) = self.series.get_mut(workload) {
            series.forecaster.observe(at, fact.value);
            series.last = fact.value;
        } else if self.series.len() < SERIES_MAX {
            let mut forecaster = LoadForecaster::new(LoadSettings::default());
            forecaster.observe(at, fact.value);
            let series = Series {
                forecaster,
                last: fact.value,
            };
            self.series.insert(workload.clone(), series);
        }
        Applied::Changed
    }

    /// What a scaler saw, into its track.
    pub(super) fn track(&mut self, fact: &Scaler, at: Timestamp) {
        let seen = Observed {
            at,
            current: fact.current,
            desired: fact.desired,
            min: fact.min,
            max: fact.max,
            ratio: fact.ratio,
            limited: fact.limited,
            // Told how many serve, the track is worse on both recordings: .78 instead of .65 of "stays"
            // at p90, half a minute ahead.
            serving: None,
        };
        if let Some(state) = self.scalers.get_mut(&fact.scaler) {
            state.track.observe(seen, &Behaviour::default());
        }
    }

    /// Works out what the scalers of a workload will ask for beyond what it has and lacks.
    pub(super) fn look_ahead(&mut self, workload: &WorkloadRef) {
        let surplus = self.surplus(workload);
        let known = self.surpluses.get(workload);
        if known == surplus.as_ref() {
            return;
        }
        match surplus {
            Some(surplus) => self.surpluses.insert(workload.clone(), surplus),
            None => self.surpluses.remove(workload),
        };
        self.marks.demand = true;
    }

    fn surplus(&self, workload: &WorkloadRef) -> Option<Surplus> {
        let state = self.workloads.get(workload)?;
        let scalers = self.targets.get(workload)?;
        let ahead = Duration::from_secs_f64(self.model.times.ahead_s.max(0.0));
        let growth = self.growth(workload);
        let wishes = scalers.iter().filter_map(|scaler| {
            let track = &self.scalers.get(scaler)?.track;
            track.wish(ahead, growth.as_ref(), &Behaviour::default())
        });
        let there = self.crowds.get(workload);
        let there = there.map_or(0, |crowd| crowd.waiting + crowd.bound) + state.missing;
        let more = wishes.map(|wish: Counts| wish.beyond(there));
        let most = more.max_by(|a, b| a.mean().total_cmp(&b.mean()))?;
        let any = most.at_least(1);
        let chance = (any * self.model.chances.ahead * STEPS).round() / STEPS;
        let pods = (most.mean() / any.max(1.0 / STEPS)).round();
        (chance > 0.0 && pods >= 1.0 && !state.idle).then_some(Surplus { pods, chance })
    }

    /// How the load of a workload goes on, relative to now.
    fn growth(&self, workload: &WorkloadRef) -> Option<Growth> {
        let series = self.series.get(workload)?;
        let guides: Option<Vec<_>> = GUIDES
            .iter()
            .map(|ahead| Some((*ahead, series.forecaster.forecast(*ahead)?)))
            .collect();
        Growth::of(series.last, &guides?)
    }

    pub(super) fn add_ahead(&self, groups: &mut Vec<Group>) {
        for (name, surplus) in &self.surpluses {
            if let Some(state) = self.workloads.get(name) {
                groups.push(Group {
                    template: Arc::clone(&state.template),
                    owner: Some(self.owner(name)),
                    count: surplus.pods,
                    chance: surplus.chance,
                    reason: Reason::ScalerWish(name.to_string()),
                    priority: Priority::Background,
                });
            }
        }
    }
}

/// Workloads with a surplus, in the order of their names.
pub type Surpluses = BTreeMap<WorkloadRef, Surplus>;
