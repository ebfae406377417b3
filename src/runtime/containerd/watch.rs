//! What others do to the daemon: layers that came by a pull, images taken away, pulls under way.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::port::{RuntimeChange, RuntimeError};
use crate::runtime::containerd::delivery::{Made, Shared, failed};
use crate::runtime::containerd::event::Event;
use crate::runtime::containerd::pin::is_pin;
use crate::runtime::containerd::pulls::{self, Pulls};
use crate::runtime::containerd::record;

/// Changes that may wait: a burst of commits of one pull is a hundred at most.
const QUEUE: usize = 256;

/// Before a daemon that went away is asked for events again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the daemon for as long as the stream is kept.
pub(super) fn changes(shared: Arc<Shared>) -> BoxStream<'static, RuntimeChange> {
    let (tell, told) = mpsc::channel(QUEUE);
    let watching = tokio::spawn(async move {
        let pulls = Pulls::default();
        tokio::join!(
            follow(&shared, &pulls, &tell),
            pulls::watch(&shared, &pulls, &tell)
        );
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
async fn follow(shared: &Arc<Shared>, pulls: &Pulls, tell: &mpsc::Sender<RuntimeChange>) {
    while !tell.is_closed() {
        if let Err(error) = events(shared, pulls, tell).await {
            tracing::debug!(%error, "containerd tells nothing for the moment");
        }
        pulls.forget();
        let next = shared.clock.now() + PAUSE;
        shared.clock.sleep_until(next).await;
    }
}

async fn events(
    shared: &Arc<Shared>,
    pulls: &Pulls,
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
        let event = event.map_err(failed)?;
        pulls.note(&event, shared.clock.now());
        let changes: Vec<RuntimeChange> = match event {
            Event::SnapshotCommitted { name, .. } => {
                let layers = shared.images().standing(&name);
                layers.into_iter().map(RuntimeChange::Present).collect()
            }
            Event::ImageDeleted(name) => {
                let ours = shared.forget_record(&name);
                let gone = ours.and_then(gone);
                gone.into_iter().chain(image_changed(&name)).collect()
            }
            Event::ImageCreated(name) | Event::ImageUpdated(name) => {
                image_changed(&name).into_iter().collect()
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

/// That images are others now; a pin is none.
fn image_changed(name: &str) -> Option<RuntimeChange> {
    (!is_pin(name)).then_some(RuntimeChange::Images)
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
