//! Pulls of others, as far as a daemon shows them: blobs on their way, layers being unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::domain::image::Digest;
use crate::domain::time::Timestamp;
use crate::port::RuntimeChange;
use crate::runtime::containerd::delivery::Shared;
use crate::runtime::containerd::event::Event;

/// How often writes under way are looked for, while there is anything that could be in their way: no
/// daemon before 2.1 tells of them. A look costs both sides some 0.2 ms.
const LOOK: Duration = Duration::from_millis(250);

/// The same while layers of ours are written and no pull is seen: one of 2 s would otherwise share its first
/// eighth. During a pull we wait anyway, and each look is time of the daemon's that it needs itself.
const LOOK_BUSY: Duration = Duration::from_millis(60);

/// A write that stood still for so long is nobody's: a registry that stalls longer gives way to us.
const STILL: Duration = Duration::from_secs(10);

/// So does an unpacking that takes so long: 100 GB at the rate of one core.
const UNPACKED: Duration = Duration::from_mins(15);

/// A pull is over when nothing was seen of it for so long: between its blobs and its layers it rests.
const REST: Duration = Duration::from_millis(700);

/// What events say of others' unpacking.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    /// Snapshots that are being filled, by key: chain ID, and since when.
    unpacking: Mutex<BTreeMap<String, (Digest, Timestamp)>>,
    begun: Notify,
}

// === impl Pulls ===

impl Pulls {
    /// Takes in one event.
    pub(super) fn note(&self, event: &Event, now: Timestamp) {
        match event {
            Event::SnapshotPrepared { key, .. } => {
                if let Some(chain) = foreign(key) {
                    self.unpacking().insert(key.clone(), (chain, now));
                    self.begun.notify_one();
                }
            }
            Event::SnapshotCommitted { key, .. } | Event::SnapshotRemoved(key) => {
                self.unpacking().remove(key);
            }
            _ => {}
        }
    }

    /// Events may have been lost: what was being unpacked is not known any more.
    pub(super) fn forget(&self) {
        self.unpacking().clear();
    }

    fn chains(&self, now: Timestamp) -> Vec<Digest> {
        let mut unpacking = self.unpacking();
        unpacking.retain(|_, (_, since)| *since + UNPACKED > now);
        let chains = unpacking.values();
        chains.map(|(chain, _)| chain.clone()).collect()
    }

