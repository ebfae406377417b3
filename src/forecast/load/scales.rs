//! How large errors are just now, in the units that experts count theirs in.

/// Half-lives in samples of the means that follow the last errors.
const FOLLOW_KEEP: [f64; 2] = [0.917_004, 0.982_821]; // 0.5^(1/8), 0.5^(1/40)

/// Half-life of the slow means: a day of minutes.
const SLOW_KEEP: f64 = 0.999_519; // 0.5^(1/1440)

/// Smallest scale, relative to nothing: errors of exactly zero must not make quantiles explode.
const SCALE_MIN: f64 = 1e-9;

/// How large errors were; nothing before the first outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Scales(Option<Means>);

/// Means of absolute errors.
#[derive(Clone, Copy, Debug)]
struct Means {
    persistence: f64,
    mixture: f64,
    /// The mixture's, quick and less so.
    following: [f64; 2],
    /// The mixture's, relative to the level.
    relative: f64,
}

/// Units: of persistence and of the mixture, which hardly change; two that follow the mixture's last
/// errors quickly and less so; one that follows the level.
pub(super) type Units = [f64; 5];

impl Scales {
    /// Takes what persistence and the mixture had said.
    pub(super) fn observe(&mut self, middles: [f64; 2], outcome: f64) {
        let [persistence, mixture] = middles.map(|middle| (outcome - middle).abs());
        let size = |mean: f64| middles[1].abs().max(outcome.abs()) + mean.max(SCALE_MIN);
        let means = self.0.get_or_insert_with(|| Means {
            persistence,
            mixture,
            following: [mixture; 2],
            relative: mixture / size(mixture),
        });
        let follow = |mean: &mut f64, error: f64, keep: f64| *mean = error + (*mean - error) * keep;
        follow(&mut means.persistence, persistence, SLOW_KEEP);
        follow(&mut means.mixture, mixture, SLOW_KEEP);
        for (mean, keep) in means.following.iter_mut().zip(FOLLOW_KEEP) {
            follow(mean, mixture, keep);
        }
        let relative = mixture / size(means.mixture);
        follow(&mut means.relative, relative, SLOW_KEEP);
    }

    /// The units where the mixture says `middle`; none before the first outcome.
    pub(super) fn units(&self, middle: f64, widening: f64) -> Option<Units> {
        let means = self.0?;
        let [persistence, mixture, relative] =
            [means.persistence, means.mixture, means.relative].map(|mean| mean.max(SCALE_MIN));
        let [quick, less] = means.following.map(|mean| between(mean, means.mixture));
        let level = relative * (middle.abs() + mixture);
        // In a burst nobody's errors are as small as they were.
        let least = if widening > 1.0 { quick } else { 0.0 };
        let units = [persistence, mixture, quick, less, level];
        Some(units.map(|unit| unit.max(least) * widening))
    }

    /// The one that follows less quickly.
    pub(super) fn following(&self, widening: f64) -> Option<f64> {
        let means = self.0?;
        Some(between(means.following[1], means.mixture) * widening)
    }

    /// Errors so far, in another unit of the series.
    pub(super) fn rescale(&mut self, factor: f64) {
        if let Some(means) = &mut self.0 {
            means.persistence *= factor;
            means.mixture *= factor;
            means.following = means.following.map(|mean| mean * factor);
        }
    }
}

/// The quick mean to 5/8 and the slow one to 3/8 (geometric): volatility comes in clusters, and a quiet
/// stretch ends without notice. Roots take a fifth of the time of logarithms.
fn between(quick: f64, slow: f64) -> f64 {
    let quarter = (slow * (quick * slow).sqrt()).sqrt();
    (quick * quarter).sqrt().max(SCALE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_between_two_means_is_nearer_to_the_quick_one() {
        let (quick, slow): (f64, f64) = (3.0, 50.0);
        let expected = (0.625 * quick.ln() + 0.375 * slow.ln()).exp();
        assert!((between(quick, slow) / expected - 1.0).abs() < 1e-12);
        assert_eq!(between(0.0, 50.0), SCALE_MIN);
    }
}
