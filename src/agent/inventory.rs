//! When a node's images are listed, and what is then written of them: all, or what has changed.

mod picture;

use std::time::Duration;

use serde_json::Value;

use crate::api::Inventory;
use crate::domain::inventory::StoredImage;
use crate::domain::time::Timestamp;

use picture::{delta, picture};

/// Pauses between two statuses that pass between two inventories: half a minute. Nobody waits for one (pods and
/// kubelets tell of their images themselves), and a node whose first thirty pods come within a minute writes thrice.
const PAUSES: u32 = 3;

/// Listed at least so often, whatever is told of changes: a runtime may tell none.
const ANYWAY: Duration = Duration::from_mins(10);

/// Between two lists that found nothing new: this part of a pause.
const LOOKS: u32 = 6;

/// A pull makes several records, some milliseconds apart.
const SETTLE: Duration = Duration::from_millis(200);

/// What to write of an inventory.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Everything: nobody knows what is there.
    Whole,
    /// A JSON merge patch that makes what is there into what is to be.
    Delta(Value),
}

/// What was written, and when to look again.
#[derive(Debug)]
pub(super) struct Shelf {
    pause: Duration,
    /// What the API server has acknowledged.
    written: Option<Inventory>,
    /// When the runtime was asked last.
    listed: Option<Timestamp>,
    /// Since when something may have changed.
    changed: Option<Timestamp>,
    not_before: Timestamp,
    failures: u32,
    /// A list or a write is under way.
    busy: bool,
}

