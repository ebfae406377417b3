//! Samples on a regular grid, one period of them.

use std::time::Duration;

use crate::domain::time::Timestamp;
#[cfg(feature = "augurs")]
use crate::forecast::load::ets::Ets;
use crate::forecast::load::in_bounds;
use crate::forecast::load::mixture::{Members, OWN};
use crate::forecast::load::weeks::Weeks;

/// The last period's samples, one slot per step, in a ring.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    step_us: i64,
    period: usize,
    ring: Vec<f32>,
    /// Where the last slot lies in the ring.
    head: usize,
    weeks: Weeks,
    last: Option<i64>,
    /// Exponential means that move by [`SMOOTH`].
    means: [f64; SMOOTH.len()],
    /// Slots since the first sample, or since the last gap that was too long to bridge.
    filled: usize,
    #[cfg(feature = "augurs")]
    ets: Ets,
}

/// What members of all horizons have in common at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    now: f64,
    /// A period ago, where it was seen.
    then: Option<f64>,
    /// A week ago.
    last_week: Option<f64>,
    now_us: i64,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It opened this slot.
    New(i64),
    /// Its slot is the last one: the newer value stands.
    Same,
    /// It is older than the last one.
    Old,
}

/// A new sample's part in the two exponential means, with half-lives of 3 and 12 samples: noise around
/// a level is what they are good at, and persistence is not.
const SMOOTH: [f64; 2] = [0.206_299, 0.056_126]; // 1 - 0.5^(1/3), 1 - 0.5^(1/12)

/// Most slots of a period: a week of minutes, 40 KiB.
const PERIOD_MAX: usize = 7 * 24 * 60;

impl Grid {
    pub(super) fn new(step: Duration, period: Duration, longest: usize) -> Self {
        let step_us = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
        let period_us = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
        let period = usize::try_from(period_us / step_us).unwrap_or(1);
        let period = period.clamp(1, PERIOD_MAX);
        Self {
            step_us,
            period,
            ring: vec![0.0; period + longest + 1],
            head: 0,
            weeks: Weeks::default(),
            last: None,
            means: [0.0; SMOOTH.len()],
            filled: 0,
            #[cfg(feature = "augurs")]
            ets: Ets::default(),
        }
    }

    pub(super) fn take(&mut self, at: Timestamp, value: f64) -> Taken {
        let slot = at.as_micros().div_euclid(self.step_us);
        self.weeks.take(at.as_micros(), value);
        let value = value as f32;
        let Some(last) = self.last else {
            self.means = [f64::from(value); SMOOTH.len()];
            self.put(slot, value);
            return Taken::New(slot);
        };
        if slot < last {
            return Taken::Old;
        }
        if slot == last {
            self.put(slot, value);
            return Taken::Same;
        }
        let missing = usize::try_from(slot - last - 1).unwrap_or(usize::MAX);
        if missing >= self.period {
            self.filled = 0;
            self.means = [f64::from(value); SMOOTH.len()];
        } else {
            let held = self.back(0);
            for bridged in last + 1..slot {
                self.put(bridged, held);
            }
        }
        self.put(slot, value);
        for (mean, part) in self.means.iter_mut().zip(SMOOTH) {
            *mean += (f64::from(value) - *mean) * part;
        }
        #[cfg(feature = "augurs")]
        self.fit();
        Taken::New(slot)
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        let last = self.last?;
        Some(Timestamp::from_micros(last.saturating_mul(self.step_us)))
    }

    /// What members start from; none before two samples.
    pub(super) fn start(&self) -> Option<Start> {
        let last = self.last.filter(|_| self.filled > 1)?;
        let now_us = last.saturating_mul(self.step_us);
        let then = (self.filled > self.period).then(|| f64::from(self.back(self.period)));
        Some(Start {
            now: f64::from(self.back(0)),
            then,
            last_week: self.weeks.last_week(now_us),
            now_us,
        })
    }

    /// What each member says of the slot so many steps after the last.
    pub(super) fn members(&self, start: &Start, steps: usize) -> Members {
        let own = self.own(start, steps);
        let mut members = [own[0] as f32; OWN + 1];
        for (member, own) in members.iter_mut().zip(own) {
            *member = own as f32;
        }
        #[cfg(feature = "augurs")]
        {
            members[OWN] += self.ets.change(steps) as f32;
        }
        members
    }

    /// A fit of the feature's member, where it is time for one.
    #[cfg(feature = "augurs")]
    fn fit(&mut self) {
        let mut ets = std::mem::take(&mut self.ets);
        let longest = self.ring.len() - self.period - 1;
        ets.observe(longest, |most| {
            let count = most.min(self.filled).min(self.ring.len());
            let newest_last = (0..count).rev();
            newest_last.map(|age| f64::from(self.back(age))).collect()
        });
        self.ets = ets;
    }

    fn own(&self, start: &Start, steps: usize) -> [f64; OWN] {
        let now = start.now;
        let [quick, slow] = self.means;
        let week = start.last_week.and_then(|then| {
            let ahead_us = (steps as i64).saturating_mul(self.step_us);
            let later = self
                .weeks
                .last_week(start.now_us.saturating_add(ahead_us))?;
            Some(now + later - then)
        });
        let Some(then) = start.then.filter(|_| steps <= self.period) else {
            return [now, now, now, now, quick, slow, week.unwrap_or(now)];
        };
        let later = f64::from(self.back(self.period - steps));
        let changed = now + later - then;
        let half = f64::midpoint(now, changed);
        let weekly = week.map_or(half, |week| f64::midpoint(half, week));
        [now, changed, half, later, quick, slow, weekly]
    }

    /// What is remembered, in another unit.
    pub(super) fn rescale(&mut self, factor: f64) {
        let fresh = self.last.map(|_| self.back(0));
        for value in &mut self.ring {
            *value = in_bounds(f64::from(*value) * factor);
        }
        self.means = self.means.map(|mean| mean * factor);
        self.weeks.rescale(factor);
        #[cfg(feature = "augurs")]
        self.ets.forget();
        // The newest is told in the new unit already.
        if let Some(fresh) = fresh {
            self.ring[self.head] = fresh;
            self.means = [f64::from(fresh); SMOOTH.len()];
        }
    }

    /// The season that shows, of a day and a week.
    pub(super) fn season(&self) -> Option<Duration> {
        self.weeks.season()
    }

    /// Slots come one after the other; after a long gap what is older is not read.
    fn put(&mut self, slot: i64, value: f32) {
        if self.last != Some(slot) {
            self.filled = (self.filled + 1).min(self.ring.len());
            self.head = if self.head + 1 < self.ring.len() {
                self.head + 1
            } else {
                0
            };
        }
        self.ring[self.head] = value;
        self.last = Some(slot);
    }

    /// The value so many slots before the last; fewer than the ring is long.
    fn back(&self, age: usize) -> f32 {
        let wrap = if self.head < age { self.ring.len() } else { 0 };
        self.ring[self.head + wrap - age]
    }
}
