//! Which blobs failed, how often, until when they rest.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::image::Digest;
use crate::domain::time::Timestamp;

/// How long to rest after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// Pause after the first failure; doubles with each further one.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Failures after which a blob is given up.
    pub attempts: u32,
    /// So long after that many failures it is tried anew; `None`: never. What was given up as lasting is not.
    pub again: Option<Duration>,
}

/// What a blob's failures mean now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be tried.
    Free,
    /// Not before this instant.
    RestUntil(Timestamp),
    /// Not again.
    GivenUp,
}

/// Failures by digest.
#[derive(Clone, Debug)]
pub struct Troubles {
    rule: BackOff,
    by_digest: BTreeMap<Digest, Trouble>,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    failures: u32,
    rest_until: Timestamp,
    given_up: bool,
}

impl BackOff {
    /// The pause after the given number of failures (one or more).
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

impl Troubles {
    /// No failures yet.
    #[must_use]
    pub fn new(rule: BackOff) -> Self {
        Self {
            rule,
            by_digest: BTreeMap::new(),
        }
    }

    /// Counts a failure; `lasting` gives the blob up at once.
    pub fn failed(&mut self, digest: &Digest, lasting: bool, now: Timestamp) {
        let trouble = self.by_digest.entry(digest.clone()).or_insert(Trouble {
            failures: 0,
            rest_until: now,
            given_up: false,
        });
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.rest_until = now + self.rule.pause(trouble.failures);
        trouble.given_up = lasting || trouble.failures >= self.rule.attempts;
        if trouble.given_up {
            let again = self.rule.again.filter(|_| !lasting);
            trouble.rest_until = again.map_or(Timestamp::MAX, |again| now + again);
        }
    }

    /// Forgets what was given up long enough ago to be tried anew.
    pub fn forgive_rested(&mut self, now: Timestamp) {
        self.by_digest
            .retain(|_, trouble| !trouble.given_up || trouble.rest_until > now);
    }

    /// Forgets a blob's failures.
    pub fn forgive(&mut self, digest: &Digest) {
        self.by_digest.remove(digest);
    }

    /// Forgets every blob that was given up.
    pub fn forgive_given_up(&mut self) {
        self.by_digest.retain(|_, trouble| !trouble.given_up);
    }

    /// Forgets every blob that `keep` does not name.
    pub fn retain(&mut self, mut keep: impl FnMut(&Digest) -> bool) {
        self.by_digest.retain(|digest, _| keep(digest));
    }

    /// Whether the blob may be tried now.
    #[must_use]
    pub fn verdict(&self, digest: &Digest, now: Timestamp) -> Verdict {
        match self.by_digest.get(digest) {
            Some(trouble) if trouble.given_up => Verdict::GivenUp,
            Some(trouble) if trouble.rest_until > now => Verdict::RestUntil(trouble.rest_until),
            _ => Verdict::Free,
        }
    }

    /// Whether the blob was given up.
    #[must_use]
    pub fn is_given_up(&self, digest: &Digest) -> bool {
        self.by_digest
            .get(digest)
            .is_some_and(|trouble| trouble.given_up)
    }

    /// The next instant after `now` at which a blob's rest ends.
    #[must_use]
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.by_digest
            .values()
            .map(|trouble| trouble.rest_until)
            .filter(|end| *end > now && *end < Timestamp::MAX)
            .min()
    }

    /// How many blobs have failures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether nothing has failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let rule = BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
            attempts: 9,
            again: None,
        };
        let pauses: Vec<u64> = (1..=5).map(|n| rule.pause(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert_eq!(rule.pause(u32::MAX), Duration::from_secs(5));
    }

    #[test]
    fn a_blob_rests_after_a_failure_then_is_given_up_after_the_last() {
        let rule = BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
            attempts: 2,
            again: None,
        };
        let blob = Digest::from_sha256(&[7; 32]);
        let mut troubles = Troubles::new(rule);
        troubles.failed(&blob, false, Timestamp::ZERO);
        let end = Timestamp::ZERO + Duration::from_secs(1);
        assert_eq!(
            troubles.verdict(&blob, Timestamp::ZERO),
            Verdict::RestUntil(end)
        );
        assert_eq!(troubles.verdict(&blob, end), Verdict::Free);
        troubles.failed(&blob, false, end);
        assert_eq!(troubles.verdict(&blob, Timestamp::MAX), Verdict::GivenUp);
        troubles.forgive_given_up();
        assert_eq!(troubles.verdict(&blob, end), Verdict::Free);
    }

    #[test]
    fn what_was_given_up_after_many_failures_is_tried_anew_by_and_by() {
        let rule = BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
            attempts: 1,
            again: Some(Duration::from_secs(100)),
        };
        let [silent, refused] = [[1; 32], [2; 32]].map(|bytes| Digest::from_sha256(&bytes));
        let mut troubles = Troubles::new(rule);
        troubles.failed(&silent, false, Timestamp::ZERO);
        troubles.failed(&refused, true, Timestamp::ZERO);
        let end = Timestamp::ZERO + Duration::from_secs(100);
        assert_eq!(troubles.next_end(Timestamp::ZERO), Some(end));
        troubles.forgive_rested(Timestamp::ZERO + Duration::from_secs(99));
        assert!(troubles.is_given_up(&silent));
        troubles.forgive_rested(end);
        assert_eq!(troubles.verdict(&silent, end), Verdict::Free);
        assert!(troubles.is_given_up(&refused));
        assert_eq!(troubles.next_end(end), None);
    }
}
