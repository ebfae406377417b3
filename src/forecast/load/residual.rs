//! How far off forecasts are: quantiles of errors, in units of the usual one.

use crate::forecast::load::LEVELS;

/// Bins per side: four in an octave, whose edges are even in it, from 1/64 of a scale to 16. A number's
/// first bits tell its bin, without a logarithm.
const BINS: usize = 40;
/// Bits of a number below those that tell its bin: all but two of the mantissa's 23.
const FINE: u32 = 21;
/// What is above those bits at the first bin's lower edge, 2^-6.
const FIRST: u32 = (127 - 6) << 2;

/// What one sample adds to the weight of the next error: half is forgotten after 1,000 (2^0.001).
const GROWING: f32 = 1.000_693_4;

/// Imagined errors at the start, spread as of a Laplace distribution with mean size 1.
const PRIOR: f32 = 20.0;

/// Step of the adaptive conformal correction (Gibbs and Candès 2021), per level and scaled by how
/// rare its side is, so that outer levels do not jump. Per outcome, however many samples lie between two:
/// multiplied by their number, 14 real series lost 0.4 % more.
const ADAPT: f64 = 0.02;

/// How far the correction goes.
const ASKED: (f32, f32) = (0.0005, 0.9995);

/// A number for each of [`LEVELS`], and one for nobody: two vectors of four without a rest.
pub(super) type Lanes = [f32; LEVELS.len() + 1];

/// Decayed histogram of relative errors, with levels that are corrected towards their coverage.
#[derive(Clone, Debug)]
pub(super) struct Residuals {
    weights: [f32; 2 * BINS + 1],
    /// Their sum.
    total: f32,
    /// Weight of the next error per sample: grows instead of all others shrinking.
    next: f32,
    /// What it grows by from one error to the next, and the samples that an error stands for.
    growing: f32,
    samples: f32,
    /// The level that is asked of the histogram so that the wished one comes true.
    asked: Lanes,
    places: Places,
    /// The level whose place was looked at last: one in turn with each error.
    turn: usize,
}

/// The bins where asked levels lie: an error in twenty moves a level by a bin, so they are found from where
/// they were.
#[derive(Clone, Debug, Default)]
struct Places {
    bins: [i32; LEVELS.len() + 1],
    /// Weight of all bins below, and of this one.
    below: Lanes,
    here: Lanes,
    /// Lower edge and width.
    low: Lanes,
    width: Lanes,
}

// === impl Residuals ===

impl Residuals {
    /// With an outcome in so many samples; memory in time is the same with each.
    pub(super) fn new(stride: usize) -> Self {
        let mut weights = [0.0_f32; 2 * BINS + 1];
        for (bin, weight) in weights.iter_mut().enumerate() {
            let (low, high) = (EDGES[bin], EDGES[bin + 1]);
            *weight = (high - low) * (-f32::midpoint(low, high).abs()).exp();
        }
        let sum: f32 = weights.iter().sum();
        for weight in &mut weights {
            *weight *= PRIOR / sum;
        }
        let mut residuals = Self {
            weights,
            total: PRIOR,
            next: 1.0,
            growing: GROWING.powf(stride as f32),
            samples: stride as f32,
            asked: WISHED,
            places: Places::default(),
            turn: 0,
        };
        residuals.find_all();
        residuals
    }

    /// Takes an error, in scales, and how far above the bounds that were given its outcome lay.
    pub(super) fn observe(&mut self, error: f32, misses: &Lanes) {
        self.next *= self.growing;
        let bin = bin(error);
        let weight = self.next * self.samples;
        self.weights[bin] += weight;
        self.total += weight;
        self.places.weigh(bin as i32, weight);
        for (at, asked) in self.asked.iter_mut().enumerate() {
            let step = if misses[at] > 0.0 { UP[at] } else { DOWN[at] };
            *asked = (*asked + step).clamp(ASKED.0, ASKED.1);
        }
        if self.next > 1e6 {
            let shrink = 1.0 / self.next;
            for weight in &mut self.weights {
                *weight *= shrink;
            }
            self.total = self.weights.iter().sum();
            self.next = 1.0;
            self.find_all();
        } else {
            self.turn = (self.turn + 1) % self.asked.len();
            let wanted = self.asked[self.turn] * self.total;
            self.places.follow(self.turn, wanted, &self.weights);
        }
    }

    /// Error quantiles at [`LEVELS`], in scales; they may fall where levels have crossed.
    pub(super) fn quantiles(&self) -> Lanes {
        self.places.values(&self.wanted())
    }

    /// What was seen counts half from now on.
    pub(super) fn shorten_memory(&mut self) {
        self.next *= 2.0;
    }

    fn find_all(&mut self) {
        self.places = Places::default();
        for (at, wanted) in self.wanted().into_iter().enumerate() {
            self.places.follow(at, wanted, &self.weights);
        }
    }

    /// Weight below each asked level.
    fn wanted(&self) -> Lanes {
        self.asked.map(|asked| asked * self.total)
    }
}

// === impl Places ===

impl Places {
    /// So much more weighs a bin.
    fn weigh(&mut self, bin: i32, weight: f32) {
        for at in 0..self.bins.len() {
            let place = self.bins[at];
            self.below[at] += if bin < place { weight } else { 0.0 };
            self.here[at] += if bin == place { weight } else { 0.0 };
        }
    }

