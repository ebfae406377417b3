//! One load series, minutes ahead: an online mixture of simple forecasts with honest intervals.
//!
//! Members are persistence, yesterday's change, the mean of the two, yesterday's value, two exponential
//! means and last week's change: on 26 real series nothing heavier beat them at 5 to 15 minutes
//! (prediction section 2). Each horizon has weights of its own ([`mixture`]). Quantiles come from
//! several experts, which count past errors in different units and are weighed level by level
//! ([`panel`], [`residual`]). A burst ([`burst`]) shortens memory and widens intervals; a change of
//! unit is taken over ([`units`]); a week is kept in quarters of an hour ([`weeks`]).
//!
//! With the default settings a series takes 28 KB, a sample 0.6 microseconds among hundreds of series and
//! a forecast 0.3 (two slow cores, optimised): 1,000 series are 28 MB. Nothing grows. Samples wait until
//! some are together ([`WAITING`]); of a long horizon's intervals a part is scored ([`horizon`]).
//!
//! Pinball loss relative to persistence with residual quantiles, p90 and p99, 5 to 15 minutes ahead,
//! geometric mean: 0.79 on the 48 series that were tuned on (crane, microsoft, cluster-pool; minutes
//! and five minutes), 0.86 on those of NAB, on which nothing was chosen.
//!
//! The feature `augurs` adds exponential smoothing with a trend to the members ([`mixture`]): 0.854 instead
//! of 0.856 on NAB, for some hundred times the time per sample.

mod burst;
#[cfg(feature = "augurs")]
mod ets;
mod grid;
mod horizon;
mod learner;
mod mixture;
mod panel;
mod residual;
mod scales;
#[cfg(test)]
mod tests;
mod units;
mod weeks;

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::forecast::load::learner::Learner;

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

/// Samples that wait for being learned from together. A sample touches kilobytes of a series' state, which
/// among hundreds of series are in no cache: that was half of a sample's time, and sixteen at once leave a
/// tenth.
const WAITING: usize = 16;

/// Largest size of a sample, and of one of the past in a new unit; a day's sum of losses of that size has
/// room in single precision.
const LARGEST: f64 = 1e20;
const LOSS_MAX: f64 = 1e30;

/// Forecasts one series. Samples are kept at first, and learned from when some are together or somebody
/// asks.
#[derive(Clone, Debug)]
pub struct LoadForecaster {
    learner: Learner,
    waiting: [(Timestamp, f64); WAITING],
    /// How many wait.
    count: usize,
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

/// In single precision; nothing seen (NaN) stays so.
fn in_bounds(value: f64) -> f32 {
    value.clamp(-LARGEST, LARGEST) as f32
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
        Self {
            learner: Learner::new(settings),
            waiting: [(Timestamp::ZERO, 0.0); WAITING],
            count: 0,
        }
    }

    /// Takes a sample. One that is not finite, beyond 1e20, or older than the last, is left out; missing
    /// ones are bridged by the last value, for the season's sake, and never counted as outcomes.
    pub fn observe(&mut self, at: Timestamp, value: f64) {
        // Neither is NaN.
        if value.abs() <= LARGEST {
            self.waiting[self.count] = (at, value);
            self.count += 1;
            if self.count == WAITING {
                self.learn();
            }
        }
    }

    /// The forecast for so long after the last sample, by the nearest horizon that is not shorter;
    /// none before that horizon has seen an outcome.
    #[must_use]
    pub fn forecast(&mut self, ahead: Duration) -> Option<LoadForecast> {
        self.learn();
        self.learner.forecast(ahead)
    }

    /// The season that the series shows, of a day and a week; none before it was seen twice.
    #[must_use]
    pub fn season(&mut self) -> Option<Duration> {
        self.learn();
        self.learner.season()
    }

    /// The last sample's instant, on the grid.
    #[must_use]
    pub fn last(&mut self) -> Option<Timestamp> {
        self.learn();
        self.learner.last()
    }

    /// From what waits, in the order in which it came: the same as from each at once.
    fn learn(&mut self) {
        for (at, value) in &self.waiting[..self.count] {
            self.learner.observe(*at, *value);
        }
        self.count = 0;
    }
}
