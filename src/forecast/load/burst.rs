//! Notices that a series has left its usual pace: a two-sided CUSUM of one-step errors.

/// Errors up to so many scales are usual; the mean absolute error is 1.
const USUAL: f64 = 2.0;
/// The sum of what goes beyond, on one side, from which a burst is on: five errors of twice the
/// usual in a row, or one enormous one. Page 1954; delay and false alarms are traded here.
const ALARM: f64 = 10.0;
/// Samples for which a burst stays on after its last alarm.
const HOLD: u32 = 15;
/// Intervals are so much wider while it is on.
const WIDER: f64 = 1.3;

/// Sums of unusual errors upwards and downwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Burst {
    up: f64,
    down: f64,
    left: u32,
}

impl Burst {
    /// Takes a one-step error, in scales.
    pub(super) fn observe(&mut self, error: f64) {
        let error = error.clamp(-ALARM - USUAL, ALARM + USUAL);
        self.up = (self.up + error - USUAL).max(0.0);
        self.down = (self.down - error - USUAL).max(0.0);
        self.left = self.left.saturating_sub(1);
        if self.up.max(self.down) >= ALARM {
            (self.up, self.down, self.left) = (0.0, 0.0, HOLD);
        }
    }

    /// The jump that raised the alarm was none of the load's.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_on(&self) -> bool {
        self.left > 0
    }

    pub(super) fn widening(&self) -> f64 {
        if self.is_on() { WIDER } else { 1.0 }
    }
}
