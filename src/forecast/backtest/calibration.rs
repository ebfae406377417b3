//! Rolling-origin Brier scores of corrected and of stated probabilities.

use crate::forecast::calibrate::Calibration;
use crate::forecast::calibrate::score::ProbabilityScore;

/// A probability that was stated, and whether it came true.
pub type Stated = (f64, bool);

/// Statements of one class in order: each is corrected by what came before it, scored, then learned.
/// Brier scores of the corrected and of the stated; 0 without statements.
#[must_use]
pub fn score(stated: &[Stated]) -> (f64, f64) {
    let mut calibration = Calibration::default();
    let (mut ours, mut theirs) = (ProbabilityScore::default(), ProbabilityScore::default());
    for (p, happened) in stated {
        ours.add(calibration.calibrated("", *p), *happened);
        theirs.add(*p, *happened);
        calibration.observe("", *p, *happened);
    }
    (ours.brier().unwrap_or(0.0), theirs.brier().unwrap_or(0.0))
}
