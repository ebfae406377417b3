//! Signals as a watcher in trouble hears them: lost, doubled, late, out of order.
//!
//! Only messages suffer so: Events, Kafka, load samples. A watch of objects loses nothing: it stalls,
//! then lists what there is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;

/// Part of the messages that is late, and part of the time in which a watch stalls.
const LATE_SHARE: f64 = 0.1;

/// A doubled message comes again within this.
const AGAIN_WITHIN_S: f64 = 30.0;

/// What happens to signals on their way; nothing by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// Part of the messages that is lost.
    pub drop: f64,
    /// Part of the messages that comes twice.
    pub duplicate: f64,
    /// Part of the messages that changes places with the next one of its source.
    pub reorder: f64,
    /// A tenth of the messages is so late; every watch stalls so long, a tenth of the time.
    pub delay: Duration,
    /// Of the choice.
    pub seed: u64,
}

// === impl Trouble ===

impl Trouble {
    /// Whether signals come as they were recorded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let shares = [self.drop, self.duplicate, self.reorder];
        shares.iter().all(|share| *share <= 0.0) && self.delay.is_zero()
    }
}

/// Whether a signal is a message, which may be lost: not an object that a watch lists again.
#[must_use]
pub fn is_message(signal: &Signal) -> bool {
    let source = signal.source.as_str();
    matches!(signal.fact, Fact::LoadSampled(_))
        || source.starts_with("/kafka")
        || source == "/kubernetes/events"
}

/// The signals in the order in which they are heard. What is known at the start is known, and truth is
/// left alone.
#[must_use]
pub fn perturbed<'a>(
    signals: &'a [Signal],
    start: Timestamp,
    trouble: &Trouble,
) -> Cow<'a, [Signal]> {
    if trouble.is_none() {
        return Cow::Borrowed(signals);
    }
    let safe = |signal: &Signal| signal.truth || signal.observedtime <= start;
    let (messages, rest): (Vec<&Signal>, Vec<&Signal>) = signals
        .iter()
        .partition(|signal| !safe(signal) && is_message(signal));
    let (known, watched): (Vec<&Signal>, Vec<&Signal>) =
        rest.into_iter().partition(|signal| safe(signal));
    let mut heard: Vec<Signal> = known.into_iter().cloned().collect();
    heard.extend(stalled(&watched, start, trouble));
    heard.extend(disturbed(&messages, trouble));
    // Stable: equal times in the order of the parts above, which does not depend on the seed.
    heard.sort_by_key(|signal| signal.observedtime);
    Cow::Owned(heard)
}

/// Messages: each draws four numbers whatever becomes of it, so that a larger share loses a superset.
fn disturbed(messages: &[&Signal], trouble: &Trouble) -> Vec<Signal> {
    let mut rng = ChaCha8Rng::seed_from_u64(trouble.seed);
    let mut heard: Vec<Signal> = Vec::with_capacity(messages.len());
    let mut again = Vec::new();
    // By source: the place in `heard` of one that waits for the next to overtake it.
    let mut overtaken: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages {
        let [lost, late, doubled, swapped]: [f64; 4] = rng.random();
        if lost < trouble.drop {
            continue;
        }
        let mut signal = (*message).clone();
        if late < LATE_SHARE {
            signal.observedtime = signal.observedtime + trouble.delay;
        }
        if doubled < trouble.duplicate {
            // What is left of the draw is as good as a fresh one.
            let after = AGAIN_WITHIN_S * doubled / trouble.duplicate;
            let mut copy = signal.clone();
            copy.observedtime = copy.observedtime + Duration::from_secs_f64(after);
            again.push(copy);
        }
        let place = heard.len();
        if let Some(before) = overtaken.remove(message.source.as_str()) {
            let earlier: &mut Signal = &mut heard[before];
            std::mem::swap(&mut earlier.observedtime, &mut signal.observedtime);
        } else if swapped < trouble.reorder {
            overtaken.insert(&message.source, place);
        }
        heard.push(signal);
    }
    heard.extend(again);
    heard
}

/// Watches: while one stalls nothing comes; then a list shows what there is, not what was between.
fn stalled(watched: &[&Signal], start: Timestamp, trouble: &Trouble) -> Vec<Signal> {
    if trouble.delay.is_zero() {
        return watched.iter().copied().cloned().collect();
    }
    let mut heard = Vec::with_capacity(watched.len());
    let mut listed: BTreeSet<(&str, i64, Object)> = BTreeSet::new();
    // From the end: the last word on an object in a stall is the one that the list shows.
    for &signal in watched.iter().rev() {
        let mut late = signal.clone();
        if let Some((stall, over)) = stall(signal, start, trouble) {
            if !listed.insert((&signal.source, stall, object(&signal.fact))) {
                continue;
            }
            late.observedtime = over;
        }
        heard.push(late);
    }
    heard.reverse();
    heard
}

