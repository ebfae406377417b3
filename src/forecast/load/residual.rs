//! How far off forecasts are: a scale that follows the series, quantiles in its units.

use std::sync::LazyLock;

use crate::forecast::load::LEVELS;

/// Half-life in samples of the slow mean of absolute errors: a day of minutes.
const SLOW: f64 = 1440.0;

/// Part of the quick mean in the scale (geometric): volatility comes in clusters, and a quiet
/// stretch ends without notice.
const QUICK_PART: f64 = 0.6;

/// Smallest scale, relative to nothing: errors of exactly zero must not make quantiles explode.
const SCALE_MIN: f64 = 1e-9;

/// Typical absolute error just now.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    keep: f64,
    means: Option<(f64, f64)>,
}

/// Bins per side, from 0.02 scales on, each 1.18 times the one before: up to 13.
const BINS: usize = 41;
const FIRST: f64 = 0.02;
const GROWTH: f64 = 1.18;

/// Weight of an error relative to the one before it: half is forgotten after 1,000 samples (2^0.001).
const GROWING: f32 = 1.000_693_4;

/// Imagined errors at the start, spread as of a Laplace distribution with mean size 1.
const PRIOR: f64 = 20.0;

/// Step of the adaptive conformal correction (Gibbs and Candès 2021), per level and scaled by how
/// rare its side is, so that outer levels do not jump.
const ADAPT: f64 = 0.02;

/// Decayed histogram of relative errors, with levels that are corrected towards their coverage.
#[derive(Clone, Debug)]
pub(super) struct Residuals {
    weights: [f32; 2 * BINS + 1],
    /// Their sum.
    total: f32,
    /// Weight of the next error: grows instead of all others shrinking.
    next: f32,
    /// The level that is asked of the histogram so that the wished one comes true.
    asked: [f64; LEVELS.len()],
    /// Where each asked level lies.
    places: [Place; LEVELS.len()],
}

/// A bin, and the weight of all bins below it: an error moves a level by a bin or two, so it is found
/// from where it was.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    bin: u8,
    below: f32,
}

// === impl Scale ===

impl Scale {
    /// The quick mean's weight of what is old, after each sample.
    pub(super) fn new(half_life: f64) -> Self {
        Self {
            keep: 0.5_f64.powf(1.0 / half_life),
            means: None,
        }
    }

    pub(super) fn now(&self) -> Option<f64> {
        let (quick, slow) = self.means?;
        let log = QUICK_PART * quick.ln() + (1.0 - QUICK_PART) * slow.ln();
        Some(log.exp().max(SCALE_MIN))
    }

    /// The slow mean alone: a unit that hardly changes.
    pub(super) fn slow(&self) -> Option<f64> {
        self.means.map(|(_, slow)| slow.max(SCALE_MIN))
    }

    pub(super) fn rescale(&mut self, factor: f64) {
        self.means = self
            .means
            .map(|(quick, slow)| (quick * factor, slow * factor));
    }

    pub(super) fn observe(&mut self, error: f64) {
        let (quick, slow) = self.means.unwrap_or((error, error));
        let slow_keep = 1.0 - std::f64::consts::LN_2 / SLOW;
        let follow = |mean: f64, keep: f64| mean + (error - mean) * (1.0 - keep);
        self.means = Some((follow(quick, self.keep), follow(slow, slow_keep)));
    }
}

// === impl Residuals ===

impl Default for Residuals {
    fn default() -> Self {
        let mut weights = [0.0_f32; 2 * BINS + 1];
        for (bin, weight) in weights.iter_mut().enumerate() {
            let width = edge(bin + 1) - edge(bin);
            *weight = (width * (-centre(bin).abs()).exp()) as f32;
        }
        let sum: f32 = weights.iter().sum();
        let scale = PRIOR as f32 / sum;
        for weight in &mut weights {
            *weight *= scale;
        }
        let mut residuals = Self {
            weights,
            total: PRIOR as f32,
            next: 1.0,
            asked: LEVELS,
            places: Default::default(),
        };
        residuals.find_places();
        residuals
    }
}

impl Residuals {
    /// Takes an error, in scales, and how its outcome lay to the bounds that were given.
    pub(super) fn observe(&mut self, error: f64, outcome: f64, bounds: &[f64; LEVELS.len()]) {
        self.next *= GROWING;
        let bin = bin(error);
        self.weights[bin] += self.next;
        self.total += self.next;
        for place in &mut self.places {
            if bin < usize::from(place.bin) {
                place.below += self.next;
            }
        }
        if self.next > 1e6 {
            let shrink = 1.0 / self.next;
            for weight in &mut self.weights {
                *weight *= shrink;
            }
            self.total = self.weights.iter().sum();
            self.next = 1.0;
            self.places = Default::default();
        }
        for ((asked, level), bound) in self.asked.iter_mut().zip(LEVELS).zip(bounds) {
            let above = f64::from(u8::from(outcome > *bound));
            let rare = level.min(1.0 - level);
            let moved = *asked + ADAPT * rare * (above - (1.0 - level));
            *asked = moved.clamp(0.0005, 0.9995);
        }
        self.find_places();
    }

    fn find_places(&mut self) {
        for (place, asked) in self.places.iter_mut().zip(self.asked) {
            let wanted = asked as f32 * self.total;
            let mut bin = usize::from(place.bin);
            while bin > 0 && place.below >= wanted {
                bin -= 1;
                place.below -= self.weights[bin];
            }
            while bin < 2 * BINS && place.below + self.weights[bin] < wanted {
                place.below += self.weights[bin];
                bin += 1;
            }
            place.bin = bin as u8;
        }
    }

    /// Error quantiles at [`LEVELS`], in scales, never falling.
    pub(super) fn quantiles(&self) -> [f64; LEVELS.len()] {
        let mut quantiles = [0.0; LEVELS.len()];
        let mut floor = f64::NEG_INFINITY;
        for (at, quantile) in quantiles.iter_mut().enumerate() {
            let Place { bin, below } = self.places[at];
            let bin = usize::from(bin);
            let wanted = self.asked[at] as f32 * self.total;
            let weight = self.weights[bin].max(f32::MIN_POSITIVE);
            let share = ((wanted - below) / weight).clamp(0.0, 1.0);
            let (low, high) = (EDGES[bin], EDGES[bin + 1]);
            floor = floor.max(low + (high - low) * f64::from(share));
            *quantile = floor;
        }
        quantiles
    }

    /// What was seen counts half from now on.
    pub(super) fn shorten_memory(&mut self) {
        self.next *= 2.0;
    }
}

fn bin(error: f64) -> usize {
    let size = error.abs() / FIRST;
    if size < 1.0 || !size.is_finite() {
        return if size.is_finite() { BINS } else { 2 * BINS };
    }
    let step = (1.0 + size.ln() / GROWTH.ln()).floor() as usize;
    let step = step.clamp(1, BINS);
    if error > 0.0 {
        BINS + step
    } else {
        BINS - step
    }
}

/// Edges of all bins: asked for hundreds of times per sample.
static EDGES: LazyLock<[f64; 2 * BINS + 2]> = LazyLock::new(|| std::array::from_fn(edge));

/// Lower edge of a bin; bin `BINS` lies around zero.
fn edge(bin: usize) -> f64 {
    let of = |step: usize| FIRST * GROWTH.powi(step as i32);
    if bin <= BINS {
        -of(BINS - bin)
    } else {
        of(bin - BINS - 1)
    }
}

fn centre(bin: usize) -> f64 {
    f64::midpoint(edge(bin), edge(bin + 1))
}
