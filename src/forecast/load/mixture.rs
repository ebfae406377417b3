//! Weights of the members by their decayed pinball loss.

/// Persistence, yesterday's change, the mean of the two, yesterday's value, two exponential means, last
/// week's change.
pub(super) const OWN: usize = 7;

/// With the feature `augurs` one more: exponential smoothing with a trend.
pub(super) const MEMBERS: usize = OWN + cfg!(feature = "augurs") as usize;

/// Half-lives in samples of the quick and the slow sum of losses, whose geometric mean ranks: half a
/// day of minutes knows who is good on the whole, half an hour notices who has stopped to be. On 14
/// real series both together lose 1.2 % less than the slow one alone.
const QUICK_KEEP: f64 = 0.977_160; // 0.5^(1/30)
const SLOW_KEEP: f64 = 0.999_038; // 0.5^(1/720)

/// How hard a member is punished for being worse than the best: with 8, one that loses 10 % more
/// has 45 % of the best one's weight, one that loses twice as much nearly nothing.
const SHARPNESS: f64 = 8.0;

/// Losses that count as if they had been seen before the first: no member rules after one sample.
const PATIENCE: f64 = 60.0;

/// Exponential weights over decayed losses at the median (regret O(sqrt(T log K)) against the best
/// member: Cesa-Bianchi and Lugosi 2006, chapter 2).
#[derive(Clone, Debug, Default)]
pub(super) struct Mixture {
    quick: [f64; MEMBERS],
    slow: [f64; MEMBERS],
    seen: f64,
}

impl Mixture {
    pub(super) fn observe(&mut self, members: &[f64; MEMBERS], outcome: f64) {
        self.seen = self.seen * SLOW_KEEP + 1.0;
        for (at, member) in members.iter().enumerate() {
            // Pinball loss at p50 is half of the absolute error.
            let loss = 0.5 * (outcome - member).abs();
            self.quick[at] = self.quick[at] * QUICK_KEEP + loss;
            self.slow[at] = self.slow[at] * SLOW_KEEP + loss;
        }
    }

    pub(super) fn middle(&self, members: &[f64; MEMBERS]) -> f64 {
        let weights = self.weights();
        weights.iter().zip(members).map(|(w, m)| w * m).sum()
    }

    /// Losses so far, in another unit.
    pub(super) fn rescale(&mut self, factor: f64) {
        self.quick = [0.0; MEMBERS];
        self.slow = self.slow.map(|loss| loss * factor);
    }

    /// What is known of the members counts a quarter from now on, and the last half hour nothing.
    pub(super) fn shorten_memory(&mut self) {
        self.quick = [0.0; MEMBERS];
        self.slow = self.slow.map(|loss| loss * 0.25);
        self.seen *= 0.25;
    }

    fn weights(&self) -> [f64; MEMBERS] {
        let mut losses = self.quick;
        for (loss, slow) in losses.iter_mut().zip(self.slow) {
            *loss = (*loss * slow).sqrt();
        }
        let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let certainty = self.seen / (self.seen + PATIENCE);
        let raw = losses.map(|loss| {
            let worse = if best > 0.0 {
                loss / best - 1.0
            } else {
                f64::from(u8::from(loss > 0.0))
            };
            (-SHARPNESS * certainty * worse).exp()
        });
        let sum: f64 = raw.iter().sum();
        raw.map(|weight| weight / sum)
    }
}
