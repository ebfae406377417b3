//! What a runtime could not take back is asked of it again.

use std::time::Duration;

use crate::agent::work::Work;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::time::Timestamp;
use crate::engine::node::EntryProgress;

/// Between two tries: a daemon restarts in seconds, and a tag that moved is a stale record until then.
const PAUSE: Duration = Duration::from_secs(10);

/// What is remembered at most: as many as a plan names.
const MOST: usize = 256;

/// Something that was asked for in vain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Undone {
    /// The record of one name, or those of all.
    Withdraw(Digest, Option<ImageRef>),
    /// An image.
    Release(Digest),
}

impl Work {
    pub(super) fn undone(&mut self, what: Undone) {
        if self.undone.len() < MOST {
            let at = self.clock.now() + PAUSE;
            self.undone.insert(what, at);
        }
    }

    /// Asks again for what is due and was not wished again meanwhile; answers when the next is.
    pub(super) fn ask_again(
        &mut self,
        progress: &[EntryProgress],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_wished = |digest: &Digest, name: Option<&ImageRef>| {
            let mut live = progress.iter().filter(|entry| entry.digest == *digest);
            live.any(|entry| name.is_none_or(|name| entry.image == *name))
        };
        let due: Vec<Undone> = self
            .undone
            .extract_if(.., |_, at| *at <= now)
            .map(|(what, _)| what)
            .collect();
        for what in due {
            match what {
                Undone::Withdraw(digest, name) => {
                    if !is_wished(&digest, name.as_ref()) {
                        self.withdraw(digest, name);
                    }
                }
                // Whoever releases looks whether it is wished.
                Undone::Release(digest) => {
                    self.releases.insert(digest);
                }
            }
        }
        self.undone.values().min().copied()
    }
}
