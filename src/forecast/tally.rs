//! Decayed counts of what happened and what did not.

use serde::{Deserialize, Serialize};

/// An observation counts half after so many others: a wave or two.
const HALF_LIFE: f64 = 60.0;

/// Imagined observations that agree with the prior: those of one wave stand or fall together.
const PRIOR: f64 = 10.0;

/// Saved as a pair, in tenths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Tally {
    yes: f64,
    no: f64,
}

// === impl Tally ===

impl From<(f64, f64)> for Tally {
    /// Counts as saved; what is no count is none.
    fn from((yes, no): (f64, f64)) -> Self {
        let count = |n: f64| {
            if n.is_finite() {
                n.clamp(0.0, 1e3)
            } else {
                0.0
            }
        };
        Self {
            yes: count(yes),
            no: count(no),
        }
    }
}

impl From<Tally> for (f64, f64) {
    fn from(tally: Tally) -> Self {
        let tenths = |n: f64| (n * 10.0).round() / 10.0;
        (tenths(tally.yes), tenths(tally.no))
    }
}

impl Tally {
    /// One more observation: this part of it (0 to 1) happened.
    pub fn note(&mut self, happened: f64) {
        let keep = 0.5_f64.powf(1.0 / HALF_LIFE);
        self.yes = self.yes * keep + happened;
        self.no = self.no * keep + 1.0 - happened;
    }

    /// Probability that it happens the next time, given a prior.
    #[must_use]
    pub fn chance(&self, prior: f64) -> f64 {
        (self.yes + PRIOR * prior) / (self.yes + self.no + PRIOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_outweighs_the_prior_and_old_sights_fade() {
        let mut tally = Tally::default();
        assert!((tally.chance(0.95) - 0.95).abs() < 1e-12);
        for _ in 0..60 {
            tally.note(0.0);
        }
        // 43 misses still count beside 10 imagined observations: 9.5 of 53.
        assert!((tally.chance(0.95) - 0.18).abs() < 0.01);
        for _ in 0..200 {
            tally.note(1.0);
        }
        assert!(tally.chance(0.95) > 0.9);
    }
}
