//! The instants that are asked for.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Instants in one answer at most: a fraction of Prometheus' own bound (11,000), so that an answer
/// stays small in memory.
const WINDOW: i64 = 720;

/// Whole seconds since the epoch that are multiples of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    step: i64,
}

/// From the first to the last instant, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl Grid {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            step: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1),
        }
    }

    /// Seconds between two instants.
    pub(super) const fn step(self) -> i64 {
        self.step
    }

    /// The last instant that is not after `time`.
    pub(super) const fn at(self, time: Timestamp) -> i64 {
        let seconds = time.as_micros().div_euclid(1_000_000);
        seconds - seconds.rem_euclid(self.step)
    }

    /// The first instant after `time`.
    pub(super) fn after(self, time: Timestamp) -> Timestamp {
        let seconds = self.at(time).saturating_add(self.step);
        Timestamp::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// All instants from `from` to `to`, oldest first.
    pub(super) fn windows(self, from: i64, to: i64) -> impl Iterator<Item = Window> {
        let step = self.step;
        let mut start = from;
        std::iter::from_fn(move || {
            if start > to {
                return None;
            }
            let end = to.min(start.saturating_add(step.saturating_mul(WINDOW - 1)));
            let window = Window { start, end, step };
            start = end.saturating_add(step);
            Some(window)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_hold_every_instant_once(from in 0..10_000_i64, count in 0..3_000_i64, step in 1..90_i64) {
            let from = from * step;
            let grid = Grid { step };
            let windows: Vec<_> = grid.windows(from, from + (count - 1) * step).collect();
            let instants: Vec<i64> = windows
                .iter()
                .flat_map(|w| (w.start..=w.end).step_by(usize::try_from(step).unwrap()))
                .collect();
            let expected: Vec<i64> = (0..count).map(|i| from + i * step).collect();
            prop_assert_eq!(instants, expected);
            prop_assert!(windows.iter().all(|w| (w.end - w.start) / step < WINDOW));
        }

        #[test]
        fn the_grid_is_at_or_before_and_then_after(micros in any::<i32>(), step in 1..90_i64) {
            let time = Timestamp::from_micros(i64::from(micros) * 1_000);
            let grid = Grid { step };
            let at = Timestamp::from_micros(grid.at(time) * 1_000_000);
            prop_assert!(at <= time && time < grid.after(time));
            prop_assert_eq!(grid.at(at) % step, 0);
        }
    }
}