    fn unpacking(&self) -> MutexGuard<'_, BTreeMap<String, (Digest, Timestamp)>> {
        self.unpacking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what others are fetching and unpacking, until nobody listens.
pub(super) async fn watch(shared: &Arc<Shared>, pulls: &Pulls, tell: &mpsc::Sender<RuntimeChange>) {
    let mut writes = Writes::default();
    let mut seen = Seen::default();
    loop {
        let busy = shared.is_writing() && seen.is_empty();
        let pause = if busy { LOOK_BUSY } else { LOOK };
        let next = shared.clock.now() + pause;
        let is_due = tokio::select! {
            () = shared.clock.sleep_until(next) => true,
            () = pulls.begun.notified() => false,
        };
        // With nothing planned nothing can be in a pull's way.
        if shared.images().is_empty() && seen.is_empty() {
            continue;
        }
        let mut under_way = if is_due {
            let ingests = shared.client.ingests().await.unwrap_or_default();
            let told = ingests.into_iter().map(|i| (i.r#ref, i.offset));
            writes.moving(told, shared.clock.now())
        } else {
            BTreeSet::new()
        };
        let now = shared.clock.now();
        under_way.extend(pulls.chains(now));
        for (digest, active) in seen.look(under_way, now) {
            let change = RuntimeChange::Foreground { digest, active };
            if tell.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// What was told as under way, and when it was last seen.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<Digest, Timestamp>);

impl Seen {
    /// What has begun (`true`), and what has not been seen for so long that it is over.
    pub fn look(&mut self, under_way: BTreeSet<Digest>, now: Timestamp) -> Vec<(Digest, bool)> {
        let mut changes = Vec::new();
        for digest in under_way {
            if self.0.insert(digest.clone(), now).is_none() {
                changes.push((digest, true));
            }
        }
        let over = self.0.extract_if(.., |_, last| *last + REST <= now);
        changes.extend(over.map(|(digest, _)| (digest, false)));
        changes
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes of others by their names: how far they are, and since when.
#[derive(Debug, Default)]
pub struct Writes(BTreeMap<String, (i64, Timestamp)>);

impl Writes {
    /// The blobs that somebody is writing: a daemon keeps the writes of killed clients, which stand still.
    pub fn moving(
        &mut self,
        told: impl Iterator<Item = (String, i64)>,
        now: Timestamp,
    ) -> BTreeSet<Digest> {
        let told = told.filter(|(name, _)| foreign(name).is_some());
        let seen = |(name, offset): (String, i64)| {
            let since = match self.0.get(&name) {
                Some((before, since)) if *before == offset => *since,
                _ => now,
            };
            (name, (offset, since))
        };
        self.0 = told.map(seen).collect();
        let moving = self.0.iter().filter(|(_, (_, since))| *since + STILL > now);
        moving.filter_map(|(name, _)| foreign(name)).collect()
    }
}

/// What a write or snapshot that is not ours is for: `layer-sha256:<hex>` and `extract-<unique> sha256:<hex>`,
/// as containerd's clients name them.
fn foreign(reference: &str) -> Option<Digest> {
    if reference.starts_with("forelay-") {
        return None;
    }
    let at = reference.find("sha256:")?;
    reference[at..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_stands_still_is_nobodys() {
        let digest = Digest::from_sha256(&[7; 32]);
        let mut writes = Writes::default();
        let mut at = |offset, seconds| {
            let told = [(format!("layer-{digest}"), offset)].into_iter();
            let now = Timestamp::ZERO + Duration::from_secs(seconds);
            !writes.moving(told, now).is_empty()
        };
        assert!(at(5, 0) && at(5, 9));
        assert!(!at(5, 10));
        assert!(at(6, 11), "it goes on");
    }

    #[test]
    fn a_pull_is_over_when_it_has_rested() {
        let digest = Digest::from_sha256(&[7; 32]);
        let mut seen = Seen::default();
        let at = |millis| Timestamp::ZERO + Duration::from_millis(millis);
        let now = || BTreeSet::from([digest.clone()]);
        assert_eq!(seen.look(now(), at(0)), vec![(digest.clone(), true)]);
        // Between two of its blobs.
        assert_eq!(seen.look(BTreeSet::new(), at(600)), []);
        assert_eq!(seen.look(now(), at(650)), []);
        assert_eq!(
            seen.look(BTreeSet::new(), at(1350)),
            vec![(digest.clone(), false)]
        );
        assert!(seen.is_empty());
    }

    #[test]
    fn what_others_do_is_told_from_our_own() {
        let digest = Digest::from_sha256(&[7; 32]);
        assert_eq!(foreign(&format!("layer-{digest}")), Some(digest.clone()));
        let unpacking = format!("extract-117-aB3_ {digest}");
        assert_eq!(foreign(&unpacking), Some(digest.clone()));
        assert_eq!(foreign(&format!("forelay-{digest}")), None);
        assert_eq!(foreign("upload-1"), None);
        assert_eq!(foreign("layer-sha256:77"), None);
    }

    #[test]
    fn an_unpacking_lasts_from_its_snapshots_making_to_its_commit_or_removal() {
        let pulls = Pulls::default();
        let chain = Digest::from_sha256(&[7; 32]);
        let key = format!("extract-1 {chain}");
        let prepared = Event::SnapshotPrepared {
            key: key.clone(),
            parent: String::new(),
        };
        let committed = Event::SnapshotCommitted {
            key: key.clone(),
            name: chain.to_string(),
        };
        for end in [committed, Event::SnapshotRemoved(key)] {
            pulls.note(&prepared, Timestamp::ZERO);
            assert_eq!(pulls.chains(Timestamp::ZERO), vec![chain.clone()]);
            pulls.note(&end, Timestamp::ZERO);
            assert!(pulls.chains(Timestamp::ZERO).is_empty());
        }
    }

    #[test]
    fn an_unpacking_without_an_end_is_nobodys_after_a_while() {
        let pulls = Pulls::default();
        let key = format!("extract-1 {}", Digest::from_sha256(&[7; 32]));
        let prepared = Event::SnapshotPrepared {
            key,
            parent: String::new(),
        };
        pulls.note(&prepared, Timestamp::ZERO);
        assert!(pulls.chains(Timestamp::ZERO + UNPACKED).is_empty());
    }
}
