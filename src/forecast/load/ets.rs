//! Exponential smoothing with a chosen trend (augurs, AutoETS), fitted now and then.

use augurs_core::{Fit, Predict};
use augurs_ets::AutoETS;

/// Samples that a model is fitted to: four hours of minutes.
const WINDOW: usize = 240;

/// Samples between two fits: one takes some milliseconds, a sample of everything else half a
/// microsecond.
const PAUSE: usize = 60;

/// The path that the last fit foresaw. Its change counts, from where the series is by now: a path of an
/// hour ago is not believed in its height.
#[derive(Clone, Debug, Default)]
pub(super) struct Ets {
    path: Vec<f64>,
    /// Whether a fit was tried.
    is_fitted: bool,
    /// Samples since the fit.
    since: usize,
}

impl Ets {
    /// One more sample; `last` gives up to so many, newest last, where it is time for a fit.
    pub(super) fn observe(&mut self, longest: usize, last: impl FnOnce(usize) -> Vec<f64>) {
        self.since += 1;
        if !self.is_fitted || self.since >= PAUSE {
            let window = last(WINDOW);
            if window.len() >= WINDOW {
                self.since = 0;
                self.is_fitted = true;
                self.path = foreseen(&window, PAUSE + longest + 1);
            }
        }
    }

    /// What it says of the change over so many steps from now; nothing before the first fit, or where
    /// none was found.
    pub(super) fn change(&self, steps: usize) -> f64 {
        let at = |place: usize| self.path.get(place);
        match (at(self.since), at(self.since + steps)) {
            (Some(now), Some(then)) if (then - now).is_finite() => then - now,
            _ => 0.0,
        }
    }

    /// What was fitted was in another unit.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The window's last value, then the path after it; empty where no model fits.
fn foreseen(window: &[f64], steps: usize) -> Vec<f64> {
    let fitted = AutoETS::non_seasonal().fit(window);
    let path = fitted
        .ok()
        .and_then(|model| model.predict(steps, None).ok());
    let last = window.last().copied();
    let path = path.map(|path| last.into_iter().chain(path.point).collect());
    path.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_goes_on_and_a_flat_one_stays() {
        let mut ets = Ets::default();
        let line =
            |slope: f64| move |count: usize| (0..count).map(|n| 50.0 + slope * n as f64).collect();
        ets.observe(15, line(2.0));
        assert!((ets.change(5) - 10.0).abs() < 1.0, "{}", ets.change(5));
        ets.forget();
        ets.observe(15, line(0.0));
        assert!(ets.change(15).abs() < 1e-6);
    }

    #[test]
    fn too_short_a_window_says_nothing() {
        let mut ets = Ets::default();
        ets.observe(15, |_| vec![1.0, 2.0]);
        assert_eq!(ets.change(5), 0.0);
    }
}
