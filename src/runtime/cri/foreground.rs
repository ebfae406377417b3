//! Pulls of others under way: CRI does not tell of them, containerd's own content service does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::domain::image::Digest;
use crate::port::RuntimeChange;
use crate::runtime::containerd::{Client, Seen, Writes};
use crate::runtime::cri::runtime::Shared;

/// How often writes under way are looked for while anything is planned: some 0.2 ms of both sides.
const LOOK: Duration = Duration::from_millis(250);

/// Blobs that the runtime fetches because we asked: the others are somebody's who waits for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<BTreeSet<Digest>>>);

/// While it lives these blobs are ours.
pub(super) struct Asking(Asked);

struct Pulls {
    shared: Arc<Shared>,
    client: Client,
    writes: Writes,
    seen: Seen,
    told: VecDeque<RuntimeChange>,
}

// === impl Asked ===

impl Asked {
    /// One pull at a time is asked for.
    pub(super) fn begin(&self, blobs: BTreeSet<Digest>) -> Asking {
        *self.lock() = blobs;
        Asking(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

/// Follows a containerd for as long as the stream is read. What a stopped pull of ours left counts as
/// somebody's until it has stood still for as long as others' does.
pub(super) fn pulls(shared: Arc<Shared>, client: Client) -> BoxStream<'static, RuntimeChange> {
    let pulls = Pulls {
        shared,
        client,
        writes: Writes::default(),
        seen: Seen::default(),
        told: VecDeque::new(),
    };
    stream::unfold(pulls, |mut pulls| async move {
        loop {
            if let Some(change) = pulls.told.pop_front() {
                return Some((change, pulls));
            }
            let next = pulls.shared.clock.now() + LOOK;
            pulls.shared.clock.sleep_until(next).await;
            pulls.look().await;
        }
    })
    .boxed()
}

impl Pulls {
    async fn look(&mut self) {
        // With nothing planned nothing can be in a pull's way.
        if self.shared.is_idle() && self.seen.is_empty() {
            return;
        }
        let mut now = match self.client.ingests().await {
            Ok(ingests) => {
                let told = ingests.into_iter().map(|i| (i.r#ref, i.offset));
                self.writes.moving(told, self.shared.clock.now())
            }
            Err(_) => BTreeSet::new(),
        };
        {
            let ours = self.shared.asked.lock();
            now.retain(|digest| !ours.contains(digest));
        }
        let at = self.shared.clock.now();
        let changes = self.seen.look(now, at).into_iter();
        self.told
            .extend(changes.map(|(digest, active)| RuntimeChange::Foreground { digest, active }));
    }
}