impl Shelf {
    /// Nothing written; `pause` is the one between two statuses.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause: pause * PAUSES,
            written: None,
            listed: None,
            changed: None,
            not_before: Timestamp::ZERO,
            failures: 0,
            busy: false,
        }
    }

    /// Images have come or gone.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.changed.get_or_insert(now);
    }

    /// When the images are to be listed; `None` while they are, or are written.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.busy {
            return None;
        }
        let anyway = self.listed.map_or(Timestamp::ZERO, |at| at + ANYWAY);
        let changed = self.changed.map(|since| since + SETTLE);
        let due = changed.map_or(anyway, |at| at.min(anyway));
        Some(due.max(self.not_before))
    }

    /// The runtime is asked now: what changes from here on may be missing in its answer.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.busy = true;
        self.changed = None;
        self.listed = Some(now);
    }

    /// What is to be written of its answer, with all of it; none where that is no news.
    pub(super) fn take(&mut self, images: Vec<StoredImage>) -> Option<(Change, Inventory)> {
        let listed = self.listed.unwrap_or(Timestamp::ZERO);
        let new = picture(images, listed);
        let change = match &self.written {
            None => Some(Change::Whole),
            Some(old) => delta(old, &new).map(Change::Delta),
        };
        self.busy = change.is_some();
        if change.is_none() {
            // Events that change nothing (a pull of what is there) are no reason to ask at every one.
            self.not_before = self.not_before.max(listed + self.pause / LOOKS);
        }
        Some((change?, new))
    }

    /// There is nothing to list, or nobody to tell: not before the next object.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        self.not_before = Timestamp::MAX;
    }

    /// The API server has `stored`; `meant` was to be there.
    pub(super) fn wrote(&mut self, meant: Inventory, stored: Option<&Inventory>, now: Timestamp) {
        if stored != Some(&meant) {
            // Somebody else writes it, the object is another one, or its definition is older than we are.
            tracing::debug!("what was written of the node's images is not what is there");
            return self.failed(now);
        }
        self.busy = false;
        self.failures = 0;
        self.written = Some(meant);
        self.not_before = now + self.pause;
    }

    /// Nobody knows what the API server has: all is written next, after pauses that double.
    pub(super) fn failed(&mut self, now: Timestamp) {
        let pause = self.pause * 2_u32.pow(self.failures.min(8));
        self.failures += 1;
        self.busy = false;
        self.written = None;
        self.changed = Some(now);
        self.not_before = now + pause.min(ANYWAY);
    }

    /// The object is gone: all is written to the next one.
    pub(super) fn forget(&mut self) {
        self.written = None;
        self.listed = None;
        self.not_before = Timestamp::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::Digest;
    use crate::domain::quantity::ByteSize;

    fn stored(n: u8) -> StoredImage {
        StoredImage {
            digest: Digest::from_sha256(&[n; 32]),
            names: vec![format!("r.io/team/app:{n}").parse().unwrap()],
            planned: Vec::new(),
            bytes: Some(ByteSize(u64::from(n))),
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs_f64(1e9) + Duration::from_millis(millis)
    }

    /// Lists and writes when that is due; what was written.
    fn look(shelf: &mut Shelf, images: &[StoredImage], now: Timestamp) -> Option<Change> {
        if shelf.due().is_none_or(|at| at > now) {
            return None;
        }
        shelf.begin(now);
        let (change, meant) = shelf.take(images.to_vec())?;
        shelf.wrote(meant.clone(), Some(&meant), now);
        Some(change)
    }

    #[test]
    fn a_node_that_starts_thirty_pods_in_a_minute_writes_a_few_times() {
        let mut shelf = Shelf::new(Duration::from_secs(10));
        let (mut images, mut writes) = (Vec::new(), Vec::new());
        for tick in 0..1800 {
            let now = at(tick * 100);
            if tick % 20 == 0 && tick < 600 {
                images.push(stored(images.len() as u8));
                shelf.note(now);
            }
            writes.extend(look(&mut shelf, &images, now));
        }
        assert!((3..=4).contains(&writes.len()), "{writes:?}");
        assert_eq!(writes[0], Change::Whole);
        let Some(Change::Delta(last)) = writes.last() else {
            panic!("{writes:?}");
        };
        // Half a minute of images.
        let named = last["images"].as_object().unwrap().len();
        assert!(named <= 15, "{named}");
        assert_eq!(shelf.written.unwrap().images.len(), 30);
    }

    #[test]
    fn where_nothing_changes_nothing_is_written_though_it_is_looked_at() {
        let mut shelf = Shelf::new(Duration::from_secs(10));
        let images = [stored(1)];
        assert_eq!(look(&mut shelf, &images, at(0)), Some(Change::Whole));
        let (mut looks, mut now) = (0, at(0));
        while now < at(3_600_000) {
            now = shelf.due().unwrap();
            shelf.begin(now);
            assert_eq!(shelf.take(images.to_vec()), None);
            looks += 1;
        }
        assert_eq!(looks, 6, "six looks in an hour");
        // An event says that something may have changed, and it has not.
        shelf.note(now);
        assert_eq!(shelf.due(), Some(now + Duration::from_secs(5)));
    }

    #[test]
    fn after_a_write_that_failed_all_is_written_and_ever_more_rarely() {
        let mut shelf = Shelf::new(Duration::from_secs(10));
        look(&mut shelf, &[stored(1)], at(0));
        let mut waits = Vec::new();
        for n in 2..9 {
            let now = shelf.due().unwrap().max(at(60_000));
            shelf.begin(now);
            let (change, meant) = shelf.take(vec![stored(n)]).unwrap();
            assert_eq!(change == Change::Whole, n > 2);
            // What the server answers is of another hand.
            let other = Inventory {
                omitted: 7,
                ..meant.clone()
            };
            shelf.wrote(meant, Some(&other), now);
            waits.push(shelf.due().unwrap().secs_since(now).round());
        }
        assert_eq!(waits, [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]);
    }

    #[test]
    fn a_new_object_is_told_everything_at_once() {
        let mut shelf = Shelf::new(Duration::from_secs(10));
        look(&mut shelf, &[stored(1)], at(0));
        shelf.forget();
        assert_eq!(look(&mut shelf, &[stored(1)], at(10)), Some(Change::Whole));
        shelf.rest();
        assert_eq!(look(&mut shelf, &[stored(2)], at(1_000_000)), None);
        shelf.forget();
        assert_eq!(
            look(&mut shelf, &[stored(2)], at(1_000_001)),
            Some(Change::Whole)
        );
    }
}
