//! A distribution of durations as a line through (seconds, probability).

use statrs::distribution::{ContinuousCDF, Normal};

/// Seconds at p10, p50 and p95, where nothing was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prior(pub [f64; 3]);

/// Standard normal quantiles at the prior's levels, and at the quartiles.
const Z_P10: f64 = 1.281_552;
const Z_P95: f64 = 1.644_854;
const Z_P75: f64 = 0.674_490;

/// An observation counts half of one that came so many later: pools change their machine types and
/// clouds their mood within a few scale-ups.
const HALF_LIFE: f64 = 24.0;

/// Weight of the prior's three points together, and of the body against the observations: with 16
/// observations their own shape counts half.
const PRIOR_WEIGHT: f64 = 3.0;
const BODY_WEIGHT: f64 = 16.0;

/// Narrowest body, as a log-scale: 5 %.
const SPREAD_MIN: f64 = 0.05;

/// Standard normal quantiles of the knots that the body adds, out to 1 in 10,000.
const KNOTS: [f64; 15] = [
    -3.7, -2.33, -1.9, -1.645, -1.282, -0.84, -0.4, 0.0, 0.4, 0.84, 1.282, 1.645, 1.9, 2.33, 3.7,
];

/// Shortest duration that is told apart, in seconds.
const SHORTEST: f64 = 0.01;

/// A day is later than any plan.
const LONGEST: f64 = 86_400.0;

/// A duration, or a wait that has not ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wait {
    seconds: f64,
    ended: bool,
    weight: f64,
}

/// (logarithm of seconds, probability), both ascending.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    knots: Vec<(f64, f64)>,
}

/// Two log-normal halves that meet in the median.
struct Body {
    centre: f64,
    below: f64,
    above: f64,
}

impl Wait {
    pub(super) fn open(seconds: f64) -> Self {
        Self {
            seconds,
            ended: false,
            weight: 1.0,
        }
    }
}

/// Weights for (seconds, whether it ended), oldest first.
pub(super) fn decayed(waits: impl DoubleEndedIterator<Item = (f64, bool)>) -> Vec<Wait> {
    let waits = waits.rev().enumerate();
    let weigh = |(age, (seconds, ended)): (usize, (f64, bool))| Wait {
        seconds,
        ended,
        weight: 0.5_f64.powf(age as f64 / HALF_LIFE),
    };
    waits.map(weigh).collect()
}

/// Probability of a log-normal duration up to `seconds`.
pub(super) fn log_normal(seconds: f64, median: f64, spread: f64) -> f64 {
    Normal::standard().cdf((seconds.max(SHORTEST) / median).ln() / spread)
}

// === impl Table ===

impl Table {
    /// From waits in any order.
    pub(super) fn new(prior: &Prior, mut waits: Vec<Wait>) -> Self {
        let body = Body::of_prior(prior);
        let weight: f64 = waits
            .iter()
            .filter(|wait| wait.ended)
            .map(|w| w.weight)
            .sum();
        if waits.is_empty() {
            return Self::blend(&[], &body, 0.0);
        }
        waits.extend(prior.0.map(|seconds| Wait {
            seconds,
            ended: true,
            weight: PRIOR_WEIGHT / 3.0,
        }));
        waits.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let steps = kaplan_meier(&waits);
        let body = body.moved(&steps);
        Self::blend(&steps, &body, weight / (weight + BODY_WEIGHT))
    }

    /// The observed steps with the weight `own`, the body with the rest.
    fn blend(steps: &[(f64, f64)], body: &Body, own: f64) -> Self {
        let mut logs: Vec<f64> = steps.iter().map(|(log, _)| *log).collect();
        logs.extend(KNOTS.map(|z| body.log(z)));
        logs.sort_by(f64::total_cmp);
        logs.dedup();
        let mut knots: Vec<(f64, f64)> = Vec::with_capacity(logs.len());
        let mut highest = 0.0;
        for log in logs {
            // Beyond the last step the estimate has nothing to say: the body's tail shares out what
            // is left.
            let (reached, until) = line(steps, log);
            let of_body = body.chance(log);
            let observed = if until {
                let end = body.chance(steps.last().map_or(f64::NEG_INFINITY, |step| step.0));
                let share = (of_body - end) / (1.0 - end).max(1e-9);
                reached + (1.0 - reached) * share.max(0.0)
            } else {
                reached
            };
            highest = f64::max(highest, own * observed + (1.0 - own) * of_body);
            knots.push((log, highest));
        }
        Self { knots }
    }

