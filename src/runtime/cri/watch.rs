//! What others do to planned images, as far as listings tell: CRI has no events of images.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::domain::image::Digest;
use crate::port::{RuntimeChange, RuntimeError};
use crate::runtime::cri::names::find;
use crate::runtime::cri::runtime::Shared;
use crate::runtime::wire::cri::Image;

/// Between two listings: a runtime answers from memory, some hundred bytes an image, and what is learned late
/// costs a plan's place, not a pod's start.
const LOOK: Duration = Duration::from_secs(10);

struct Watch {
    shared: Arc<Shared>,
    there: BTreeSet<Digest>,
    /// IDs and names, as last listed.
    listed: Option<BTreeSet<(String, Vec<String>)>>,
    told: VecDeque<RuntimeChange>,
}

/// Follows the runtime for as long as the stream is read.
pub(super) fn changes(shared: Arc<Shared>) -> BoxStream<'static, RuntimeChange> {
    let watch = Watch {
        shared,
        there: BTreeSet::new(),
        listed: None,
        told: VecDeque::new(),
    };
    stream::unfold(watch, |mut watch| async move {
        loop {
            if let Some(change) = watch.told.pop_front() {
                return Some((change, watch));
            }
            let next = watch.shared.clock.now() + LOOK;
            watch.shared.clock.sleep_until(next).await;
            if let Err(error) = watch.look().await {
                tracing::debug!(%error, "the runtime lists nothing for the moment");
            }
        }
    })
    .boxed()
}

impl Watch {
    async fn look(&mut self) -> Result<(), RuntimeError> {
        let shared = &self.shared;
        if shared.is_idle() {
            return Ok(());
        }
        // Nothing of ours comes or goes meanwhile.
        let mut ledger = shared.ledger.lock().await;
        let images = shared.images().await?;
        let ours = ledger.all();
        let gone = ours.filter(|(_, pulled)| find(&images, &pulled.config).is_none());
        let gone: Vec<(Digest, Vec<String>)> = gone
            .map(|(manifest, pulled)| (manifest.clone(), pulled.names.clone()))
            .collect();
        for (digest, names) in gone {
            ledger.strike(&digest).await;
            let images = names.iter().filter_map(|name| name.parse().ok());
            self.told.extend(images.map(|image| RuntimeChange::Gone {
                image,
                digest: digest.clone(),
            }));
        }
        let known = shared.known().into_iter();
        let now: BTreeSet<Digest> = known
            .filter(|(_, config)| find(&images, config).is_some())
            .map(|(manifest, _)| manifest)
            .collect();
        let come = now.difference(&self.there);
        let come = come.filter(|manifest| ledger.get(manifest).is_none());
        self.told.extend(come.cloned().map(RuntimeChange::Present));
        self.there = now;
        let names = |image: &Image| [&image.repo_tags[..], &image.repo_digests].concat();
        let listed = images.iter().map(|image| (image.id.clone(), names(image)));
        let listed = Some(listed.collect());
        if self.listed != listed {
            self.told.push_back(RuntimeChange::Images);
        }
        self.listed = listed;
        Ok(())
    }
}
