//! What an operator can know of a source while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::source::rejection::{Tally, is_sampled};

/// Shared between a source, which writes it, and `/metrics` and `/readyz`, which read it.
#[derive(Debug, Default)]
pub struct Health {
    /// Signals taken, and what was refused by reason.
    pub tally: Tally,
    failures: AtomicU64,
    reachable: AtomicBool,
    caught_up: AtomicBool,
    lag: AtomicU64,
}

impl Health {
    /// Whether the other side answered the last time it was asked.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Whether the history of the start has been read (or given up).
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    /// Messages or steps that are there and not read yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// Requests that failed, connections that broke.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The other side answered.
    pub fn answered(&self) {
        self.reachable.store(true, Ordering::Relaxed);
    }

    /// It did not; the count so far where this one is worth a log line: the first after an answer,
    /// and every power of ten.
    #[must_use]
    pub fn failed(&self) -> Option<u64> {
        let was_reachable = self.reachable.swap(false, Ordering::Relaxed);
        let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        (was_reachable || is_sampled(count)).then_some(count)
    }

    /// The history has been read.
    pub fn caught_up(&self) {
        self.caught_up.store(true, Ordering::Relaxed);
    }

    /// So much is there and not read yet.
    pub fn set_lag(&self, lag: u64) {
        self.lag.store(lag, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outage_is_logged_once_and_then_by_powers_of_ten() {
        let health = Health::default();
        let logged = |n: usize| (0..n).filter_map(|_| health.failed()).collect::<Vec<_>>();
        assert_eq!(logged(15), [1, 10]);
        health.answered();
        assert!(health.is_reachable());
        assert_eq!(logged(10), [16]);
        assert!(!health.is_reachable());
    }
}
