//! What others do to the daemon: layers that came by a pull, pulls under way, images taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::domain::image::Digest;
use crate::domain::time::Timestamp;
use crate::port::{RuntimeChange, RuntimeError};
use crate::runtime::containerd::delivery::{Made, Shared, failed};
use crate::runtime::containerd::event::Event;
use crate::runtime::containerd::record;

/// Changes that may wait: a burst of commits of one pull is a hundred at most.
const QUEUE: usize = 256;

/// How often writes under way are looked for, while there is anything that could be in their way: no
/// daemon before 2.1 tells of them. A look costs both sides some 0.2 ms.
const LOOK: Duration = Duration::from_millis(250);

/// A write that stood still for so long is nobody's: a registry that stalls longer gives way to us.
const STILL: Duration = Duration::from_secs(10);

/// Before a daemon that went away is asked for events again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the daemon for as long as the stream is kept.
pub(super) fn changes(shared: Arc<Shared>) -> BoxStream<'static, RuntimeChange> {
    let (tell, told) = mpsc::channel(QUEUE);
    let watching = tokio::spawn(async move {
        tokio::join!(follow(&shared, &tell), pulls(&shared, &tell));
    });
    let guard = AbortOnDrop(watching.abort_handle());
    stream::unfold((told, guard), |(mut told, guard)| async move {
        Some((told.recv().await?, (told, guard)))
    })
    .boxed()
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows events, over the daemon's restarts, until nobody listens.
async fn follow(shared: &Arc<Shared>, tell: &mpsc::Sender<RuntimeChange>) {
    while !tell.is_closed() {
        if let Err(error) = events(shared, tell).await {
            tracing::debug!(%error, "containerd tells nothing for the moment");
        }
        let next = shared.clock.now() + PAUSE;
        shared.clock.sleep_until(next).await;
    }
}

async fn events(
    shared: &Arc<Shared>,
    tell: &mpsc::Sender<RuntimeChange>,
) -> Result<(), RuntimeError> {
    let mut events = shared.client.events().await.map_err(failed)?;
    // From here on all is told; what happened before is made up for.
    for change in unseen(shared).await? {
        if tell.send(change).await.is_err() {
            return Ok(());
        }
    }
    while let Some(event) = events.next().await {
        let changes: Vec<RuntimeChange> = match event.map_err(failed)? {
            Event::SnapshotCommitted { name, .. } => {
                let layers = shared.images().standing(&name);
                layers.into_iter().map(RuntimeChange::Present).collect()
            }
            Event::ImageDeleted(name) => {
                let ours = shared.forget_record(&name);
                ours.and_then(gone).into_iter().collect()
            }
            _ => Vec::new(),
        };
        for change in changes {
            if tell.send(change).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What may have happened while nobody listened: records that are not there any more, snapshots.
async fn unseen(shared: &Arc<Shared>) -> Result<Vec<RuntimeChange>, RuntimeError> {
    shared.places.recount(shared).await?;
    // Asked for after the names were noted: a record that is made meanwhile is not missed.
    let known = shared.recorded_names();
    let there = record::all_ours(shared).await?;
    let lost = known.into_iter().filter(|name| !there.contains(name));
    let lost = lost.filter_map(|name| shared.forget_record(&name).and_then(gone));
    Ok(lost.chain([RuntimeChange::Unseen]).collect())
}

/// That somebody took a record of ours away; nothing to tell of one that only went with another.
fn gone(made: Made) -> Option<RuntimeChange> {
    let digest = made.manifest;
    made.asked
        .map(|image| RuntimeChange::Gone { image, digest })
}

/// Tells which blobs others are fetching.
async fn pulls(shared: &Arc<Shared>, tell: &mpsc::Sender<RuntimeChange>) {
    let mut before: BTreeSet<Digest> = BTreeSet::new();
    let mut writes = Writes::default();
    loop {
        let next = shared.clock.now() + LOOK;
        shared.clock.sleep_until(next).await;
        // With nothing planned nothing can be in a pull's way.
        let now = if shared.images().is_empty() && before.is_empty() {
            continue;
        } else {
            match shared.client.ingests().await {
                Ok(ingests) => writes.moving(
                    ingests.into_iter().map(|i| (i.r#ref, i.offset)),
                    shared.clock.now(),
                ),
                Err(_) => BTreeSet::new(),
            }
        };
        let changed = |digest: &Digest, active| RuntimeChange::Foreground {
            digest: digest.clone(),
            active,
        };
        let begun = now.difference(&before).map(|digest| changed(digest, true));
        let ended = before.difference(&now).map(|digest| changed(digest, false));
        for change in begun.chain(ended).collect::<Vec<_>>() {
            if tell.send(change).await.is_err() {
                return;
            }
        }
        before = now;
    }
}

/// Writes of others by their names: how far they are, and since when.
#[derive(Debug, Default)]
struct Writes(BTreeMap<String, (i64, Timestamp)>);

impl Writes {
    /// The blobs that somebody is writing: a daemon keeps the writes of killed clients, which stand still.
    fn moving(
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

/// The blob of a write that is not ours: `layer-sha256:<hex>`, as containerd's clients name them.
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
    fn writes_of_others_are_told_from_our_own() {
        let digest = Digest::from_sha256(&[7; 32]);
        assert_eq!(foreign(&format!("layer-{digest}")), Some(digest.clone()));
        assert_eq!(foreign(&format!("forelay-{digest}")), None);
        assert_eq!(foreign("upload-1"), None);
        assert_eq!(foreign("layer-sha256:77"), None);
    }
}
