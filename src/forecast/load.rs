//! One load series, minutes ahead: an online mixture of simple forecasts with honest intervals.
//!
//! Members are persistence, yesterday's change, the mean of the two, yesterday's value, two exponential
//! means and last week's change: on 26 real series nothing heavier beat them at 5 to 15 minutes
//! (prediction section 2). Each horizon has weights of its own ([`mixture`]). Quantiles come from
//! several experts, which count past errors in different units and are weighed level by level
//! ([`panel`], [`residual`]). A burst ([`burst`]) shortens memory and widens intervals; a change of
//! unit is taken over ([`units`]); a week is kept in quarters of an hour ([`weeks`]).
//!
//! With the default settings a series takes 31 KB, a sample 8 microseconds and a forecast 2 (two slow
//! cores, optimised): 1,000 series are 31 MB. Nothing grows.
//!
//! Pinball loss relative to persistence with residual quantiles, p90 and p99, 5 to 15 minutes ahead,
//! geometric mean: 0.79 on the 48 series that were tuned on (crane, microsoft, cluster-pool; minutes
//! and five minutes), 0.86 on those of NAB, on which nothing was chosen.
//!
//! The feature `augurs` adds exponential smoothing with a trend to the members ([`mixture`]): 0.8548
//! instead of 0.8552 on NAB, for fifty times the time per sample.

mod burst;
#[cfg(feature = "augurs")]
mod ets;
mod grid;
mod mixture;
mod panel;
mod residual;
#[cfg(test)]
mod tests;
mod units;
mod weeks;

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::forecast::load::burst::Burst;
use crate::forecast::load::grid::{Grid, Taken};
use crate::forecast::load::mixture::{MEMBERS, Mixture};
use crate::forecast::load::panel::{Panel, Said, Stand};
use crate::forecast::load::units::Units;

/// How a series is read.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSettings {
    /// Time between two samples; the grid that irregular ones are put on.
    pub step: Duration,
    /// Length of the season; a day unless something else is known.
    pub period: Duration,
    /// How far ahead is asked, in steps, ascending.
    pub horizons: Vec<usize>,
}

/// A forecast for one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadForecast {
    /// The mixture's point forecast.
    pub middle: f64,
    /// Quantiles, ascending, at [`LEVELS`].
    quantiles: [f64; LEVELS.len()],
    /// Whether the series was ever below zero; if not, no quantile is.
    signed: bool,
}

/// Levels at which intervals are kept honest: bounds of the 50, 90 and 98 % intervals.
pub const LEVELS: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// Forecasts one series.
#[derive(Clone, Debug)]
pub struct LoadForecaster {
    settings: LoadSettings,
    grid: Grid,
    burst: Burst,
    units: Units,
    signed: bool,
    horizons: Vec<Horizon>,
}

/// What is learned for one horizon.
#[derive(Clone, Debug)]
struct Horizon {
    steps: usize,
    mixture: Mixture,
    panel: Panel,
    /// Forecasts whose instant has not come, oldest first; at most `steps` of them.
    open: VecDeque<Open>,
}

/// A forecast that waits for its outcome.
#[derive(Clone, Debug)]
struct Open {
    slot: i64,
    members: [f64; MEMBERS],
    stand: Stand,
    said: Said,
}

impl Default for LoadSettings {
    /// A minute's grid, daily season, 1 to 15 minutes ahead.
    fn default() -> Self {
        Self {
            step: Duration::from_mins(1),
            period: Duration::from_hours(24),
            horizons: vec![1, 5, 10, 15],
        }
    }
}

// === impl LoadForecast ===

impl LoadForecast {
    /// The value that is not exceeded with probability `p` (0 to 1); between the kept levels the
    /// line through them, beyond them the outermost.
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        let above = LEVELS.iter().position(|level| *level >= p);
        let value = match above {
            Some(0) => self.quantiles[0],
            None => self.quantiles[LEVELS.len() - 1],
            Some(at) => {
                let (low, high) = (LEVELS[at - 1], LEVELS[at]);
                let share = (p - low) / (high - low);
                let (from, until) = (self.quantiles[at - 1], self.quantiles[at]);
                // Rounding must not lift it above the level itself.
                (from + (until - from) * share).min(until)
            }
        };
        if self.signed { value } else { value.max(0.0) }
    }
}

// === impl LoadForecaster ===

