//! Recorded tags are asked again: one that moved loses its record before a pod takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future;

use crate::agent::mirror::Book;
use crate::agent::work::{Done, Work};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::time::Timestamp;
use crate::engine::node::Input;
use crate::port::Show;

/// When which record is asked about again.
#[derive(Debug)]
pub(super) struct Rechecks {
    every: Duration,
    due: BTreeMap<(Digest, ImageRef), Timestamp>,
    /// One question is under way: a registry is asked for one tag at a time.
    asking: bool,
}

// === impl Rechecks ===

impl Rechecks {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            due: BTreeMap::new(),
            asking: false,
        }
    }

    /// A name that is a digest cannot move, and what has no record cannot mislead.
    pub(super) fn note(&mut self, image: &ImageRef, digest: &Digest, show: Show, now: Timestamp) {
        if show == Show::Record && image.digest().is_none() && !self.every.is_zero() {
            let record = (digest.clone(), image.clone());
            self.due.insert(record, now + self.every);
        }
    }

    /// Forgets what no plan names: its record is withdrawn anyway.
    pub(super) fn retain(&mut self, live: impl Fn(&Digest) -> bool) {
        self.due.retain(|(digest, _), _| live(digest));
    }

    /// Somebody was told that this tag means something else: it is asked about at once.
    fn hurry(&mut self, record: &(Digest, ImageRef), now: Timestamp) {
        if let Some(due) = self.due.get_mut(record) {
            *due = now;
        }
    }

    /// The record whose turn it is; when to come again.
    fn next(&mut self, now: Timestamp) -> (Option<(Digest, ImageRef)>, Option<Timestamp>) {
        if self.asking {
            return (None, None);
        }
        let next = self.due.iter().min_by_key(|(_, at)| **at);
        match next {
            Some((record, at)) if *at <= now => {
                let record = record.clone();
                self.asking = true;
                (Some(record), None)
            }
            Some((_, at)) => (None, Some(*at)),
            None => (None, None),
        }
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
    /// Asks about the record whose turn it is; answers when the next one's is.
    pub(super) fn recheck(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (record, at) = self.rechecks.next(now);
        if let Some((digest, image)) = record {
            let (runtime, shower) = (self.runtime.clone(), self.shower.clone());
            self.spawn(async move {
                let (whole, found) = shower.whole(&image, &digest).await;
                let wrong = match &found {
                    Ok(()) => whole.show == Show::Warm,
                    Err(error) => error.is_lasting(),
                };
                // One that a container uses, or that cannot be taken back now, is asked about again.
                let gone = wrong
                    && match runtime.withdraw(&digest).await {
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
        let now = self.clock.now();
        self.rechecks.hurry(&(digest, image), now);
    }

    pub(super) fn rechecked(&mut self, image: ImageRef, digest: Digest, gone: bool) {
        self.rechecks.asking = false;
        let now = self.clock.now();
        let record = (digest.clone(), image.clone());
        if gone {
            self.rechecks.due.remove(&record);
            let why = "its registry says something else by now: the record is taken back";
            tracing::info!(node = self.node, %image, %digest, "{why}");
            self.messages.insert(digest.clone(), why.to_owned());
            self.tell(Input::Unrecorded(digest));
        } else if let Some(due) = self.rechecks.due.get_mut(&record) {
            // A registry that is away says nothing against a record, either.
            *due = now + self.rechecks.every;
        }
    }
}
