//! Guesses under way in the whole cluster: bytes per zone, requests per registry.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// What is under way, by key, until it is over.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
}

/// Of one key: what ends when. What ended stays until the account is next charged.
#[derive(Clone, Debug, Default)]
struct Account {
    open: u64,
    ends: BTreeMap<Timestamp, u64>,
}

/// What all plans of a cluster have under way for pods that nobody has seen.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    zones: Ledger,
    registries: Ledger,
}

/// A guess that is in a plan for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// Host of the registry.
    pub registry: String,
    /// Bytes that it adds to those before it.
    pub bytes: ByteSize,
    /// Requests that it takes: its manifest and the layers that it adds.
    pub requests: u64,
}

/// Ends are rounded up to this: an account has no more of them than its longest flight has seconds.
const STEP: Duration = Duration::from_secs(1);

/// No flight is counted for longer: an agent that is slower than that is held back by itself.
const LONGEST: Duration = Duration::from_mins(10);

/// The time for which registries count.
const MINUTE: Duration = Duration::from_mins(1);

// === impl Ledger ===

impl Ledger {
    /// What is under way of a key.
    #[must_use]
    pub fn open(&self, key: &str, now: Timestamp) -> u64 {
        self.accounts.get(key).map_or(0, |account| {
            let over: u64 = account.ends.range(..=now).map(|(_, amount)| amount).sum();
            account.open - over
        })
    }

    /// So much more is under way for so long.
    pub fn charge(&mut self, key: &str, amount: u64, lasts: Duration, now: Timestamp) {
        if amount == 0 {
            return;
        }
        if !self.accounts.contains_key(key) {
            self.accounts.insert(key.to_owned(), Account::default());
        }
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        while let Some(first) = account.ends.first_entry() {
            if *first.key() > now {
                break;
            }
            account.open -= first.remove();
        }
        let amount = amount.min(u64::MAX - account.open);
        account.open += amount;
        let end = (now + lasts.min(LONGEST)).next_whole(STEP);
        *account.ends.entry(end).or_default() += amount;
    }
}

// === impl Flights ===

impl Flights {
    /// Bytes of guesses that are on their way into a zone.
    #[must_use]
    pub fn into_zone(&self, zone: &str, now: Timestamp) -> ByteSize {
        ByteSize(self.zones.open(zone, now))
    }

    /// Requests that guesses cost a registry in the last minute.
    #[must_use]
    pub fn asked(&self, registry: &str, now: Timestamp) -> u64 {
        self.registries.open(registry, now)
    }

    /// A plan with new guesses was made for a node of a zone, whose bytes come one after the other at
    /// `rate` (bytes per second).
    pub fn begin(&mut self, zone: &str, guesses: &[Guess], rate: f64, now: Timestamp) {
        let mut seconds = 0.0;
        for guess in guesses {
            seconds += guess.bytes.0 as f64 / rate.max(1.0);
            let lasts = Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()));
            self.zones.charge(zone, guess.bytes.0, lasts, now);
            self.registries
                .charge(&guess.registry, guess.requests, MINUTE, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn bytes_are_under_way_for_as_long_as_the_link_takes_and_requests_for_a_minute() {
        let mut flights = Flights::default();
        let guess = Guess {
            registry: "quay.io".into(),
            bytes: ByteSize(100),
            requests: 7,
        };
        // The second hundred bytes come after the first: 10 s and 20 s at 10 bytes a second.
        flights.begin("a", &[guess.clone(), guess], 10.0, at(100));
        let seen = |secs| {
            let zone = flights.into_zone("a", at(secs)).0;
            (zone, flights.asked("quay.io", at(secs)))
        };
        assert_eq!(seen(100), (200, 14));
        assert_eq!(seen(112), (100, 14));
        assert_eq!(seen(122), (0, 14));
        assert_eq!(seen(162), (0, 0));
        assert_eq!(flights.into_zone("b", at(100)).0, 0);
    }

    proptest! {
        #[test]
        fn what_is_open_is_what_was_charged_and_is_not_over(
            charges in prop::collection::vec((0..1000_u64, 0..90_u64, 0..30_u64), 0..40)
        ) {
            let mut ledger = Ledger::default();
            let mut now = 0;
            let mut all = Vec::new();
            for (amount, lasts, pause) in charges {
                now += pause;
                ledger.charge("k", amount, Duration::from_secs(lasts), at(now));
                all.push((at(now + lasts).next_whole(STEP), amount));
                let open: u64 = all.iter().filter(|(end, _)| *end > at(now)).map(|(_, a)| a).sum();
                prop_assert_eq!(ledger.open("k", at(now)), open);
            }
        }
    }
}
