//! Whether what plans called probable came about as often as they said.

use serde::Serialize;

use crate::sim::facts::Facts;
use crate::sim::score::rounded;
use crate::sim::world::{Notes, window_end};

/// Bins of the reliability diagram: a tenth each.
pub const BINS: usize = 10;

/// Probabilities are taken as no nearer to 0 or 1 in the logarithm: one certain error must not hide
/// all others.
const NEAREST: f64 = 1e-3;

/// Forecasts of "a pod uses this image on this new node within ten minutes of Ready", and outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecasts(Vec<(f64, bool)>);

/// What a report says of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Pairs of a new node and an image that a plan named for it before it was used.
    pub pairs: usize,
    /// Mean squared error of the probability (Brier 1950); 0 is perfect.
    pub brier: f64,
    /// Mean negative logarithm of the probability of what happened, in nats.
    pub log_loss: f64,
    /// A tenth of the probabilities each; those that hold nothing are left out.
    pub bins: Vec<Bin>,
}

/// One point of the reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Mean probability that was said.
    pub said: f64,
    /// Share that was used.
    pub used: f64,
    /// Pairs.
    pub pairs: usize,
}

// === impl Forecasts ===

impl Forecasts {
    /// What the run's plans said last before each image was used, or before its window ended. A window
    /// that the node or the recording did not live to the end of says nothing about what was not used.
    #[must_use]
    pub fn of(facts: &Facts, notes: &Notes) -> Self {
        let used = notes.firsts.iter().filter_map(|first| first.said);
        let mut forecasts: Vec<(f64, bool)> = used.map(|said| (said, true)).collect();
        for (node, said) in notes.said.iter().enumerate() {
            let gone = facts.nodes[node]
                .removed
                .unwrap_or(facts.end)
                .min(facts.end);
            if window_end(facts, node).is_some_and(|end| end <= gone) {
                forecasts.extend(said.values().map(|said| (*said, false)));
            }
        }
        Self(forecasts)
    }

    /// Adds another scenario's.
    pub fn add(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// The numbers; `None` where no plan said anything.
    #[must_use]
    pub fn calibration(&self) -> Option<Calibration> {
        if self.0.is_empty() {
            return None;
        }
        let count = self.0.len() as f64;
        let outcome = |used: bool| if used { 1.0 } else { 0.0 };
        let squares = self
            .0
            .iter()
            .map(|(said, used)| (said - outcome(*used)).powi(2));
        let logs = self.0.iter().map(|(said, used)| {
            let of_outcome = if *used { *said } else { 1.0 - said };
            -of_outcome.clamp(NEAREST, 1.0 - NEAREST).ln()
        });
        let (brier, log_loss) = (squares.sum::<f64>() / count, logs.sum::<f64>() / count);
        Some(Calibration {
            pairs: self.0.len(),
            brier: rounded(brier),
            log_loss: rounded(log_loss),
            bins: self.bins(),
        })
    }

    fn bins(&self) -> Vec<Bin> {
        let mut sums = [(0.0, 0.0, 0_usize); BINS];
        for &(said, used) in &self.0 {
            let bin = ((said * BINS as f64) as usize).min(BINS - 1);
            sums[bin].0 += said;
            sums[bin].1 += f64::from(u8::from(used));
            sums[bin].2 += 1;
        }
        let filled = sums.iter().filter(|(_, _, pairs)| *pairs > 0);
        let bin = |&(said, used, pairs): &(f64, f64, usize)| Bin {
            said: rounded(said / pairs as f64),
            used: rounded(used / pairs as f64),
            pairs,
        };
        filled.map(bin).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_forecaster_that_is_always_sure_and_right_loses_nothing_but_the_clamp() {
        let forecasts = Forecasts(vec![(1.0, true), (0.0, false)]);
        let calibration = forecasts.calibration().unwrap();
        assert!(calibration.brier.abs() < 1e-12);
        // -ln(0.999), to six digits.
        assert!((calibration.log_loss - 0.001_001).abs() < 1e-9);
        assert_eq!(calibration.bins.len(), 2);
    }

    #[test]
    fn nothing_said_is_no_calibration() {
        assert_eq!(Forecasts::default().calibration(), None);
    }

    proptest! {
        #[test]
        fn bins_hold_every_pair_once_and_brier_is_at_most_one(
            pairs in prop::collection::vec((0.0..=1.0, any::<bool>()), 1..50)
        ) {
            let calibration = Forecasts(pairs.clone()).calibration().unwrap();
            let held: usize = calibration.bins.iter().map(|bin| bin.pairs).sum();
            prop_assert_eq!(held, pairs.len());
            prop_assert!((0.0..=1.0).contains(&calibration.brier));
            prop_assert!(calibration.log_loss >= 0.0);
        }
    }
}
