//! Pods that scalers do not ask for yet, and will while a coming node is new.
//!
//! A forecast never brings a node: the groups that are made here land only where a node is on its way
//! or new (design section 6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use crate::domain::plan::{Priority, Reason};
use crate::domain::signal::{LoadSample, Scaler};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::counts::Counts;
use crate::forecast::demand::Group;
use crate::forecast::load::{LoadForecaster, LoadSettings};
use crate::forecast::scaler::{Behaviour, Growth, Observed, ScalerTrack};

use super::groups::Source;
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

/// What scalers will ask for, by workload; looked at again some time after they spoke.
#[derive(Debug, Default)]
pub struct Surpluses {
    looks: HashMap<Arc<WorkloadRef>, Look>,
    due: BTreeSet<(Timestamp, Arc<WorkloadRef>)>,
}

#[derive(Debug)]
struct Look {
    /// Whose, as the one copy that both maps share.
    name: Arc<WorkloadRef>,
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
        if let Some(series) = self.series.get_mut(workload) {
            series.forecaster.observe(at, fact.value);
            series.last = fact.value;
        } else if self.series.len() < SERIES_MAX {
            let mut forecaster = LoadForecaster::new(settings());
            forecaster.observe(at, fact.value);
            let series = Series {
                forecaster,
                last: fact.value,
            };
            self.series.insert(workload.clone(), series);
        }
        Applied::Changed
    }

    /// Works out what scalers will ask for beyond what their workloads have and lack, where they said
    /// something since the last look. Without a node that is on its way or new, nobody would use it.
    pub(super) fn look_ahead(&mut self, now: Timestamp) {
        if !self.pools.values().any(Pool::grows) {
            return;
        }
        for _ in 0..LOOKS {
            let Some(workload) = self.surpluses.due(now) else {
                return;
            };
            let surplus = self.surplus(&workload);
            if self.surpluses.looked(&workload, surplus, now) {
                let source = Source::Ahead((*workload).clone());
                self.marks.groups.insert(source);
            }
        }
    }

    /// When the next look is due; never while nobody would use it.
    pub(super) fn look_ahead_at(&self) -> Option<Timestamp> {
        let (due, _) = self.surpluses.due.first()?;
        let grows = self.model.uses.scalers && self.pools.values().any(Pool::grows);
        grows.then_some(*due)
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

    pub(super) fn ahead_group(&self, name: &WorkloadRef) -> Option<Group> {
        let surplus = self.surpluses.get(name)?;
        let state = self.workloads.get(name)?;
        Some(Group {
            template: Arc::clone(&state.template),
            owner: Some(self.owner(name)),
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

/// As by default, for no more horizons than [`GUIDES`] ask for: each costs a quarter of a sample.
fn settings() -> LoadSettings {
    let minutes = GUIDES.map(|ahead| ahead.as_secs() as usize / 60);
    LoadSettings {
        horizons: minutes.to_vec(),
        ..LoadSettings::default()
    }
}

// === impl Surpluses ===

impl Surpluses {
    /// A scaler of the workload said something at `at`.
    pub fn look_at(&mut self, workload: &WorkloadRef, at: Timestamp) {
        let Some(look) = self.looks.get_mut(workload) else {
            let name = Arc::new(workload.clone());
            self.due.insert((at, Arc::clone(&name)));
            let look = Look {
                name: Arc::clone(&name),
                surplus: None,
                last: None,
                due: Some(at),
            };
            self.looks.insert(name, look);
            return;
        };
        if look.due.is_none() {
            let due = look.last.map_or(at, |last| at.max(last + PAUSE));
            look.due = Some(due);
            self.due.insert((due, Arc::clone(&look.name)));
        }
    }

    /// The workload is gone.
    pub fn forget(&mut self, workload: &WorkloadRef) {
        if let Some(look) = self.looks.remove(workload)
            && let Some(due) = look.due
        {
            self.due.remove(&(due, look.name));
        }
    }

    /// What its scalers will ask for, as last looked at.
    pub fn get(&self, workload: &WorkloadRef) -> Option<&Surplus> {
        self.looks.get(workload)?.surplus.as_ref()
    }

    /// Workloads with a surplus, in no order.
    pub fn with_some(&self) -> impl Iterator<Item = &WorkloadRef> {
        let some = self.looks.iter().filter(|(_, look)| look.surplus.is_some());
        some.map(|(workload, _)| &**workload)
    }

    fn due(&mut self, now: Timestamp) -> Option<Arc<WorkloadRef>> {
        let (due, _) = self.due.first()?;
        (*due <= now).then(|| self.due.pop_first().map(|(_, workload)| workload))?
    }

    /// Keeps what was found; true when it is something else than before.
    fn looked(&mut self, workload: &WorkloadRef, surplus: Option<Surplus>, now: Timestamp) -> bool {
        let Some(look) = self.looks.get_mut(workload) else {
            return false;
        };
        (look.due, look.last) = (None, Some(now));
        let news = look.surplus != surplus;
        look.surplus = surplus;
        news
    }
}
