//! What watchers see of the model: each fact as a signal, late or lost as `[watch]` says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::compose::random::Random;
use crate::compose::spec::{Draw, Watch};
use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::source::scenario::ScenarioError;

/// Where signals go, in the order of `observedtime`.
pub type Sink<'a> = &'a mut dyn FnMut(&Signal) -> Result<(), ScenarioError>;

/// How a fact comes to its watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// A change of an object, which the API server stamps with whole seconds.
    Second,
    /// A change of an object that nobody stamps: its time is when it is seen.
    Seen,
    /// A Kubernetes Event: stamped with whole seconds, later, and lost at times.
    Event,
    /// A sample of a series.
    Sample,
}

/// A fact with what a signal needs beside it.
#[derive(Clone, Debug)]
pub struct Note<'a> {
    /// `/kubernetes/pods`
    pub source: &'a str,
    /// Uid of the object.
    pub uid: &'a str,
    /// `pending`, `bound`: the last part of the id.
    pub what: &'a str,
    /// `namespace/name`
    pub subject: &'a str,
    /// How it comes.
    pub stamp: Stamp,
    /// Only for the scorer.
    pub truth: bool,
}

/// The signals on their way to their watchers.
pub struct Tape<'a> {
    sink: Sink<'a>,
    watch: Watch,
    random: Random,
    /// Nothing is written before the start.
    live: bool,
    start: Timestamp,
    end: Timestamp,
    /// Resource versions.
    version: u64,
    /// Streams: none overtakes itself. All objects of the API server are one, so that no pod is seen
    /// on a node that was not; Events and each load series are others.
    last: BTreeMap<String, Timestamp>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    counts: BTreeMap<&'static str, u64>,
}

struct Waiting {
    at: Timestamp,
    order: u64,
    signal: Signal,
}

// === impl Tape ===

impl<'a> Tape<'a> {
    /// An empty tape that is silent until `go_live`.
    pub fn new(
        sink: Sink<'a>,
        watch: &Watch,
        seed: u64,
        (start, end): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            sink,
            watch: watch.clone(),
            random: Random::new(seed, "watch"),
            live: false,
            start,
            end,
            version: 1000,
            last: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Whether something is written.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// From now on signals are written.
    pub fn go_live(&mut self) {
        self.live = true;
    }

    /// Signals written, by type.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// A write to the API server: its resource version.
    pub fn version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// A fact that comes about now.
    pub fn note(&mut self, now: Timestamp, note: &Note<'_>, fact: Fact) {
        let version = self.version();
        if !self.live {
            return;
        }
        let delay = match note.stamp {
            Stamp::Second | Stamp::Seen => self.watch.objects,
            Stamp::Event => self.watch.events,
            Stamp::Sample => self.watch.load,
        };
        // What is only for the scorer is not lost: it is the truth.
        let lost = match note.stamp {
            Stamp::Event if !note.truth => self.watch.events_lost,
            Stamp::Sample => self.watch.load_lost,
            _ => 0.0,
        };
        if lost > 0.0 && self.random.unit() < lost {
            return;
        }
        let seen = now + self.delay(&delay);
        let stream = match note.stamp {
            Stamp::Second | Stamp::Seen => "/kubernetes",
            Stamp::Event | Stamp::Sample => note.source,
        };
        let last = self.last.entry(stream.to_owned()).or_insert(seen);
        let seen = seen.max(*last);
        *last = seen;
        let time = match note.stamp {
            Stamp::Second | Stamp::Event => whole_second(now),
            Stamp::Seen => seen,
            Stamp::Sample => now,
        };
        let id = match note.stamp {
            Stamp::Sample => format!("{}/{version}", note.uid),
            _ => format!("{}/{version}/{}", note.uid, note.what),
        };
        self.push(seen, time, id, (note, fact));
    }

    /// A fact that is known at the start already; `since` is when it came about.
    pub fn known(&mut self, since: Timestamp, note: &Note<'_>, fact: Fact) {
        let version = self.version();
        let time = whole_second(since).min(self.start);
        let id = format!("{}/{version}/{}", note.uid, note.what);
        self.push(self.start, time, id, (note, fact));
    }

    /// Writes what is seen before `now`.
    pub fn flush(&mut self, now: Timestamp) -> Result<(), ScenarioError> {
        while self
            .waiting
            .peek()
            .is_some_and(|Reverse(first)| first.at < now)
        {
            let Some(Reverse(first)) = self.waiting.pop() else {
                break;
            };
            if first.at > self.end {
                continue;
            }
            *self
                .counts
                .entry(first.signal.fact.event_type())
                .or_default() += 1;
            (self.sink)(&first.signal)?;
        }
        Ok(())
    }

    fn delay(&mut self, draw: &Draw) -> Duration {
        Duration::from_secs_f64(self.random.draw(draw).max(0.0))
    }

    fn push(
        &mut self,
        at: Timestamp,
        time: Timestamp,
        id: String,
        (note, fact): (&Note<'_>, Fact),
    ) {
        let mut signal = Signal::new(note.source, id, time, fact);
        signal.observedtime = at;
        signal.truth = note.truth;
        if !note.subject.is_empty() {
            signal.subject = Some(note.subject.to_owned());
        }
        self.waiting.push(Reverse(Waiting {
            at,
            order: self.version,
            signal,
        }));
    }
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros().div_euclid(1_000_000) * 1_000_000)
}

// === impl Waiting ===

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
