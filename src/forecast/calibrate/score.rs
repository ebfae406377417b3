//! How good stated probabilities are: Brier score, log loss, reliability.

/// Bins of a reliability diagram, each a tenth wide.
pub const TENTHS: usize = 10;

/// Sums over statements and what became of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbabilityScore {
    count: usize,
    brier: f64,
    log: f64,
    tenths: [(f64, usize, usize); TENTHS],
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tenth {
    /// Mean of what was stated.
    pub stated: f64,
    /// Share that happened.
    pub happened: f64,
    /// Statements.
    pub count: usize,
}

impl ProbabilityScore {
    /// Adds one statement (0 to 1).
    pub fn add(&mut self, p: f64, happened: bool) {
        let outcome = f64::from(u8::from(happened));
        self.count += 1;
        self.brier += (p - outcome).powi(2);
        // A statement of 0 or 1 that is wrong costs 13.8 nats, not infinity.
        let chance = if happened { p } else { 1.0 - p };
        self.log -= chance.max(1e-6).ln();
        let tenth = ((p * TENTHS as f64) as usize).min(TENTHS - 1);
        let (stated, hits, count) = &mut self.tenths[tenth];
        *stated += p;
        *hits += usize::from(happened);
        *count += 1;
    }

    /// Statements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Mean squared distance (Brier 1950), 0 is perfect; none without statements.
    #[must_use]
    pub fn brier(&self) -> Option<f64> {
        (self.count > 0).then(|| self.brier / self.count as f64)
    }

    /// Mean negative log-likelihood in nats, 0 is perfect; none without statements.
    #[must_use]
    pub fn log_loss(&self) -> Option<f64> {
        (self.count > 0).then(|| self.log / self.count as f64)
    }

    /// The bins that hold something, from low to high.
    pub fn reliability(&self) -> impl Iterator<Item = Tenth> + '_ {
        let used = self.tenths.iter().filter(|(_, _, count)| *count > 0);
        used.map(|(stated, hits, count)| Tenth {
            stated: stated / *count as f64,
            happened: *hits as f64 / *count as f64,
            count: *count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scores_of_a_coin_and_of_a_lie() {
        let mut coin = ProbabilityScore::default();
        assert_eq!(coin.brier(), None);
        for happened in [true, false] {
            coin.add(0.5, happened);
        }
        assert_eq!(coin.brier(), Some(0.25));
        assert!((coin.log_loss().unwrap() - 2.0_f64.ln()).abs() < 1e-12);
        let mut lie = ProbabilityScore::default();
        lie.add(1.0, false);
        assert_eq!(lie.brier(), Some(1.0));
        let bins: Vec<Tenth> = lie.reliability().collect();
        assert_eq!(
            (bins.len(), bins[0].stated, bins[0].happened),
            (1, 1.0, 0.0)
        );
    }
}
