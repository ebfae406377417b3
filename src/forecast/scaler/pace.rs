//! How a scaler's load moves, learned from its own ratio.

use std::collections::VecDeque;
use std::time::Duration;

use statrs::distribution::{ContinuousCDF, Normal};

use crate::domain::time::Timestamp;

/// Half-life of what is learned, in observations: the five minutes of a stabilisation window.
const HALF_LIFE: f64 = 20.0;

/// Imagined observations at the start, and the relative change of the load per sync that they saw:
/// 10 % from one to the next, as for the middle one of the eleven recorded scalers.
const PRIOR: f64 = 6.0;
const PRIOR_MOVE: f64 = 0.12;

/// Observations of the longer of the two differences: two minutes at the default sync.
const LAG: usize = 8;

/// Part of the trend that is left after one more sync: trends of loads are short (prediction section
/// 2: straight extrapolation loses to persistence on all of 26 series).
const DAMP: f64 = 0.8;

/// Part of the distance to each new difference that the trend moves.
const FOLLOW: f64 = 0.08;

/// Differences of the load's logarithm. Their variance grows with the distance h as h^(2H)
/// (fractional Brownian motion: Mandelbrot and Van Ness 1968): 2H is near 0 for noise around a level,
/// 1 for a random walk, 2 for a load that keeps its direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// The last logarithms, newest last, at most [`LAG`].
    logs: VecDeque<f64>,
    last: Option<Timestamp>,
    trend: f64,
    /// Decayed sums of squared differences over 1 and [`LAG`] observations, and their weights.
    short: (f64, f64),
    long: (f64, f64),
}

impl Pace {
    /// Takes a load above or at zero, in pods' targets.
    pub(super) fn observe(&mut self, at: Timestamp, load: f64, sync: Duration) {
        // A tenth of a pod: an idle service is not infinitely far from a busy one.
        let log = load.max(0.1).ln();
        let sync_s = sync.as_secs_f64().max(1.0);
        let pause = self
            .last
            .replace(at)
            .map(|last| at.secs_since(last) / sync_s);
        if let (Some(pause), Some(before)) = (pause, self.logs.back()) {
            // Observations come with changes only: a longer pause is several syncs.
            let step = (log - before) / pause.max(1.0).sqrt();
            let keep = 0.5_f64.powf(1.0 / HALF_LIFE);
            let learn = |sum: &mut (f64, f64), squared: f64| {
                *sum = (sum.0 * keep + squared, sum.1 * keep + 1.0);
            };
            learn(&mut self.short, step * step);
            if let Some(old) = self.logs.front().filter(|_| self.logs.len() == LAG) {
                learn(&mut self.long, (log - old).powi(2));
            }
            self.trend += FOLLOW * (step - self.trend);
        }
        if self.logs.len() == LAG {
            self.logs.pop_front();
        }
        self.logs.push_back(log);
    }

    /// The load so many syncs ahead relative to now, at a probability.
    pub(super) fn factor(&self, syncs: usize, p: f64) -> f64 {
        let (short, power) = self.growth();
        let steps = syncs as f64;
        let trend = self.trend * DAMP * (1.0 - DAMP.powf(steps)) / (1.0 - DAMP);
        let z = Normal::standard().inverse_cdf(p.clamp(1e-4, 1.0 - 1e-4));
        let spread = (short * steps.powf(power)).sqrt();
        (trend + spread * z).clamp(-7.0, 7.0).exp()
    }

    /// The variance one sync ahead, and the power with which it grows.
    fn growth(&self) -> (f64, f64) {
        let lag = LAG as f64;
        let mean = |sum: (f64, f64), syncs: f64| {
            (sum.0 + PRIOR * syncs * PRIOR_MOVE * PRIOR_MOVE) / (sum.1 + PRIOR)
        };
        let (short, long) = (mean(self.short, 1.0), mean(self.long, lag));
        (short, ((long / short).ln() / lag.ln()).clamp(0.5, 1.8))
    }
}