    /// Probability of a duration up to `seconds`.
    pub(super) fn chance(&self, seconds: f64) -> f64 {
        let (at, beyond) = line(&self.knots, seconds.max(SHORTEST).ln());
        if !beyond {
            return at;
        }
        // A tail like that of a Pareto distribution with exponent 1: what has outlasted everything
        // known lasts as long again in one of two cases (Lindy; n = 192 had p95 at 47 medians).
        let (last, reached) = self.knots.last().copied().unwrap_or_default();
        1.0 - (1.0 - reached) * last.exp() / seconds
    }

    /// Seconds at a probability.
    pub(super) fn when(&self, p: f64) -> f64 {
        let after = self.knots.partition_point(|(_, reached)| *reached < p);
        let Some((high, above)) = self.knots.get(after).copied() else {
            let (last, reached) = self.knots.last().copied().unwrap_or_default();
            return ((1.0 - reached) / (1.0 - p).max(1e-9) * last.exp()).min(LONGEST);
        };
        let (low, below) = match after.checked_sub(1) {
            Some(before) => self.knots[before],
            None => return high.exp().min(LONGEST),
        };
        let share = (p - below) / (above - below).max(1e-12);
        (low + (high - low) * share.clamp(0.0, 1.0))
            .exp()
            .min(LONGEST)
    }
}

/// The line's height, and whether it lies beyond the last point; 0 before the first.
fn line(points: &[(f64, f64)], at: f64) -> (f64, bool) {
    let after = points.partition_point(|(x, _)| *x < at);
    let Some((high, above)) = points.get(after).copied() else {
        return (points.last().map_or(0.0, |last| last.1), true);
    };
    let Some((low, below)) = after.checked_sub(1).map(|before| points[before]) else {
        return (if at < high { 0.0 } else { above }, false);
    };
    let share = (at - low) / (high - low).max(1e-12);
    (below + (above - below) * share, false)
}

/// (logarithm, probability) at every duration: the middle of each step, so that lines between them
/// are the median-unbiased plotting positions (Hazen 1914); of equal durations both ends.
fn kaplan_meier(sorted: &[Wait]) -> Vec<(f64, f64)> {
    let mut at_risk: f64 = sorted.iter().map(|wait| wait.weight).sum();
    let mut survive = 1.0;
    let mut steps: Vec<(f64, f64)> = Vec::with_capacity(sorted.len() + 8);
    let mut rest = sorted;
    while let Some(first) = rest.first() {
        let same = rest.partition_point(|wait| wait.seconds <= first.seconds);
        let ended = rest[..same].iter().filter(|wait| wait.ended);
        let (count, weight) = ended.fold((0, 0.0), |(n, sum), wait| (n + 1, sum + wait.weight));
        let fall = survive * (weight / at_risk.max(1e-12)).clamp(0.0, 1.0);
        let log = first.seconds.max(SHORTEST).ln();
        if count == 1 {
            steps.push((log, 1.0 - survive + fall / 2.0));
        } else if count > 1 {
            steps.push((log - 1e-4, 1.0 - survive));
            steps.push((log + 1e-4, 1.0 - survive + fall));
        }
        survive -= fall;
        at_risk -= rest[..same].iter().map(|wait| wait.weight).sum::<f64>();
        rest = &rest[same..];
    }
    steps
}

// === impl Body ===

impl Body {
    fn of_prior(prior: &Prior) -> Self {
        let [low, middle, high] = prior.0;
        Self {
            centre: middle.ln(),
            below: (middle / low).ln() / Z_P10,
            above: (high / middle).ln() / Z_P95,
        }
    }

    /// With the median and the interquartile range of the steps: a few nodes that were stuck for
    /// half an hour are the tail's business and must not widen the body.
    fn moved(&self, steps: &[(f64, f64)]) -> Self {
        let at = |p: f64| {
            let after = steps.partition_point(|(_, reached)| *reached < p);
            let low = after.checked_sub(1).map(|before| steps[before]);
            match (low, steps.get(after)) {
                (Some((x, below)), Some((y, above))) => {
                    x + (y - x) * ((p - below) / (above - below).max(1e-12)).clamp(0.0, 1.0)
                }
                (None, Some((y, _))) => *y,
                (Some((x, _)), None) => x,
                (None, None) => self.centre,
            }
        };
        let range = at(0.75) - at(0.25);
        let stretch = range / (Z_P75 * (self.below + self.above));
        Self {
            centre: at(0.5),
            below: (self.below * stretch).max(SPREAD_MIN),
            above: (self.above * stretch).max(SPREAD_MIN),
        }
    }

    fn log(&self, z: f64) -> f64 {
        self.centre + z * if z < 0.0 { self.below } else { self.above }
    }

    fn chance(&self, log: f64) -> f64 {
        let distance = log - self.centre;
        let spread = if distance < 0.0 {
            self.below
        } else {
            self.above
        };
        Normal::standard().cdf(distance / spread)
    }
}
