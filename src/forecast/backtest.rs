//! Rolling-origin evaluation of load forecasts, with persistence as the opponent.

pub mod arrival;
pub mod calibration;
pub mod scaler;

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::forecast::load::{LoadForecaster, LoadSettings};

/// Levels that are scored: those that staging asks for.
pub const SCORED: [f64; 2] = [0.9, 0.99];

/// Residuals that the baseline's quantiles are taken from: a day of minutes.
const BASELINE_RESIDUALS: usize = 1440;

/// How one series was forecast at one horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Steps ahead.
    pub steps: usize,
    /// Outcomes that were scored.
    pub outcomes: usize,
    /// Mean pinball loss at [`SCORED`], in the series' unit.
    pub pinball: [f64; SCORED.len()],
    /// The same for persistence with the quantiles of its last day's errors.
    pub baseline: [f64; SCORED.len()],
    /// Share of outcomes within the 90 % interval.
    pub coverage: f64,
    /// Mean width of that interval, relative to the baseline's.
    pub sharpness: f64,
}

impl Score {
    /// Pinball loss relative to the baseline's, per level of [`SCORED`]; 1 where both lose nothing.
    #[must_use]
    pub fn ratios(&self) -> [f64; SCORED.len()] {
        let mut ratios = self.pinball;
        for (ratio, base) in ratios.iter_mut().zip(self.baseline) {
            *ratio = if base > 0.0 { *ratio / base } else { 1.0 };
        }
        ratios
    }
}

/// Pinball loss of saying that the `level` quantile is `quantile`.
#[must_use]
pub fn pinball(level: f64, quantile: f64, outcome: f64) -> f64 {
    let miss = outcome - quantile;
    if miss >= 0.0 {
        level * miss
    } else {
        (level - 1.0) * miss
    }
}

/// Feeds regular samples in order; scores every forecast that was made after `warm_up` samples. At
/// each instant only earlier samples are known.
#[must_use]
pub fn backtest(samples: &[f64], settings: &LoadSettings, warm_up: usize) -> Vec<Score> {
    let horizons = settings.horizons.iter();
    horizons
        .map(|steps| one_horizon(samples, settings, *steps, warm_up))
        .collect()
}

fn one_horizon(samples: &[f64], settings: &LoadSettings, steps: usize, warm_up: usize) -> Score {
    let mut forecaster = LoadForecaster::new(LoadSettings {
        // The first horizon drives the burst detector.
        horizons: if steps == 1 { vec![1] } else { vec![1, steps] },
        ..settings.clone()
    });
    let ahead = settings.step * u32::try_from(steps).unwrap_or(u32::MAX);
    let mut sum = Sum::default();
    let mut errors = Recent::default();
    for (now, sample) in samples.iter().enumerate() {
        forecaster.observe(instant(settings.step, now), *sample);
        if now >= steps {
            errors.push(sample - samples[now - steps]);
        }
        let Some(outcome) = samples.get(now + steps).filter(|_| now >= warm_up) else {
            continue;
        };
        let Some(forecast) = forecaster.forecast(ahead) else {
            continue;
        };
        let ours = |p: f64| forecast.quantile(p);
        let base = |p: f64| sample + errors.quantile(p);
        sum.add(ours, base, *outcome);
    }
    sum.score(steps)
}

fn instant(step: Duration, index: usize) -> Timestamp {
    Timestamp::ZERO + step * u32::try_from(index).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Sum {
    outcomes: usize,
    ours: [f64; SCORED.len()],
    base: [f64; SCORED.len()],
    inside: usize,
    widths: (f64, f64),
}

impl Sum {
    fn add(&mut self, ours: impl Fn(f64) -> f64, base: impl Fn(f64) -> f64, outcome: f64) {
        self.outcomes += 1;
        for (at, level) in SCORED.into_iter().enumerate() {
            self.ours[at] += pinball(level, ours(level), outcome);
            self.base[at] += pinball(level, base(level), outcome);
        }
        let (low, high) = (ours(0.05), ours(0.95));
        self.inside += usize::from(low <= outcome && outcome <= high);
        self.widths.0 += high - low;
        self.widths.1 += base(0.95) - base(0.05);
    }

    fn score(self, steps: usize) -> Score {
        let of = |total: f64| total / self.outcomes.max(1) as f64;
        Score {
            steps,
            outcomes: self.outcomes,
            pinball: self.ours.map(of),
            baseline: self.base.map(of),
            coverage: of(self.inside as f64),
            sharpness: if self.widths.1 > 0.0 {
                self.widths.0 / self.widths.1
            } else {
                1.0
            },
        }
    }
}

/// The last errors, in order of time and of size.
#[derive(Default)]
struct Recent {
    by_time: VecDeque<f64>,
    by_size: Vec<f64>,
}

impl Recent {
    fn push(&mut self, error: f64) {
        let place = |sorted: &[f64], value: f64| sorted.partition_point(|known| *known < value);
        if self.by_time.len() == BASELINE_RESIDUALS
            && let Some(oldest) = self.by_time.pop_front()
        {
            self.by_size.remove(place(&self.by_size, oldest));
        }
        self.by_time.push_back(error);
        self.by_size.insert(place(&self.by_size, error), error);
    }

    /// Linear between order statistics; 0 where nothing was seen.
    fn quantile(&self, p: f64) -> f64 {
        let Some(last) = self.by_size.len().checked_sub(1) else {
            return 0.0;
        };
        let at = p * last as f64;
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        self.by_size[low] + (self.by_size[high] - self.by_size[low]) * at.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinball_loss_is_least_at_the_quantile_itself() {
        let outcomes: Vec<f64> = (0..100).map(f64::from).collect();
        let loss =
            |quantile: f64| -> f64 { outcomes.iter().map(|y| pinball(0.9, quantile, *y)).sum() };
        assert!(loss(90.0) < loss(80.0) && loss(90.0) < loss(97.0));
    }

    #[test]
    fn a_walk_without_memory_is_not_beaten_and_a_season_is() {
        let mut at = 0.0;
        let walk: Vec<f64> = (0..6000_u64)
            .map(|i| {
                let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
                let mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11;
                at += mixed as f64 / (1_u64 << 52) as f64 - 1.0;
                at + 1000.0
            })
            .collect();
        let wave: Vec<f64> = (0..6000)
            .map(|i| 100.0 * (f64::from(i) / 1440.0 * std::f64::consts::TAU).sin() + 200.0)
            .collect();
        let settings = LoadSettings::default();
        let ratio = |samples: &[f64]| backtest(samples, &settings, 3000)[1].ratios()[0];
        assert!((0.9..1.2).contains(&ratio(&walk)), "{}", ratio(&walk));
        assert!(ratio(&wave) < 0.5, "{}", ratio(&wave));
    }
}
