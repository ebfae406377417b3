//! Pods that scalers do not ask for yet, and will while a coming node is new.
//!
//! A forecast never brings a node: the groups that are made here land only where a node is on its way
//! or new (design section 6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::plan::{Priority, Reason};
use crate::domain::signal::{LoadSample, Scaler};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::counts::Counts;
use crate::forecast::demand::Group;
use crate::forecast::load::{LoadForecaster, LoadSettings};
use crate::forecast::scaler::{Behaviour, Growth, Observed, ScalerTrack};

use super::groups::Mark;
use super::owners::{Owner, OwnerId};
use super::pools::Pool;
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

/// Between two looks at one workload: two synchronisations of the HPA controller (15 s each). A look
/// plays the path of its load through, some 20 microseconds: made at each word of a scaler it was a sixth
/// of the engine's work on the benchmark's day of 5,000 nodes.
const PAUSE: Duration = Duration::from_secs(30);

/// Looks in one step: after a quiet night all scalers are due at once, and the first request's plan must
/// not wait for them. The rest have theirs in the steps that follow at once.
const LOOKS: usize = 8;

/// When to look for what scalers will ask for: some time after they spoke.
#[derive(Debug, Default)]
pub struct Looks {
    due: BTreeSet<(Timestamp, Arc<WorkloadRef>, OwnerId)>,
}

/// What scalers of one workload will ask for, and when that was, or is to be, looked for.
#[derive(Debug, Default)]
pub struct Look {
    surplus: Option<Surplus>,
    last: Option<Timestamp>,
    due: Option<Timestamp>,
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
        let known = self.owners.id(workload);
        let known = known.and_then(|id| self.owners[id].series.as_mut());
        if let Some(series) = known {
            series.forecaster.observe(at, fact.value);
            series.last = fact.value;
        } else if self.series < SERIES_MAX && !self.is_gone(workload) {
            let mut forecaster = LoadForecaster::new(settings());
            forecaster.observe(at, fact.value);
            let series = Series {
                forecaster,
                last: fact.value,
            };
            let id = self.owners.enter(workload);
            self.owners[id].series = Some(Box::new(series));
            self.series += 1;
        }
        Applied::Changed
    }

    /// Whether a workload was removed and did not come again: Prometheus tells its load for minutes yet.
    fn is_gone(&self, workload: &WorkloadRef) -> bool {
        let there = self.owners.state(workload).is_some();
        !there && self.gone.workloads.knows(&workload.to_string())
    }

    /// Works out what scalers will ask for beyond what their workloads have and lack, where they said
    /// something since the last look. Without a node that is on its way or new, nobody would use it.
    pub(super) fn look_ahead(&mut self, now: Timestamp) {
        if !self.pools.values().any(Pool::grows) {
            return;
        }
        for _ in 0..LOOKS {
            let Some(id) = self.looks.due(now) else {
                return;
            };
            let surplus = self.surplus(id);
            let Some(look) = &mut self.owners[id].look else {
                continue;
            };
            (look.due, look.last) = (None, Some(now));
            if look.surplus != surplus {
                look.surplus = surplus;
                self.marks.groups.insert(Mark::Ahead(id));
            }
        }
    }

    /// When the next look is due; never while nobody would use it.
    pub(super) fn look_ahead_at(&self) -> Option<Timestamp> {
        let (due, ..) = self.looks.due.first()?;
        let grows = self.model.uses.scalers && self.pools.values().any(Pool::grows);
        grows.then_some(*due)
    }

    fn surplus(&mut self, id: OwnerId) -> Option<Surplus> {
        let owner = &mut self.owners[id];
        if owner.state.is_none() || owner.scalers.is_empty() {
            return None;
        }
        let series = owner.series.as_mut();
        let growth = series.and_then(|series| series.growth());
        let owner = &self.owners[id];
        let state = owner.state.as_ref()?;
        let ahead = Duration::from_secs_f64(self.model.times.ahead_s.max(0.0));
        let wishes = owner.scalers.iter().filter_map(|scaler| {
            let track = &self.owners[*scaler].scaler.as_ref()?.track;
            track.wish(ahead, growth.as_ref(), &Behaviour::default())
        });
        let there = owner.crowd.size() + state.missing;
        let more = wishes.map(|wish: Counts| wish.beyond(there));
        let most = more.max_by(|a, b| a.mean().total_cmp(&b.mean()))?;
        let any = most.at_least(1);
        let chance = (any * self.model.chances.ahead * STEPS).round() / STEPS;
        let pods = (most.mean() / any.max(1.0 / STEPS)).round();
        (chance > 0.0 && pods >= 1.0 && !state.idle).then_some(Surplus { pods, chance })
    }

    pub(super) fn ahead_group(&self, id: OwnerId) -> Option<Group> {
        let owner = &self.owners[id];
        let surplus = owner.look.as_ref()?.surplus.as_ref()?;
        let state = owner.state.as_ref()?;
        Some(Group {
            template: Arc::clone(&state.template),
            owner: Some(Arc::clone(&owner.name)),
            count: surplus.pods,
            chance: surplus.chance,
            reason: Reason::ScalerWish(Arc::clone(&state.name)),
            priority: Priority::Background,
            since: None,
        })
    }
}

/// What a scaler saw, into its track.
pub fn track(track: &mut ScalerTrack, fact: &Scaler, at: Timestamp) {
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
    track.observe(seen, &Behaviour::default());
}

/// As by default, for no more horizons than [`GUIDES`] ask for: each takes a sixth of a sample or more.
fn settings() -> LoadSettings {
    let minutes = GUIDES.map(|ahead| ahead.as_secs() as usize / 60);
    LoadSettings {
        horizons: minutes.to_vec(),
        ..LoadSettings::default()
    }
}

// === impl Series ===

impl Series {
    /// How the load goes on, relative to now.
    fn growth(&mut self) -> Option<Growth> {
        let guides: Option<Vec<_>> = GUIDES
            .iter()
            .map(|ahead| Some((*ahead, self.forecaster.forecast(*ahead)?)))
            .collect();
        Growth::of(self.last, &guides?)
    }
}

// === impl Look ===

impl Look {
    /// Whether more pods will be asked for.
    pub fn finds_some(&self) -> bool {
        self.surplus.is_some()
    }
}

// === impl Looks ===

impl Looks {
    /// A scaler of the workload said something at `at`.
    pub fn look_at(&mut self, (id, owner): (OwnerId, &mut Owner), at: Timestamp) {
        let look = owner.look.get_or_insert_default();
        if look.due.is_none() {
            let due = look.last.map_or(at, |last| at.max(last + PAUSE));
            look.due = Some(due);
            self.due.insert((due, Arc::clone(&owner.name), id));
        }
    }

    /// The workload is gone.
    pub fn forget(&mut self, (id, owner): (OwnerId, &mut Owner)) {
        if let Some(look) = owner.look.take()
            && let Some(due) = look.due
        {
            self.due.remove(&(due, Arc::clone(&owner.name), id));
        }
    }

    fn due(&mut self, now: Timestamp) -> Option<OwnerId> {
        let (due, ..) = self.due.first()?;
        (*due <= now).then(|| self.due.pop_first().map(|(.., id)| id))?
    }
}
