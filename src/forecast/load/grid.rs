//! Samples on a regular grid, one period of them.

use std::time::Duration;

use crate::domain::time::Timestamp;
#[cfg(feature = "augurs")]
use crate::forecast::load::ets::Ets;
use crate::forecast::load::mixture::{MEMBERS, OWN};
use crate::forecast::load::weeks::Weeks;

/// The last period's samples, one slot per step, in a ring.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    step_us: i64,
    period: usize,
    ring: Vec<f32>,
    weeks: Weeks,
    last: Option<i64>,
    /// Exponential means with [`SMOOTH`] as half-lives.
    means: [f64; SMOOTH.len()],
    /// Slots since the first sample, or since the last gap that was too long to bridge.
    filled: usize,
    #[cfg(feature = "augurs")]
    ets: Ets,
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

/// Half-lives in samples of the two exponential means: noise around a level is what they are good
/// at, and persistence is not.
const SMOOTH: [f64; 2] = [3.0, 12.0];

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
            let held = self.at(last);
            for bridged in last + 1..slot {
                self.put(bridged, held);
            }
        }
        self.put(slot, value);
        for (mean, half_life) in self.means.iter_mut().zip(SMOOTH) {
            *mean += (f64::from(value) - *mean) * (1.0 - 0.5_f64.powf(1.0 / half_life));
        }
        #[cfg(feature = "augurs")]
        self.fit(slot);
        Taken::New(slot)
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        let last = self.last?;
        Some(Timestamp::from_micros(last.saturating_mul(self.step_us)))
    }

    /// What each member says of the slot so many steps after the last; none before two samples.
    pub(super) fn members(&self, steps: usize) -> Option<[f64; MEMBERS]> {
        let own = self.own(steps)?;
        let mut members = [own[0]; MEMBERS];
        members[..OWN].copy_from_slice(&own);
        #[cfg(feature = "augurs")]
        {
            members[OWN] += self.ets.change(steps);
        }
        Some(members)
    }

    /// A fit of the feature's member, where it is time for one.
    #[cfg(feature = "augurs")]
    fn fit(&mut self, slot: i64) {
        let mut ets = std::mem::take(&mut self.ets);
        let longest = self.ring.len() - self.period - 1;
        ets.observe(longest, |most| {
            let count = most.min(self.filled).min(self.ring.len()) as i64;
            (slot - count + 1..=slot)
                .map(|at| f64::from(self.at(at)))
                .collect()
        });
        self.ets = ets;
    }

    fn own(&self, steps: usize) -> Option<[f64; OWN]> {
        let last = self.last.filter(|_| self.filled > 1)?;
        let now = f64::from(self.at(last));
        let [quick, slow] = self.means;
        let now_us = last.saturating_mul(self.step_us);
        let ahead_us = (steps as i64).saturating_mul(self.step_us);
        let week = self.weeks.change(now_us, ahead_us);
        if self.filled <= self.period || steps > self.period {
            let weekly = week.map_or(now, |change| now + change);
            return Some([now, now, now, now, quick, slow, weekly]);
        }
        let before = last - self.period as i64;
        let then = f64::from(self.at(before));
        let later = f64::from(self.at(before + steps as i64));
        let changed = now + later - then;
        let half = f64::midpoint(now, changed);
        Some([
            now,
            changed,
            half,
            later,
            quick,
            slow,
            week.map_or(half, |change| f64::midpoint(half, now + change)),
        ])
    }

    /// What is remembered, in another unit.
    pub(super) fn rescale(&mut self, factor: f64) {
        let fresh = self.last.map(|last| self.at(last));
        for value in &mut self.ring {
            *value *= factor as f32;
        }
        self.means = self.means.map(|mean| mean * factor);
        self.weeks.rescale(factor);
        #[cfg(feature = "augurs")]
        self.ets.forget();
        // The newest is told in the new unit already.
        if let (Some(last), Some(fresh)) = (self.last, fresh) {
            let at = self.place(last);
            self.ring[at] = fresh;
            self.means = [f64::from(fresh); SMOOTH.len()];
        }
    }

    /// The season that shows, of a day and a week.
    pub(super) fn season(&self) -> Option<Duration> {
        self.weeks.season()
    }

    fn put(&mut self, slot: i64, value: f32) {
        if self.last != Some(slot) {
            self.filled = (self.filled + 1).min(self.ring.len());
        }
        let at = self.place(slot);
        self.ring[at] = value;
        self.last = Some(slot);
    }

    fn at(&self, slot: i64) -> f32 {
        self.ring[self.place(slot)]
    }

    fn place(&self, slot: i64) -> usize {
        slot.rem_euclid(self.ring.len() as i64) as usize
    }
}