/// Number of the stall that a signal falls into, and when it is over.
fn stall(signal: &Signal, start: Timestamp, trouble: &Trouble) -> Option<(i64, Timestamp)> {
    let takes = trouble.delay.as_secs_f64();
    let period = takes / LATE_SHARE;
    let at = signal.observedtime.secs_since(start);
    let number = (at / period).floor();
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let source = signal.source.bytes().fold(trouble.seed, fold);
    let mut rng = ChaCha8Rng::seed_from_u64(source ^ (number as u64) << 32);
    let begins = number * period + rng.random::<f64>() * (period - takes);
    let over = start + Duration::from_secs_f64(begins + takes);
    (at >= begins && at < begins + takes).then_some((number as i64, over))
}

/// The object, and the side of it, that a fact tells about: a later word replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object(&'static str, String);

/// What a fact is a word on.
#[must_use]
pub fn object(fact: &Fact) -> Object {
    let (side, name) = match fact {
        Fact::NodeRequested(fact) => match &fact.request {
            Some(request) => ("request", request.clone()),
            None => ("target", fact.pool.clone()),
        },
        Fact::NodeLaunched(fact) => ("launched", fact.request.clone().unwrap_or_default()),
        Fact::NodeJoined(fact) => ("node", fact.node.clone()),
        Fact::NodeReady(fact) => ("ready", fact.node.clone()),
        Fact::NodeInterrupted(fact) => ("interrupted", fact.node.clone()),
        Fact::NodeInventory(fact) => ("inventory", fact.node.clone()),
        Fact::NodeRemoved(fact) => {
            let name = fact.node.as_ref().or(fact.request.as_ref());
            ("gone", name.cloned().unwrap_or_default())
        }
        Fact::PodPending(fact) | Fact::PodGated(fact) => ("pod", fact.pod.uid.clone()),
        Fact::PodBound(fact) => ("pod", fact.pod.uid.clone()),
        Fact::PodRemoved(fact) => ("pod", fact.pod.uid.clone()),
        Fact::PodNominated(fact) => ("nominated", fact.pod.uid.clone()),
        Fact::PodStarted(fact) => ("started", fact.pod.uid.clone()),
        Fact::WorkloadApplied(fact) => ("workload", fact.workload.to_string()),
        Fact::WorkloadRemoved(fact) => ("workload", fact.workload.to_string()),
        Fact::ScalerObserved(fact) => ("scaler", fact.scaler.to_string()),
        Fact::CapacityAnnounced(fact) => ("capacity", fact.name.clone()),
        Fact::ImageResolved(fact) => ("image", fact.image.to_string()),
        Fact::LoadSampled(_)
        | Fact::NodeOffered(_)
        | Fact::ImagePulled(_)
        | Fact::TransferFinished(_)
        | Fact::PlanPublished(_)
        | Fact::PrefetchFinished(_) => ("message", String::new()),
    };
    Object(side, name)
}

/// What an API server would list now: the objects of all signals heard so far.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    heard: u64,
    objects: BTreeMap<Object, (u64, Signal)>,
}

// === impl Listing ===

impl Listing {
    /// Takes one signal in. Messages leave nothing behind.
    pub fn hear(&mut self, signal: &Signal) {
        if is_message(signal) {
            return;
        }
        let object = object(&signal.fact);
        let sides: &[&'static str] = match &signal.fact {
            Fact::NodeRemoved(_) => &["node", "ready", "interrupted", "request", "launched"],
            Fact::PodRemoved(_) => &["pod", "started", "nominated"],
            Fact::WorkloadRemoved(_) => &["workload"],
            Fact::ImageResolved(_) | Fact::ImagePulled(_) => return,
            _ => &[],
        };
        if sides.is_empty() {
            self.heard += 1;
            self.objects.insert(object, (self.heard, signal.clone()));
            return;
        }
        for side in sides {
            self.objects.remove(&Object(side, object.1.clone()));
        }
    }

    /// The list, in the order of the last words, as seen at `now`.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<Signal> {
        let mut listed: Vec<&(u64, Signal)> = self.objects.values().collect();
        listed.sort_by_key(|(order, _)| *order);
        let seen = listed.into_iter().map(|(_, signal)| Signal {
            observedtime: now,
            ..signal.clone()
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests;