impl LoadForecaster {
    /// Nothing known yet.
    #[must_use]
    pub fn new(settings: LoadSettings) -> Self {
        let longest = settings.horizons.iter().copied().max().unwrap_or(0);
        let horizons = settings.horizons.iter().map(|steps| Horizon::new(*steps));
        Self {
            grid: Grid::new(settings.step, settings.period, longest),
            burst: Burst::default(),
            units: Units::default(),
            signed: false,
            horizons: horizons.collect(),
            settings,
        }
    }

    /// Takes a sample. One that is not finite, or older than the last, is left out; missing ones are
    /// bridged by the last value, for the season's sake, and never counted as outcomes.
    pub fn observe(&mut self, at: Timestamp, value: f64) {
        if !value.is_finite() {
            return;
        }
        let slot = match self.grid.take(at, value) {
            Taken::New(slot) => slot,
            Taken::Old | Taken::Same => return,
        };
        self.signed |= value < 0.0;
        if let Some(factor) = self.units.observe(value) {
            self.grid.rescale(factor);
            self.burst.end();
            for horizon in &mut self.horizons {
                horizon.rescale(factor);
            }
        }
        let jumped = self.burst.is_on();
        for horizon in &mut self.horizons {
            if let Some(error) = horizon.settle(slot, value)
                && horizon.steps == 1
            {
                self.burst.observe(error);
            }
        }
        if self.burst.is_on() && !jumped {
            self.horizons.iter_mut().for_each(Horizon::shorten_memory);
        }
        for horizon in &mut self.horizons {
            horizon.open(&self.grid, slot, self.burst.widening());
        }
    }

    /// The forecast for so long after the last sample, by the nearest horizon that is not shorter;
    /// none before that horizon has seen an outcome.
    #[must_use]
    pub fn forecast(&self, ahead: Duration) -> Option<LoadForecast> {
        let step_s = self.settings.step.as_secs_f64().max(1e-3);
        let steps = (ahead.as_secs_f64() / step_s).ceil() as usize;
        let horizon = self
            .horizons
            .iter()
            .find(|horizon| horizon.steps >= steps)
            .or(self.horizons.last())?;
        let members = self.grid.members(horizon.steps)?;
        let middle = horizon.mixture.middle(&members);
        let stand = horizon
            .panel
            .stand(members[0], middle, self.burst.widening());
        stand.scales?;
        Some(LoadForecast {
            middle,
            quantiles: horizon.panel.together(&horizon.panel.say(&stand)),
            signed: self.signed,
        })
    }

    /// The season that the series shows, of a day and a week; none before it was seen twice.
    #[must_use]
    pub fn season(&self) -> Option<Duration> {
        self.grid.season()
    }

    /// The last sample's instant, on the grid.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        self.grid.last()
    }
}

// === impl Horizon ===

impl Horizon {
    fn new(steps: usize) -> Self {
        Self {
            steps,
            mixture: Mixture::default(),
            panel: Panel::default(),
            open: VecDeque::with_capacity(steps),
        }
    }

    /// Learns from the forecast that was made for this slot; its error in units of its scale.
    fn settle(&mut self, slot: i64, value: f64) -> Option<f64> {
        while self.open.front().is_some_and(|open| open.slot < slot) {
            self.open.pop_front();
        }
        let open = self.open.pop_front_if(|open| open.slot == slot)?;
        self.mixture.observe(&open.members, value);
        self.panel.observe(&open.stand, &open.said, value)
    }

    fn open(&mut self, grid: &Grid, slot: i64, widening: f64) {
        let Some(members) = grid.members(self.steps) else {
            return;
        };
        let middle = self.mixture.middle(&members);
        let stand = self.panel.stand(members[0], middle, widening);
        let said = self.panel.say(&stand);
        self.open.push_back(Open {
            slot: slot + self.steps as i64,
            members,
            stand,
            said,
        });
    }

    /// What was said in the old unit is not scored; what was learned holds in the new one.
    fn rescale(&mut self, factor: f64) {
        self.open.clear();
        self.mixture.rescale(factor);
        self.panel.rescale(factor);
    }

    /// What was said before a burst tells nothing of who is good after it.
    fn shorten_memory(&mut self) {
        self.open.clear();
        self.mixture.shorten_memory();
        self.panel.shorten_memory();
    }
}
