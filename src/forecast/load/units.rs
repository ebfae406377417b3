//! Notices that a series is told in another unit from now on.

use std::collections::VecDeque;

/// Factors that exporters change by: kilo, kibi, mega, mebi, giga. Not 60 and 100: a machine that goes
/// to work jumps by that much (one of 34 real series does).
const FACTORS: [f64; 5] = [1e3, 1024.0, 1e6, 1_048_576.0, 1e9];

/// Samples before and after the change that must agree: after three the new unit is believed.
const BEFORE: usize = 8;
const AFTER: usize = 3;

/// How far samples of one side may lie from their median, as a factor: steadier series only, so that
/// a service that wakes up is not taken for a change of unit.
const STEADY: f64 = 1.3;

/// How far the jump may be from the factor; kilo and kibi are 2.4 % apart and told as the nearer.
const NEAR: f64 = 1.25;

/// The last samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Units {
    last: VecDeque<f32>,
}

impl Units {
    /// Takes a sample; the factor from the old unit to the new one, once, when it has changed.
    pub(super) fn observe(&mut self, value: f64) -> Option<f64> {
        if self.last.len() == BEFORE + AFTER {
            self.last.pop_front();
        }
        self.last.push_back(value as f32);
        if self.last.len() < BEFORE + AFTER {
            return None;
        }
        let side = |from: usize, until: usize| {
            let mut values: Vec<f32> = self.last.range(from..until).copied().collect();
            values.sort_by(f32::total_cmp);
            let middle = f64::from(values[values.len() / 2]);
            let ends = [values[0], values[values.len() - 1]].map(f64::from);
            let steady = middle > 0.0 && ends[0] > middle / STEADY && ends[1] < middle * STEADY;
            steady.then_some(middle)
        };
        // Nearly every sample stops here: a jump of less than the smallest factor is none.
        let jump = f64::from(self.last[BEFORE]) / f64::from(self.last[BEFORE - 1]);
        if !jump.is_finite() || (1.0 / 500.0..=500.0).contains(&jump) {
            return None;
        }
        let jump = side(BEFORE, BEFORE + AFTER)? / side(0, BEFORE)?;
        let size = jump.max(1.0 / jump);
        let distance = |factor: &f64| (size / factor).ln().abs();
        let factor = FACTORS
            .into_iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .filter(|factor| distance(factor) < NEAR.ln())?;
        self.last.clear();
        Some(if jump > 1.0 { factor } else { 1.0 / factor })
    }
}
