//! Weights of the members by their decayed pinball loss.

use crate::forecast::load::LOSS_MAX;

/// Persistence, yesterday's change, the mean of the two, yesterday's value, two exponential means, last
/// week's change.
pub(super) const OWN: usize = 7;

/// With the feature `augurs` one more: exponential smoothing with a trend.
pub(super) const MEMBERS: usize = OWN + cfg!(feature = "augurs") as usize;

/// A number for each member; where there are seven, persistence's once more: two vectors of four without
/// a rest.
pub(super) type Members = [f32; OWN + 1];

/// Half-lives in samples of the quick and the slow sum of losses, whose geometric mean ranks: half a
/// day of minutes knows who is good on the whole, half an hour notices who has stopped to be. On 14
/// real series both together lose 1.2 % less than the slow one alone.
const QUICK_KEEP: f32 = 0.977_160; // 0.5^(1/30)
const SLOW_KEEP: f32 = 0.999_038; // 0.5^(1/720)

/// How hard a member is punished for being worse than the best, as a power of its loss: with 8, one that
/// loses 10 % more has 47 % of the best one's weight, one that loses twice as much nearly nothing.
const SHARPNESS: i32 = 8;

/// Samples that count as if they had been seen before the first: no member rules after one sample.
const PATIENCE: f32 = 60.0;

/// Weights from decayed losses at the median, as of exponential weights (regret O(sqrt(T log K)) against
/// the best member: Cesa-Bianchi and Lugosi 2006, chapter 2), with a power in place of exp, which it is
/// near for losses that are near: seven calls of exp were a tenth of a sample's time.
#[derive(Clone, Debug, Default)]
pub(super) struct Mixture {
    quick: Members,
    slow: Members,
    seen: f32,
}

impl Mixture {
    pub(super) fn observe(&mut self, members: &Members, outcome: f64) {
        self.seen = self.seen * SLOW_KEEP + 1.0;
        for (at, member) in members.iter().enumerate() {
            // Pinball loss at p50 is half of the absolute error.
            let loss = 0.5 * (outcome as f32 - member).abs();
            self.quick[at] = self.quick[at] * QUICK_KEEP + loss;
            self.slow[at] = self.slow[at] * SLOW_KEEP + loss;
        }
    }

    pub(super) fn middle(&self, members: &Members) -> f64 {
        let weights = self.weights();
        let now = members[0];
        // Of differences from persistence: a high level keeps its digits.
        let changes = std::array::from_fn(|at| weights[at] * (members[at] - now));
        let change = fold(changes, |a, b| a + b) / fold(weights, |a, b| a + b);
        f64::from(now) + f64::from(change)
    }

    /// Losses so far, in another unit.
    pub(super) fn rescale(&mut self, factor: f64) {
        self.quick = Members::default();
        let most = LOSS_MAX as f32;
        self.slow = self.slow.map(|loss| (loss * factor as f32).min(most));
    }

    /// What is known of the members counts a quarter from now on, and the last half hour nothing.
    pub(super) fn shorten_memory(&mut self) {
        self.quick = Members::default();
        self.slow = self.slow.map(|loss| loss * 0.25);
        self.seen *= 0.25;
    }

    /// Relative to the best one's, which is 1.
    fn weights(&self) -> Members {
        let mut losses = self.quick;
        for (loss, slow) in losses.iter_mut().zip(self.slow) {
            *loss = loss.sqrt() * slow.sqrt();
        }
        // Where one is told twice, so is its loss: the least is the same.
        let best = fold(losses, |a, b| if a < b { a } else { b });
        let certainty = self.seen / (self.seen + PATIENCE);
        let rest = 1.0 - certainty;
        for (at, loss) in losses.iter_mut().enumerate() {
            // Where somebody was never wrong, nobody who was counts.
            let worse = *loss / best.max(f32::MIN_POSITIVE);
            let weight = (rest + certainty * worse).recip().powi(SHARPNESS);
            *loss = if at < MEMBERS { weight } else { 0.0 };
        }
        losses
    }
}

/// Of all, by halves.
fn fold(mut all: Members, of: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [4, 2, 1] {
        for at in 0..half {
            all[at] = of(all[at], all[at + half]);
        }
    }
    all[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_member_rules_and_one_that_loses_a_tenth_more_has_half_its_weight() {
        let mut mixture = Mixture::default();
        let members: Members = std::array::from_fn(|at| if at == 1 { 1.1 } else { 1.0 });
        for _ in 0..5000 {
            mixture.observe(&members, 0.0);
        }
        let weights = mixture.weights();
        assert_eq!(weights[0], 1.0);
        // (1 + 0.1 c)^-8, with the certainty c that 1,040 of 1,100 samples give: 0.486.
        assert!((weights[1] - 0.486).abs() < 0.002, "{}", weights[1]);
        // Nobody's lane counts for nothing.
        assert!(weights[MEMBERS..].iter().all(|weight| *weight == 0.0));
        let middle = mixture.middle(&members);
        assert!((1.0..1.1).contains(&middle));
    }

    #[test]
    fn where_one_was_never_wrong_nobody_else_counts() {
        let mut mixture = Mixture::default();
        let members: Members = std::array::from_fn(|at| if at == 2 { 5.0 } else { 6.0 });
        mixture.observe(&members, 5.0);
        assert_eq!(mixture.middle(&members), 5.0);
    }
}
