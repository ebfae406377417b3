//! Rolling-origin evaluation of scaler wishes against standing still and the plain formula.

use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::forecast::backtest::pinball;
use crate::forecast::scaler::{Behaviour, Growth, Observed, ScalerTrack};

/// Levels that are scored.
pub const WISHED: [f64; 3] = [0.5, 0.9, 0.99];

/// How one scaler was foreseen at one distance.
#[derive(Clone, Debug, PartialEq)]
pub struct WishScore {
    /// How far ahead.
    pub ahead: Duration,
    /// Outcomes that were scored.
    pub outcomes: usize,
    /// Mean pinball loss at [`WISHED`], in replicas.
    pub pinball: [f64; WISHED.len()],
    /// The same of saying that what is desired stays.
    pub stays: [f64; WISHED.len()],
    /// The same of `ceil(current x ratio)` outside the tolerance, within the bounds, at once.
    pub plain: [f64; WISHED.len()],
    /// Share of outcomes within the 90 % interval, bounds included: replicas are whole, so an honest
    /// interval holds more than 90 %.
    pub coverage: f64,
    /// Mean width of that interval, in replicas.
    pub width: f64,
}

/// Feeds observations in order of time and scores the wish at each after the first `warm_up` against
/// what was desired `ahead` of it: the last observation until then. `growth` is the load's forecast
/// at that instant, where there is one.
#[must_use]
pub fn wishes(
    seen: &[Observed],
    ahead: Duration,
    warm_up: usize,
    behaviour: &Behaviour,
    growth: impl Fn(Timestamp) -> Option<Growth>,
) -> WishScore {
    let mut track = ScalerTrack::default();
    let mut sum = WishScore {
        ahead,
        outcomes: 0,
        pinball: [0.0; WISHED.len()],
        stays: [0.0; WISHED.len()],
        plain: [0.0; WISHED.len()],
        coverage: 0.0,
        width: 0.0,
    };
    let end = seen.last().map_or(Timestamp::ZERO, |last| last.at);
    for (at, now) in seen.iter().enumerate() {
        track.observe(*now, behaviour);
        let then = now.at + ahead;
        if at < warm_up || then > end {
            continue;
        }
        let until = seen[at..].partition_point(|later| later.at <= then);
        let outcome = f64::from(seen[at + until - 1].desired);
        let Some(wish) = track.wish(ahead, growth(now.at).as_ref(), behaviour) else {
            continue;
        };
        sum.outcomes += 1;
        for (place, level) in WISHED.into_iter().enumerate() {
            sum.pinball[place] += pinball(level, f64::from(wish.quantile(level)), outcome);
            sum.stays[place] += pinball(level, f64::from(now.desired), outcome);
            sum.plain[place] += pinball(level, plain(now, behaviour), outcome);
        }
        let (low, high) = (wish.quantile(0.05), wish.quantile(0.95));
        let inside = f64::from(low) <= outcome && outcome <= f64::from(high);
        sum.coverage += f64::from(u8::from(inside));
        sum.width += f64::from(high - low);
    }
    let mean = |total: f64| total / sum.outcomes.max(1) as f64;
    WishScore {
        pinball: sum.pinball.map(mean),
        stays: sum.stays.map(mean),
        plain: sum.plain.map(mean),
        coverage: mean(sum.coverage),
        width: mean(sum.width),
        ..sum
    }
}

fn plain(now: &Observed, behaviour: &Behaviour) -> f64 {
    let desired = f64::from(now.desired);
    let Some(ratio) = now.ratio else {
        return desired;
    };
    if (ratio - 1.0).abs() <= behaviour.tolerance {
        return desired;
    }
    let most = if now.max == 0 { u32::MAX } else { now.max };
    let wish = (f64::from(now.current) * ratio).ceil();
    wish.clamp(f64::from(now.min.min(most)), f64::from(most))
}
