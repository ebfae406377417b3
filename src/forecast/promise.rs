//! How often a pod comes to the node that was asked for on its account.
//!
//! Karpenter nominates pods to its claims and tells so in Events, but the scheduler binds whichever pod
//! is next to whichever node is Ready: in the scenario pack between a tenth and four fifths of a
//! scenario's nominations held, in the recorded one 30 of 51. A pod of the same kind that comes instead
//! keeps the promise as well: it runs the same images.

use serde::{Deserialize, Serialize};

/// A nomination counts half after so many others.
const HALF_LIFE: f64 = 60.0;

/// Imagined nominations that agree with the prior: those of one batch stand or fall together.
const PRIOR: f64 = 10.0;

/// Decayed counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Promises {
    kept: f64,
    broken: f64,
}

// === impl Promises ===

impl From<(f64, f64)> for Promises {
    /// Counts as saved; what is no count is none.
    fn from((kept, broken): (f64, f64)) -> Self {
        let count = |n: f64| {
            if n.is_finite() {
                n.clamp(0.0, 1e3)
            } else {
                0.0
            }
        };
        Self {
            kept: count(kept),
            broken: count(broken),
        }
    }
}

impl From<Promises> for (f64, f64) {
    fn from(promises: Promises) -> Self {
        let tenths = |n: f64| (n * 10.0).round() / 10.0;
        (tenths(promises.kept), tenths(promises.broken))
    }
}

impl Promises {
    /// To a node that was asked for came a pod of the kind that it was asked for (kept), or one that was
    /// nominated to a request came elsewhere.
    pub fn note(&mut self, kept: bool) {
        let keep = 0.5_f64.powf(1.0 / HALF_LIFE);
        self.kept *= keep;
        self.broken *= keep;
        *(if kept {
            &mut self.kept
        } else {
            &mut self.broken
        }) += 1.0;
    }

    /// Probability that the next one comes to the node that it is nominated to, given a prior.
    #[must_use]
    pub fn chance(&self, prior: f64) -> f64 {
        (self.kept + PRIOR * prior) / (self.kept + self.broken + PRIOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_outweighs_the_prior_and_old_sights_fade() {
        let mut promises = Promises::default();
        assert!((promises.chance(0.95) - 0.95).abs() < 1e-12);
        for _ in 0..60 {
            promises.note(false);
        }
        // 43 misses still count beside 10 imagined nominations: 9.5 of 53.
        assert!((promises.chance(0.95) - 0.18).abs() < 0.01);
        for _ in 0..200 {
            promises.note(true);
        }
        assert!(promises.chance(0.95) > 0.9);
    }
}
