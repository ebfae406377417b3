//! Draws by name: each use has a stream of its own, so that one more draw here moves nothing there.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::compose::spec::Draw;

/// Standard normal quantiles at 0.9 and 0.95.
const Z90: f64 = 1.281_552;
const Z95: f64 = 1.644_854;

/// Where a draw is cut: 3.1 sigma, one in a thousand. The quantiles say nothing of what lies beyond.
const Z_MAX: f64 = 3.1;

/// The letters of generated names (Kubernetes' `rand.String`: no vowels, nothing that looks alike).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of this name.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a: any function that tells names apart would do.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(ChaCha8Rng::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash,
        ))
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Seconds: log-normal, with one sigma below the median and another above it.
    pub fn draw(&mut self, draw: &Draw) -> f64 {
        if draw.p95 <= draw.p10 {
            return draw.p50;
        }
        let z = self.normal().clamp(-Z_MAX, Z_MAX);
        // A quantile of nothing has no logarithm: a microsecond is nothing too.
        let log = |seconds: f64| seconds.max(1e-6).ln();
        let sigma = if z < 0.0 {
            (log(draw.p50) - log(draw.p10)) / Z90
        } else {
            (log(draw.p95) - log(draw.p50)) / Z95
        };
        (log(draw.p50) + sigma * z).exp()
    }

    /// A whole number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }

    /// So many letters of a generated name.
    pub fn name(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(LETTERS[self.below(LETTERS.len())]))
            .collect()
    }

    /// A UUID of version 4.
    pub fn uid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.0.random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex::encode(bytes);
        let (a, b, c) = (&text[..8], &text[8..12], &text[12..16]);
        format!("{a}-{b}-{c}-{}-{}", &text[16..20], &text[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_times_have_the_quantiles_that_were_asked_for() {
        let draw = Draw::quantiles(24.0, 32.0, 71.0);
        let mut random = Random::new(1, "test");
        let mut times: Vec<f64> = (0..20_000).map(|_| random.draw(&draw)).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(share * times.len() as f64) as usize];
        // 20,000 draws tell a quantile of this spread within 3 %.
        for (share, wanted) in [(0.1, 24.0), (0.5, 32.0), (0.95, 71.0)] {
            let found = at(share);
            assert!(
                (found / wanted - 1.0).abs() < 0.03,
                "{share}: {found} is not {wanted}"
            );
        }
    }

    #[test]
    fn streams_of_other_names_or_seeds_differ_and_equal_ones_do_not() {
        let first = |seed, name| Random::new(seed, name).uid();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }
}
