//! Whole numbers as quantiles: replicas, nodes.

/// Levels at which counts are computed.
pub const LEVELS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// A distribution of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// At [`LEVELS`], never falling.
    at: [u32; LEVELS.len()],
}

impl Counts {
    /// One number for sure.
    #[must_use]
    pub fn certain(count: u32) -> Self {
        Self {
            at: [count; LEVELS.len()],
        }
    }

    /// From counts at [`LEVELS`]; where rounding or a rule made one fall, the running maximum makes
    /// quantiles of them again.
    #[must_use]
    pub fn rising(mut at: [u32; LEVELS.len()]) -> Self {
        let mut most = 0;
        for count in &mut at {
            most = most.max(*count);
            *count = most;
        }
        Self { at }
    }

    /// What is not exceeded with probability `p` (0 to 1): the count at the next level that is kept,
    /// beyond the last one at the last.
    #[must_use]
    pub fn quantile(&self, p: f64) -> u32 {
        // 1e-9: 0.9 computed is 0.9.
        let at = LEVELS.iter().position(|level| *level >= p - 1e-9);
        self.at[at.unwrap_or(LEVELS.len() - 1)]
    }

    /// Counts at [`LEVELS`].
    #[must_use]
    pub fn levels(&self) -> [u32; LEVELS.len()] {
        self.at
    }

    /// Each count less so many, not below zero: what comes beside what is there.
    #[must_use]
    pub fn beyond(&self, there: u32) -> Self {
        Self {
            at: self.at.map(|count| count.saturating_sub(there)),
        }
    }

    /// Probability (0 to 1) of at least so many, never rising in `count`: half-way between the levels
    /// where it is passed. Nothing is certain that a model says: 0.995 and 0.005 are the ends.
    #[must_use]
    pub fn at_least(&self, count: u32) -> f64 {
        match self.at.iter().position(|known| *known >= count) {
            Some(0) => 1.0 - LEVELS[0] / 2.0,
            Some(at) => 1.0 - f64::midpoint(LEVELS[at - 1], LEVELS[at]),
            None => (1.0 - LEVELS[LEVELS.len() - 1]) / 2.0,
        }
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let mut from = 0.0;
        let mut mean = 0.0;
        for (at, count) in self.at.iter().enumerate() {
            let next = LEVELS.get(at + 1);
            let until = next.map_or(1.0, |next| f64::midpoint(LEVELS[at], *next));
            mean += f64::from(*count) * (until - from);
            from = until;
        }
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_the_mean_agree_with_the_quantiles() {
        let counts = Counts::rising([1, 1, 1, 2, 2, 1, 4, 9, 9]);
        assert_eq!(counts.quantile(0.75), 2);
        assert!(counts.at_least(1) > 0.99 && counts.at_least(10) < 0.01);
        assert!((counts.at_least(2) - 0.825).abs() < 1e-9);
        assert!((counts.at_least(9) - 0.075).abs() < 1e-9);
        assert!((2.0..3.2).contains(&counts.mean()), "{}", counts.mean());
        assert_eq!(counts.beyond(2).levels(), [0, 0, 0, 0, 0, 0, 2, 7, 7]);
    }
}
