//! Several ways to put an interval around a forecast, weighed level by level.
//!
//! An expert is a point forecast and a unit in which its errors are counted ([`residual`]). Which unit
//! is right depends on the series (noise of constant size, noise that comes in clusters, noise that
//! grows with the level) and on how far out is asked, so each level has weights of its own, from its
//! own decayed pinball loss: quantile averaging (Vincent 1912) with exponential weights (Cesa-Bianchi
//! and Lugosi 2006, chapter 2). One of the experts is persistence with the quantiles of its past
//! errors, so that nothing that is tried loses much against it.

use crate::forecast::load::LEVELS;
use crate::forecast::load::residual::{Residuals, Scale};

/// Experts: persistence in a constant unit, and the mixture in a constant unit, in two that follow the
/// last errors quickly and less so, and in one that follows the level.
pub(super) const EXPERTS: usize = 5;

/// Half-lives in samples of the units that follow the last errors.
const FOLLOW: [f64; 2] = [8.0, 40.0];

/// What is left of losses after one more sample: half after a day of minutes (0.5^(1/1440)), because
/// outer levels speak rarely.
const KEEP: f64 = 0.999_519;

/// How hard an expert is punished for being worse than the best: one that loses 2 % more has a third
/// of its weight. Losses of outer levels differ by less than those of middles do.
const SHARPNESS: f64 = 60.0;

/// Outcomes beyond a level after which its losses are half believed.
const PATIENCE: f64 = 10.0;

/// Quantiles of each expert at [`LEVELS`].
pub(super) type Said = [[f32; LEVELS.len()]; EXPERTS];

/// What is learned about the experts of one horizon.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    residuals: [Residuals; EXPERTS],
    constant: [Scale; 2],
    following: [Scale; FOLLOW.len()],
    level: Scale,
    losses: [[f64; LEVELS.len()]; EXPERTS],
    seen: f64,
}

/// Point forecasts that experts stand on, and the units of their errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) middles: [f64; EXPERTS],
    /// None before the first outcome: errors have no unit yet.
    pub(super) scales: Option<[f64; EXPERTS]>,
}

impl Default for Panel {
    fn default() -> Self {
        let slow = || Scale::new(FOLLOW[1]);
        Self {
            residuals: Default::default(),
            constant: [slow(), slow()],
            following: FOLLOW.map(Scale::new),
            level: slow(),
            losses: [[0.0; LEVELS.len()]; EXPERTS],
            seen: 0.0,
        }
    }
}

impl Panel {
    /// Where the experts stand when persistence says `now` and the mixture `middle`.
    pub(super) fn stand(&self, now: f64, middle: f64, widening: f64) -> Stand {
        let scales = (|| {
            let level = self.level.slow()? * (middle.abs() + self.constant[1].slow()?);
            let scales = [
                self.constant[0].slow()?,
                self.constant[1].slow()?,
                self.following[0].now()?,
                self.following[1].now()?,
                level,
            ];
            // In a burst nobody's errors are as small as they were.
            let least = if widening > 1.0 { scales[2] } else { 0.0 };
            Some(scales.map(|scale| scale.max(least) * widening))
        })();
        Stand {
            middles: [now, middle, middle, middle, middle],
            scales,
        }
    }

    /// What each says.
    pub(super) fn say(&self, stand: &Stand) -> Said {
        let mut said = [[0.0; LEVELS.len()]; EXPERTS];
        for (at, said) in said.iter_mut().enumerate() {
            let scale = stand.scales.map_or(0.0, |scales| scales[at]);
            let quantiles = self.residuals[at].quantiles();
            *said = quantiles.map(|z| (stand.middles[at] + scale * z) as f32);
        }
        said
    }

    /// What they say together, never falling.
    pub(super) fn together(&self, said: &Said) -> [f64; LEVELS.len()] {
        let mut together = [0.0; LEVELS.len()];
        let mut floor = f64::NEG_INFINITY;
        for (level, value) in together.iter_mut().enumerate() {
            let weights = self.weights(level);
            let mean = (0..EXPERTS).map(|at| weights[at] * f64::from(said[at][level]));
            floor = floor.max(mean.sum());
            *value = floor;
        }
        together
    }

    /// Learns from an outcome; the error of the mixture in the unit that follows the last errors,
    /// where there was one.
    pub(super) fn observe(&mut self, stand: &Stand, said: &Said, outcome: f64) -> Option<f64> {
        let errors = stand.middles.map(|middle| outcome - middle);
        self.constant[0].observe(errors[0].abs());
        self.constant[1].observe(errors[1].abs());
        for scale in &mut self.following {
            scale.observe(errors[1].abs());
        }
        let size =
            stand.middles[1].abs().max(outcome.abs()) + self.constant[1].slow().unwrap_or(0.0);
        if size > 0.0 {
            self.level.observe(errors[1].abs() / size);
        }
        let scales = stand.scales?;
        self.seen = self.seen * KEEP + 1.0;
        for at in 0..EXPERTS {
            let bounds = said[at].map(f64::from);
            self.residuals[at].observe(errors[at] / scales[at], outcome, &bounds);
            for (level, p) in LEVELS.into_iter().enumerate() {
                let miss = outcome - bounds[level];
                let loss = if miss >= 0.0 {
                    p * miss
                } else {
                    (p - 1.0) * miss
                };
                let sum = &mut self.losses[at][level];
                *sum = *sum * KEEP + loss;
            }
        }
        Some(errors[3] / scales[3])
    }

    /// Units and losses so far, in another unit of the series.
    pub(super) fn rescale(&mut self, factor: f64) {
        let constant = self.constant.iter_mut().chain(&mut self.following);
        constant.for_each(|scale| scale.rescale(factor));
        for losses in &mut self.losses {
            *losses = losses.map(|loss| loss * factor);
        }
    }

    /// What was seen counts half from now on.
    pub(super) fn shorten_memory(&mut self) {
        self.residuals
            .iter_mut()
            .for_each(Residuals::shorten_memory);
    }

    fn weights(&self, level: usize) -> [f64; EXPERTS] {
        let losses = self.losses.map(|losses| losses[level]);
        let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let rare = LEVELS[level].min(1.0 - LEVELS[level]);
        let certainty = self.seen * rare / (self.seen * rare + PATIENCE);
        let raw = losses.map(|loss| {
            let worse = if best > 0.0 { loss / best - 1.0 } else { 0.0 };
            (-SHARPNESS * certainty * worse).exp()
        });
        let sum: f64 = raw.iter().sum();
        raw.map(|weight| weight / sum)
    }
}
