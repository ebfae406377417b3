//! Rolling-origin CRPS of arrival times, with censoring, against the last quantiles.

use std::collections::VecDeque;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::domain::time::Timestamp;
use crate::forecast::arrival::{Arrivals, Leg};

/// One wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// How long it was seen to last.
    pub seconds: f64,
    /// Whether it ended; otherwise it was longer.
    pub ended: bool,
}

/// Mean scores of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrivalScore {
    /// Waits that were scored.
    pub outcomes: usize,
    /// Continuous ranked probability score of [`Arrivals`], in seconds; up to the censoring time
    /// where the wait did not end (threshold-weighted CRPS, Gneiting and Ranjan 2011: proper).
    pub ours: f64,
    /// The same of the quantiles of the last durations and three points of a prior.
    pub last: f64,
    /// Share of waits that ended within the 90 % interval.
    pub coverage: f64,
}

/// Instants at which distributions are compared, from a second to two hours, each 4 % later.
const POINTS: i32 = 227;
const GROWTH: f64 = 1.04;

/// Waits one after the other: each is scored, then learned; `most` are remembered.
#[must_use]
pub fn crps(drawn: &[Drawn], most: usize) -> ArrivalScore {
    let mut arrivals = Arrivals::default();
    let mut last = Last::default();
    let mut sum = ArrivalScore {
        outcomes: drawn.len(),
        ours: 0.0,
        last: 0.0,
        coverage: 0.0,
    };
    let mut ended = 0;
    for (place, wait) in drawn.iter().enumerate() {
        let chance = |seconds| arrivals.by(Leg::Request, 0.0, Duration::from_secs_f64(seconds));
        sum.ours += integral(*wait, chance);
        sum.last += integral(*wait, |seconds| last.chance(seconds));
        let now = Timestamp::ZERO + Duration::from_secs(place as u64);
        if wait.ended {
            let bounds = [0.05, 0.95].map(|q| arrivals.quantile(Leg::Request, q));
            ended += 1;
            sum.coverage += f64::from(u8::from(
                bounds[0] <= wait.seconds && wait.seconds <= bounds[1],
            ));
            arrivals.note(Leg::Request, now, wait.seconds, most);
            last.push(wait.seconds, most);
        } else {
            arrivals.give_up(Leg::Request, now, wait.seconds, most);
        }
    }
    let count = drawn.len().max(1) as f64;
    sum.ours /= count;
    sum.last /= count;
    sum.coverage /= f64::from(ended.max(1));
    sum
}

/// Log-normal durations around a median, a share of them around a second one (log-scale 0.3).
#[must_use]
pub fn heavy_tail(
    seed: u64,
    count: usize,
    median: f64,
    spread: f64,
    (share, late): (f64, f64),
) -> Vec<Drawn> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let normal = Normal::standard();
    let draw = |_| {
        let stuck = rng.random::<f64>() < share;
        let z = normal.inverse_cdf(rng.random::<f64>().clamp(1e-6, 1.0 - 1e-6));
        let seconds = if stuck {
            late * (0.3 * z).exp()
        } else {
            median * (spread * z).exp()
        };
        Drawn {
            seconds,
            ended: true,
        }
    };
    (0..count).map(draw).collect()
}

/// Integral of (F(t) - [t is past the outcome])^2 over the instants, up to censoring.
fn integral(wait: Drawn, chance: impl Fn(f64) -> f64) -> f64 {
    let mut total = 0.0;
    for n in 0..POINTS {
        let (from, until) = (GROWTH.powi(n), GROWTH.powi(n + 1));
        if !wait.ended && from >= wait.seconds {
            break;
        }
        let middle = (from * until).sqrt();
        let past = f64::from(u8::from(middle >= wait.seconds && wait.ended));
        total += (chance(middle) - past).powi(2) * (until - from);
    }
    total
}

/// The opponent: linear quantiles of the last durations and a prior of three.
#[derive(Default)]
struct Last(VecDeque<f64>);

impl Last {
    fn push(&mut self, seconds: f64, most: usize) {
        self.0.push_back(seconds);
        if self.0.len() > most {
            self.0.pop_front();
        }
    }

    fn chance(&self, seconds: f64) -> f64 {
        let mut all: Vec<f64> = self.0.iter().copied().chain([30.0, 60.0, 180.0]).collect();
        all.sort_by(f64::total_cmp);
        let after = all.partition_point(|known| *known < seconds);
        let steps = (all.len() - 1) as f64;
        match (after.checked_sub(1), all.get(after)) {
            (None, _) => 0.0,
            (Some(_), None) => 1.0,
            (Some(before), Some(high)) => {
                let low = all[before];
                (before as f64 + (seconds - low) / (high - low).max(1e-9)) / steps
            }
        }
    }
}
