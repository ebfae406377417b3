//! What others do to the daemon: layers that came by a pull, images taken away, pulls under way.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::port::RuntimeChange;
use crate::runtime::containerd::delivery::Shared;
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::event::Event;
use crate::runtime::containerd::pulls::{self, Pulls};

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
) -> Result<(), ContainerdError> {
    let mut events = shared.client.events().await?;
    while let Some(event) = events.next().await {
        let event = event?;
        pulls.note(&event, shared.clock.now());
        let changes: Vec<RuntimeChange> = match event {
            Event::SnapshotCommitted { name, .. } => {
                let layers = shared.images().standing(&name);
                layers.into_iter().map(RuntimeChange::Present).collect()
            }
            Event::ImageDeleted(name) => {
                let ours = shared.forget_record(&name);
                ours.into_iter().map(RuntimeChange::Gone).collect()
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