    /// Looks where the level `at` lies, from where it was.
    fn follow(&mut self, at: usize, wanted: f32, weights: &[f32; 2 * BINS + 1]) {
        let mut bin = self.bins[at] as usize;
        let mut below = self.below[at];
        while bin > 0 && below >= wanted {
            bin -= 1;
            below -= weights[bin];
        }
        while bin < 2 * BINS && below + weights[bin] < wanted {
            below += weights[bin];
            bin += 1;
        }
        (self.bins[at], self.below[at]) = (bin as i32, below);
        self.here[at] = weights[bin];
        self.low[at] = EDGES[bin];
        self.width[at] = EDGES[bin + 1] - EDGES[bin];
    }

    /// On a line from edge to edge.
    fn values(&self, wanted: &Lanes) -> Lanes {
        let mut values = *wanted;
        for (at, value) in values.iter_mut().enumerate() {
            let here = self.here[at].max(f32::MIN_POSITIVE);
            let share = ((*value - self.below[at]) / here).clamp(0.0, 1.0);
            *value = self.low[at] + self.width[at] * share;
        }
        values
    }
}

/// [`LEVELS`], and the last once more.
pub(super) const WISHED: Lanes = lanes(Of::Level);

/// How far an outcome above a level moves what is asked, and one that is not.
const UP: Lanes = lanes(Of::Above);
const DOWN: Lanes = lanes(Of::Below);

enum Of {
    Level,
    Above,
    Below,
}

const fn lanes(of: Of) -> Lanes {
    let mut lanes = [0.0; LEVELS.len() + 1];
    let mut at = 0;
    while at < lanes.len() {
        let level = LEVELS[if at < LEVELS.len() { at } else { at - 1 }];
        let rare = level.min(1.0 - level);
        lanes[at] = match of {
            Of::Level => level,
            Of::Above => ADAPT * rare * level,
            Of::Below => -ADAPT * rare * (1.0 - level),
        } as f32;
        at += 1;
    }
    lanes
}

/// A number's exponent and the two bits after it are its bin.
fn bin(error: f32) -> usize {
    let above = error.abs().to_bits() >> FINE;
    let step = (above + 1).saturating_sub(FIRST).min(BINS as u32) as usize;
    if error < 0.0 {
        BINS - step
    } else {
        BINS + step
    }
}

/// Edges of all bins; bin [`BINS`] lies around zero.
static EDGES: [f32; 2 * BINS + 2] = edges();

const fn edges() -> [f32; 2 * BINS + 2] {
    let mut edges = [0.0; 2 * BINS + 2];
    let mut step = 0;
    while step <= BINS {
        let edge = f32::from_bits((FIRST + step as u32) << FINE);
        (edges[BINS - step], edges[BINS + 1 + step]) = (-edge, edge);
        step += 1;
    }
    edges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_is_forgotten_in_time_whatever_lies_between_two() {
        // A thousand samples weigh half as much as the thousand after them: a third of both.
        let old = |stride: usize| {
            let mut residuals = Residuals::new(stride);
            for sample in 0..2000 / stride {
                let error = if sample < 1000 / stride { 3.0 } else { -3.0 };
                residuals.observe(error, &[1.0; LEVELS.len() + 1]);
            }
            let weight = |error| residuals.weights[bin(error)];
            weight(3.0) / (weight(3.0) + weight(-3.0))
        };
        for stride in [1, 2, 4] {
            // The imagined ones at the start move it by some hundredths.
            assert!((old(stride) - 1.0 / 3.0).abs() < 0.02, "{}", old(stride));
        }
    }

    #[test]
    fn bins_lie_side_by_side_and_grow_by_a_quarter_at_most() {
        assert!(EDGES.is_sorted());
        assert_eq!((EDGES[BINS], EDGES[BINS + 1]), (-1.0 / 64.0, 1.0 / 64.0));
        assert_eq!(EDGES[2 * BINS + 1], 16.0);
        let sides = EDGES[BINS + 1..].windows(2);
        assert!(sides.into_iter().all(|side| side[1] <= 1.25 * side[0]));
        assert_eq!(bin(0.0), BINS);
        assert_eq!(bin(f32::INFINITY), 2 * BINS);
        assert_eq!(bin(f32::NEG_INFINITY), 0);
    }

    proptest! {
        #[test]
        fn an_error_lies_in_its_bin(error in -15.9_f32..15.9) {
            let bin = bin(error);
            prop_assert!(EDGES[bin] <= error && error <= EDGES[bin + 1]);
        }

        #[test]
        fn places_know_what_weighs_below_them(
            errors in prop::collection::vec((-20.0_f32..20.0, -1.0_f32..1.0), 1..300),
        ) {
            let mut residuals = Residuals::new(4);
            for (error, miss) in errors {
                residuals.observe(error, &[miss; LEVELS.len() + 1]);
            }
            let Places { bins, below, here, .. } = &residuals.places;
            for at in 0..bins.len() {
                let bin = bins[at] as usize;
                let sum: f32 = residuals.weights[..bin].iter().sum();
                // Rounding of some hundred sums.
                prop_assert!((below[at] - sum).abs() < 1e-3 * residuals.total);
                prop_assert_eq!(here[at], residuals.weights[bin]);
            }
        }
    }
}
