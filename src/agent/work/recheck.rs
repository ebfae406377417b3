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

/// Tags that one of them is asked about at once: 256 of them, at 0.1 s each, are through in 7 s of the 30 that
/// they may be old.
const OF_EACH: usize = 4;

/// When which record is asked about again.
#[derive(Debug)]
pub(super) struct Rechecks {
    every: Duration,
    due: BTreeMap<(Digest, ImageRef), Timestamp>,
    /// What is being asked about.
    asking: BTreeSet<(Digest, ImageRef)>,
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

    fn may_ask(&self, record: &(Digest, ImageRef)) -> bool {
        let registry = record.1.registry();
        let asked: Vec<&str> = self.asking.iter().map(|(_, i)| i.registry()).collect();
        let of_it = asked.iter().filter(|asked| **asked == registry).count();
        let others: BTreeSet<&str> = asked.into_iter().filter(|a| *a != registry).collect();
        !self.asking.contains(record) && of_it < OF_EACH && others.len() < AT_ONCE
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
            if self.may_ask(&record) {
                self.asking.insert(record.clone());
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
        let now = self.clock.now();
        let record = (digest.clone(), image.clone());
        self.rechecks.asking.remove(&record);
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

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    fn record(name: &str) -> (Digest, ImageRef) {
        (Digest::from_sha256(&[7; 32]), name.parse().unwrap())
    }

    /// Recorded one second after the other.
    fn noted(names: &[&str]) -> Rechecks {
        let mut rechecks = Rechecks::new(Duration::from_secs(30));
        for (i, name) in names.iter().enumerate() {
            let (digest, image) = record(name);
            rechecks.note(&image, &digest, Show::Record, at(i as u64));
        }
        rechecks
    }

    #[test]
    fn a_registry_that_is_silent_holds_up_only_itself() {
        let all: Vec<String> = (0..=OF_EACH).map(|i| format!("a.test/app:{i}")).collect();
        let mut names: Vec<&str> = all.iter().map(String::as_str).collect();
        names.push("b.test/one:1");
        let mut rechecks = noted(&names);
        // The first is due, and the next one in a second.
        assert_eq!(
            rechecks.next(at(30)),
            (vec![record(names[0])], Some(at(31)))
        );
        // None of the first few has answered.
        let (asked, again) = rechecks.next(at(40));
        let mut expected: Vec<_> = names[1..OF_EACH].iter().map(|name| record(name)).collect();
        expected.push(record("b.test/one:1"));
        assert_eq!((asked, again), (expected, None));
        assert_eq!(rechecks.next(at(40)), (Vec::new(), None));
        // As the answer to the first does.
        rechecks.asking.remove(&record(names[0]));
        rechecks.due.insert(record(names[0]), at(70));
        let (asked, _) = rechecks.next(at(41));
        assert_eq!(asked, [record(names[OF_EACH])]);
    }

    #[test]
    fn what_is_being_asked_about_is_asked_once_more_only_when_it_is_hurried_and_answered() {
        let mut rechecks = noted(&["a.test/one:1"]);
        let one = record("a.test/one:1");
        assert_eq!(rechecks.next(at(30)).0, std::slice::from_ref(&one));
        rechecks.hurry(&one);
        assert_eq!(rechecks.next(at(31)).0, []);
        rechecks.asking.remove(&one);
        assert_eq!(rechecks.next(at(32)).0, [one]);
    }

    #[test]
    fn so_many_registries_are_asked_at_once_and_no_more() {
        let names: Vec<String> = (0..AT_ONCE + 3)
            .map(|host| format!("r{host}.test/one:1"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (asked, _) = noted(&names).next(at(60));
        assert_eq!(asked.len(), AT_ONCE);
    }
}
