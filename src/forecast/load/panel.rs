//! Several ways to put an interval around a forecast, weighed level by level.
//!
//! An expert is a point forecast and a unit in which its errors are counted ([`residual`]). Which unit
//! is right depends on the series (noise of constant size, noise that comes in clusters, noise that
//! grows with the level) and on how far out is asked, so each level has weights of its own, from its
//! own decayed pinball loss: quantile averaging (Vincent 1912) with exponential weights (Cesa-Bianchi
//! and Lugosi 2006, chapter 2). One of the experts is persistence with the quantiles of its past
//! errors, so that nothing that is tried loses much against it.

use crate::forecast::load::residual::{Lanes, Residuals, WISHED};
use crate::forecast::load::scales::Scales;
use crate::forecast::load::{LARGEST, LEVELS, LOSS_MAX};

/// Experts: persistence in a constant unit, and the mixture in a constant unit, in two that follow the
/// last errors quickly and less so, and in one that follows the level.
pub(super) const EXPERTS: usize = 5;

/// What is left of losses after one more sample: half after a day of minutes (0.5^(1/1440)), because
/// outer levels speak rarely.
const KEEP: f32 = 0.999_519;

/// How hard an expert is punished for being worse than the best, as a power of its loss: one that loses
/// 2 % more has 28 % of its weight. Losses of outer levels differ by less than those of middles do.
const SHARPNESS: i32 = 64;

/// Outcomes beyond a level after which its losses are half believed.
const PATIENCE: f32 = 10.0;

/// Numbers at [`LEVELS`], by expert.
type Each = [Lanes; EXPERTS];

/// Where experts stood and the quantiles of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Of persistence and of the mixture.
    middles: [f64; 2],
    /// None before the first outcome: errors have no unit yet.
    units: Option<[f32; EXPERTS]>,
    quantiles: Each,
}

/// What is learned about the experts of one horizon.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    residuals: [Residuals; EXPERTS],
    scales: Scales,
    losses: Each,
    seen: f32,
    keep: f32,
    stride: f32,
}

// === impl Said ===

impl Said {
    /// Whether experts had a unit for their errors.
    pub(super) fn is_founded(&self) -> bool {
        self.units.is_some()
    }
}

// === impl Panel ===

impl Panel {
    /// With an outcome in so many samples; memory in time is the same with each.
    pub(super) fn new(stride: usize) -> Self {
        Self {
            residuals: std::array::from_fn(|_| Residuals::new(stride)),
            scales: Scales::default(),
            losses: Default::default(),
            seen: 0.0,
            keep: KEEP.powf(stride as f32),
            stride: stride as f32,
        }
    }

    /// What each says when persistence says `now` and the mixture `middle`, into `said`.
    pub(super) fn say(&self, now: f64, middle: f64, widening: f64, said: &mut Said) {
        said.middles = [now, middle];
        let units = self.scales.units(middle, widening);
        said.units = units.map(|units| units.map(|unit| unit.min(LARGEST) as f32));
        let units = said.units.unwrap_or_default();
        let from = [now as f32, middle as f32];
        for at in 0..EXPERTS {
            let from = from[usize::from(at > 0)];
            let quantiles = self.residuals[at].quantiles();
            said.quantiles[at] = quantiles.map(|z| from + units[at] * z);
        }
    }

    /// What they say together, never falling: where levels cross, because one is told by persistence and
    /// the next by the mixture just after a jump, they change places (Chernozhukov, Fernández-Val and
    /// Galichon 2010: never farther from the truth). Cut off instead, such an interval had no width.
    pub(super) fn together(&self, said: &Said) -> [f64; LEVELS.len()] {
        let mut together = [0.0; LEVELS.len()];
        for (level, value) in together.iter_mut().enumerate() {
            let weights = self.weights(level);
            let total: f64 = weights.iter().sum();
            let quantiles = said.quantiles.iter().map(|each| f64::from(each[level]));
            let sum: f64 = weights.iter().zip(quantiles).map(|(w, q)| w * q).sum();
            *value = sum / total;
        }
        together.sort_unstable_by(f64::total_cmp);
        together
    }

    /// The unit that follows the mixture's last errors; none before the first outcome.
    pub(super) fn unit(&self, widening: f64) -> Option<f64> {
        self.scales.following(widening)
    }

    /// Learns how large errors are, from what persistence and the mixture had said.
    pub(super) fn measure(&mut self, middles: [f64; 2], outcome: f64) {
        self.scales.observe(middles, outcome);
    }

    /// Learns from an outcome.
    pub(super) fn observe(&mut self, said: &Said, outcome: f64) {
        let Some(units) = said.units else {
            return;
        };
        let errors = said.middles.map(|middle| outcome - middle);
        self.seen = self.seen * self.keep + self.stride;
        for at in 0..EXPERTS {
            let error = errors[usize::from(at > 0)] as f32;
            let misses = said.quantiles[at].map(|bound| outcome as f32 - bound);
            self.residuals[at].observe(error / units[at], &misses);
            let losses = &mut self.losses[at];
            for level in 0..losses.len() {
                let (p, miss) = (WISHED[level], misses[level]);
                let loss = (p * miss).max((p - 1.0) * miss);
                losses[level] = losses[level] * self.keep + loss;
            }
        }
    }

    /// Units and losses so far, in another unit of the series.
    pub(super) fn rescale(&mut self, factor: f64) {
        self.scales.rescale(factor);
        for loss in self.losses.as_flattened_mut() {
            *loss = (*loss * factor as f32).min(LOSS_MAX as f32);
        }
    }

    /// What was seen counts half from now on.
    pub(super) fn shorten_memory(&mut self) {
        self.residuals
            .iter_mut()
            .for_each(Residuals::shorten_memory);
    }

    /// Relative to the best one's, which is 1.
    fn weights(&self, level: usize) -> [f64; EXPERTS] {
        let losses = self.losses.map(|losses| f64::from(losses[level]));
        let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
        if best <= 0.0 {
            return [1.0; EXPERTS];
        }
        let rare = LEVELS[level].min(1.0 - LEVELS[level]) as f32;
        let certainty = self.seen * rare / (self.seen * rare + PATIENCE);
        let certainty = f64::from(certainty);
        losses.map(|loss| (1.0 + certainty * (loss / best - 1.0)).powi(-SHARPNESS))
    }
}
