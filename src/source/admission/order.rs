//! Signals put in the order of their `observedtime`, held back no longer than a stated time.
//!
//! Two bounds, because they cost different things. `hold` is how long a signal is kept back so that
//! an earlier one can overtake it: it is paid by every signal, as lead time. `lateness` is how far
//! behind what was already released a signal may come and still be taken: it is then given the
//! `observedtime` of the last one released, which is the truth for this watcher (it could not know
//! it earlier), so that what comes out is sorted always. With `hold` equal to `lateness` nothing is
//! ever restamped.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::rejection::{Behind, Rejection};

/// Before everything.
const START: Timestamp = Timestamp::from_micros(i64::MIN);

/// Bounds of an [`Order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderLimits {
    /// How long a signal waits for earlier ones.
    pub hold: Duration,
    /// How far behind a signal may come, and how far ahead of this clock its stamp may be.
    pub lateness: Duration,
    /// Signals held at most; beyond it the earliest goes out without waiting.
    pub max: usize,
}

/// One part of a history that is being read beside others (a Kafka partition): until it is closed,
/// nothing later than what it has reached goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u32);

/// A buffer that sorts.
#[derive(Debug)]
pub struct Order {
    limits: OrderLimits,
    held: BinaryHeap<Reverse<Held>>,
    count: u64,
    newest: Timestamp,
    /// Latest `observedtime` among those that have waited for `hold`.
    ripe: Timestamp,
    /// Arrivals that have not, merged to a sixteenth of `hold`: (latest arrival, latest stamp).
    arrivals: VecDeque<(Timestamp, Timestamp)>,
    released: Timestamp,
    lanes: BTreeMap<Lane, Timestamp>,
}

/// Sorted by stamp, then by arrival: signals of one instant keep their order.
#[derive(Debug)]
struct Held {
    observed: Timestamp,
    arrival: u64,
    signal: Signal,
}

impl Default for OrderLimits {
    /// Half a second is what producers on one network differ by; ten minutes is a broker's outage
    /// during which producers kept their messages.
    fn default() -> Self {
        Self {
            hold: Duration::from_millis(500),
            lateness: Duration::from_mins(10),
            max: 20_000,
        }
    }
}

// === impl Order ===

impl Order {
    /// Holds nothing.
    #[must_use]
    pub fn new(limits: OrderLimits) -> Self {
        Self {
            limits,
            held: BinaryHeap::new(),
            count: 0,
            newest: START,
            ripe: START,
            arrivals: VecDeque::new(),
            released: START,
            lanes: BTreeMap::new(),
        }
    }

    /// A history begins to be read.
    pub fn open_lane(&mut self, lane: Lane) {
        self.lanes.insert(lane, START);
    }

    /// A history is read to its end.
    pub fn close_lane(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
    }

    /// Whether any history is still being read.
    #[must_use]
    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Whether this history is still being read.
    #[must_use]
    pub fn is_open(&self, lane: Lane) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// The open lane that holds the others back.
    #[must_use]
    pub fn laggard(&self) -> Option<Lane> {
        self.lanes
            .iter()
            .min_by_key(|(lane, reached)| (**reached, **lane))
            .map(|(lane, _)| *lane)
    }

    /// Signals now held, at most `max`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes a signal, or says why not.
    pub fn push(
        &mut self,
        signal: Signal,
        now: Timestamp,
        lane: Option<Lane>,
    ) -> Result<(), Rejection> {
        self.progress(&signal, now, lane);
        self.check(&signal, now)?;
        self.hold(signal, now);
        Ok(())
    }

    /// Notes how far a lane has come, even by a signal that is not taken.
    pub(super) fn progress(&mut self, signal: &Signal, now: Timestamp, lane: Option<Lane>) {
        if let Some(reached) = lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            *reached = (*reached).max(signal.observedtime.min(now));
        }
    }

    /// Whether the signal's stamp is one that can still be taken.
    pub(super) fn check(&self, signal: &Signal, now: Timestamp) -> Result<(), Rejection> {
        let observed = signal.observedtime;
        if observed > now + self.limits.lateness {
            Err(Rejection::Future {
                ahead_s: Behind::between(now, observed),
            })
        } else if observed + self.limits.lateness < self.released {
            Err(Rejection::Late {
                behind_s: Behind::between(observed, self.released),
            })
        } else {
            Ok(())
        }
    }

    /// Holds a signal that was checked.
    pub(super) fn hold(&mut self, mut signal: Signal, now: Timestamp) {
        // A stamp ahead of this clock is the producer's clock: it is known now, so not later.
        let observed = signal.observedtime.min(now).max(self.released);
        signal.observedtime = observed;
        self.newest = self.newest.max(observed);
        self.ripen(now);
        let step = self.limits.hold / 16;
        match self.arrivals.back_mut() {
            Some(last) if now <= last.0 + step => {
                *last = (last.0.max(now), last.1.max(observed));
            }
            _ => self.arrivals.push_back((now, observed)),
        }
        self.count += 1;
        self.held.push(Reverse(Held {
            observed,
            arrival: self.count,
            signal,
        }));
    }

    /// The earliest signal, if it need not wait any longer.
    pub fn next(&mut self, now: Timestamp) -> Option<Signal> {
        self.ripen(now);
        let due = match self.lanes.values().min() {
            Some(reached) => *reached - self.limits.hold,
            None => self.ripe.max(self.newest - self.limits.hold),
        };
        let earliest = self.held.peek()?.0.observed;
        if earliest > due && self.held.len() <= self.limits.max {
            return None;
        }
        self.pop()
    }

    /// Everything that is held, in order.
    pub fn flush(&mut self) -> Vec<Signal> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// When the earliest has waited long enough; `None` while nothing is held, or while histories
    /// are read (then only reading on helps).
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.held.is_empty() || self.has_lanes() {
            return None;
        }
        self.arrivals.front().map(|(at, _)| *at + self.limits.hold)
    }

    fn pop(&mut self) -> Option<Signal> {
        let Reverse(first) = self.held.pop()?;
        self.released = self.released.max(first.observed);
        Some(first.signal)
    }

    fn ripen(&mut self, now: Timestamp) {
        while let Some((at, observed)) = self.arrivals.front().copied() {
            if at + self.limits.hold > now {
                break;
            }
            self.ripe = self.ripe.max(observed);
            self.arrivals.pop_front();
        }
    }
}

// === impl Held ===

impl Held {
    fn key(&self) -> (Timestamp, u64) {
        (self.observed, self.arrival)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
