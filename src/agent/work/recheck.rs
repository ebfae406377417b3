//! Recorded tags are asked again: one that moved loses its record before a pod takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future;

use crate::agent::mirror::Book;
use crate::agent::work::{Done, Work};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::time::Timestamp;
use crate::engine::node::Input;
use crate::port::Show;

/// Registries that are asked at once: one that is silent, for up to a minute, must not hold up the others.
const AT_ONCE: usize = 8;

/// When which record is asked about again.
#[derive(Debug)]
pub(super) struct Rechecks {
    every: Duration,
    due: BTreeMap<(Digest, ImageRef), Timestamp>,
    /// Registries that are being asked, each for one tag at a time.
    asking: BTreeSet<String>,
}

// === impl Rechecks ===

impl Rechecks {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            due: BTreeMap::new(),
            asking: BTreeSet::new(),
        }
    }

    /// What has no record cannot mislead. A name that is a digest cannot move, but its repository may have been
    /// closed.
    pub(super) fn note(&mut self, image: &ImageRef, digest: &Digest, show: Show, now: Timestamp) {
        if show == Show::Record && !self.every.is_zero() {
            let record = (digest.clone(), image.clone());
            self.due.insert(record, now + self.every);
        }
    }

    /// Forgets what no plan names: its record is withdrawn anyway.
    pub(super) fn retain(&mut self, live: impl Fn(&Digest) -> bool) {
        self.due.retain(|(digest, _), _| live(digest));
    }

    /// Somebody was told that this tag means something else: it is asked about next, and once more where a
    /// question is under way.
    fn hurry(&mut self, record: &(Digest, ImageRef)) {
        if let Some(due) = self.due.get_mut(record) {
            *due = Timestamp::ZERO;
        }
    }

    /// Marks what is asked: who is hurried from now on is asked once more.
    fn begin(&mut self, records: &[(Digest, ImageRef)], now: Timestamp) {
        for record in records {
            self.due.insert(record.clone(), now);
        }
    }

    /// The records whose turn it is, the one that waits longest first; when to come again.
    fn next(&mut self, now: Timestamp) -> (Vec<(Digest, ImageRef)>, Option<Timestamp>) {
        let due = self.due.iter();
        let mut by_time: Vec<_> = due.map(|(record, at)| (*at, record.clone())).collect();
        by_time.sort();
        let mut next = Vec::new();
        for (at, record) in by_time {
            if at > now {
                self.begin(&next, now);
                return (next, Some(at));
            }
            let registry = record.1.registry();
            if self.asking.len() < AT_ONCE && !self.asking.contains(registry) {
                self.asking.insert(registry.to_owned());
                next.push(record);
            }
        }
        self.begin(&next, now);
        // An answer wakes whoever waits for its registry.
        (next, None)
    }
}

/// Waits for the mirror to find a tag that moved.
pub(super) async fn next_moved(book: Option<&Book>) -> (ImageRef, Digest) {
    match book {
        Some(book) => book.next_moved().await,
        None => future::pending().await,
    }
}

impl Work {
    /// Asks about the records whose turn it is; answers when the next one's is.
    pub(super) fn recheck(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (records, at) = self.rechecks.next(now);
        for (digest, image) in records {
            let (runtime, shower) = (self.runtime.clone(), self.shower.clone());
            let platform = self.platform(&digest);
            self.spawn(async move {
                let (whole, found) = shower.whole(&image, &digest, platform.as_ref()).await;
                let wrong = match &found {
                    Ok(()) => whole.show == Show::Warm,
                    Err(error) => error.is_lasting(),
                };
                // One that a container uses, or that cannot be taken back now, is asked about again.
                let gone = wrong
                    && match runtime.withdraw(&digest, Some(&image)).await {
                        Ok(()) => true,
                        Err(error) => {
                            tracing::warn!(%image, %digest, %error, "a wrong record stays for now");
                            false
                        }
                    };
                Done::Rechecked(image, digest, gone)
            });
        }
        at
    }

    pub(super) fn moved(&mut self, image: ImageRef, digest: Digest) {
        tracing::info!(node = self.node, %image, %digest, "the tag has moved, as a pull found");
        self.rechecks.hurry(&(digest, image));
    }

    pub(super) fn rechecked(&mut self, image: ImageRef, digest: Digest, gone: bool) {
        self.rechecks.asking.remove(image.registry());
        let now = self.clock.now();
        let record = (digest.clone(), image.clone());
        if gone {
            self.rechecks.due.remove(&record);
            let why = "its registry says something else by now: the record is taken back";
            tracing::info!(node = self.node, %image, %digest, "{why}");
            self.messages.insert(digest.clone(), why.to_owned());
            self.pinned.remove(&digest);
            self.tell(Input::Unrecorded { image, digest });
            self.is_gone();
        } else if let Some(due) = self.rechecks.due.get_mut(&record)
            && *due != Timestamp::ZERO
        {
            // A registry that is away says nothing against a record, either.
            *due = now + self.rechecks.every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_silent_holds_up_only_itself() {
        let mut rechecks = Rechecks::new(Duration::from_secs(30));
        let digest = Digest::from_sha256(&[7; 32]);
        let at = |secs| Timestamp::ZERO + Duration::from_secs(secs);
        let image = |name: &str| name.parse::<ImageRef>().unwrap();
        for (secs, name) in [
            (0, "a.test/one:1"),
            (1, "a.test/two:1"),
            (2, "b.test/one:1"),
        ] {
            rechecks.note(&image(name), &digest, Show::Record, at(secs));
        }
        let (asked, again) = rechecks.next(at(30));
        assert_eq!(asked, [(digest.clone(), image("a.test/one:1"))]);
        assert_eq!(again, Some(at(31)));
        // The first has not answered.
        let (asked, again) = rechecks.next(at(40));
        assert_eq!(asked, [(digest.clone(), image("b.test/one:1"))]);
        assert_eq!(again, None);
        rechecks.asking.remove("a.test");
        // As the answer to the first does.
        rechecks
            .due
            .insert((digest.clone(), image("a.test/one:1")), at(70));
        let (asked, _) = rechecks.next(at(41));
        assert_eq!(asked, [(digest, image("a.test/two:1"))]);
    }

    #[test]
    fn so_many_registries_are_asked_at_once_and_no_more() {
        let mut rechecks = Rechecks::new(Duration::from_secs(30));
        let digest = Digest::from_sha256(&[7; 32]);
        for host in 0..AT_ONCE + 3 {
            let image = format!("r{host}.test/one:1").parse().unwrap();
            rechecks.note(&image, &digest, Show::Record, Timestamp::ZERO);
        }
        let (asked, _) = rechecks.next(Timestamp::ZERO + Duration::from_mins(1));
        assert_eq!(asked.len(), AT_ONCE);
    }
}
