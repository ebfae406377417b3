//! Which (`source`, `id`) has been taken, in bounded memory.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::rejection::{Behind, Rejection};

/// How long and how many identities are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Behind the signals that were handed on.
    pub window: Duration,
    /// Identities; about 70 bytes each.
    pub max: usize,
}

/// The identities of the youngest signals.
///
/// What it had to forget it refuses from then on: nothing at or before the forgotten one's place in
/// (`observedtime`, identity) order is taken any more, so a repetition never gets through, however
/// small the memory. The price is paid under overload only, by signals that are late anyway.
#[derive(Debug)]
pub struct Dedup {
    memory: Memory,
    known: HashSet<Identity>,
    by_time: BTreeSet<(Timestamp, Identity)>,
    forgotten: Option<(Timestamp, Identity)>,
}

/// 128 bits of (`source`, `id`): with 100,000 remembered, one new signal in 10^33 is mistaken for
/// an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(u128);

impl Default for Memory {
    fn default() -> Self {
        Self {
            window: Duration::from_hours(1),
            max: 100_000,
        }
    }
}

impl Identity {
    /// Of a signal.
    #[must_use]
    pub fn of(signal: &Signal) -> Self {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &signal.source, &signal.id).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Self(half(1) << 64 | half(2))
    }
}

impl Dedup {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            known: HashSet::new(),
            by_time: BTreeSet::new(),
            forgotten: None,
        }
    }

    /// The identity, unless the signal was taken before or may have been.
    pub fn check(&self, signal: &Signal) -> Result<Identity, Rejection> {
        let identity = Identity::of(signal);
        if self.known.contains(&identity) {
            return Err(Rejection::Duplicate {
                source_name: signal.source.clone(),
                id: signal.id.clone(),
            });
        }
        match self.forgotten {
            Some(forgotten) if (signal.observedtime, identity) <= forgotten => {
                Err(Rejection::Late {
                    behind_s: Behind::between(signal.observedtime, forgotten.0),
                })
            }
            _ => Ok(identity),
        }
    }

    /// Remembers an identity that was taken, and forgets the oldest where it is one too many.
    pub fn remember(&mut self, identity: Identity, observed: Timestamp) {
        if self.known.insert(identity) {
            self.by_time.insert((observed, identity));
        }
        while self.by_time.len() > self.memory.max {
            self.forget_first();
        }
    }

    /// Everything up to `handed_on` left: what is a window older need not be known any more.
    pub fn forget(&mut self, handed_on: Timestamp) {
        let oldest = handed_on - self.memory.window;
        while self.by_time.first().is_some_and(|(at, _)| *at < oldest) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.by_time.pop_first() {
            self.known.remove(&first.1);
            self.forgotten = self.forgotten.max(Some(first));
        }
    }

    /// Identities now remembered, at most `max`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}
