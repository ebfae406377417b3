//! Layers' blobs into the content store, once their image is shown: no pod waits for them.
//!
//! A blob comes with its layer's one download, or not at all: a layer that stood here before is not fetched for
//! it. What a pull of somebody else left is taken as it is. In the store the manifest's labels keep a blob for
//! as long as there is a record; without one the image's lease does.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio_util::task::TaskTracker;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::runtime::containerd::chain::{Image, Link};
use crate::runtime::containerd::content::NewBlob;
use crate::runtime::containerd::delivery::Shared;
use crate::runtime::containerd::error::{ContainerdError, found};
use crate::runtime::containerd::label::{self, Labels, UNCOMPRESSED};
use crate::runtime::containerd::lease::{Collect, LeaseId};
use crate::runtime::containerd::spool::{Spools, Tee};
use crate::runtime::layer::Unpacking;

/// How long one blob may take: 10 GB at 6 MB/s. A start ends what a crash left before that.
const TERM: Duration = Duration::from_mins(30);

/// Attempts at one blob, and the time between them: a daemon is restarted in some seconds, updated in half a minute.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// How long a blob gives way to layers that are on their way, and how often they are looked for. Longer, and
/// blobs would pile up in the spool of a node that is never idle.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(250);

/// Blobs of images that are kept.
#[derive(Debug)]
pub(super) struct Blobs {
    spools: Spools,
    /// One at a time: the disk holds one of them twice, and the daemon a core.
    turn: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

// === impl Blobs ===

impl Blobs {
    /// `None` where blobs are not kept.
    pub(super) fn open(staging: &Path, wanted: bool) -> Result<Option<Self>, RuntimeError> {
        let spools = Spools::open(staging, wanted)?;
        Ok(spools.map(|spools| Self {
            spools,
            turn: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// A layer whose bytes are kept as they come.
    pub(super) fn tee(&self, layer: &Digest, unpacking: Unpacking) -> Tee {
        self.spools.tee(layer, unpacking)
    }

    /// Throws away what waits for the content store and is needed by nobody.
    pub(super) fn retain(&self, needed: &BTreeSet<Digest>) -> Result<(), RuntimeError> {
        self.spools.retain(|layer| needed.contains(layer))
    }

    /// Forgets one that waits for the content store.
    pub(super) fn forget(&self, layer: &Digest) {
        self.spools.remove(layer);
    }

    /// Bytes that the disk has to have beside those that it has.
    pub(super) fn reserved(&self) -> ByteSize {
        self.spools.largest()
    }

    /// Waits until all have come that were asked for.
    pub(super) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

/// Keeps the blobs of an image's layers from now on, where they are to be kept.
pub(super) fn keep_soon(shared: &Arc<Shared>, name: &ImageRef, manifest: &Digest) {
    let image = shared.images().get(manifest);
    if let (Some(blobs), Some(image)) = (&shared.blobs, image) {
        let (shared, name) = (shared.clone(), name.clone());
        blobs.tasks.spawn(async move {
            if let Some(blobs) = &shared.blobs {
                keep(&shared, blobs, &name, &image).await;
            }
        });
    }
}

async fn keep(shared: &Arc<Shared>, blobs: &Blobs, name: &ImageRef, image: &Image) {
    let _turn = blobs.turn.lock().await;
    let mut seen = BTreeSet::new();
    for link in image.links.iter().filter(|link| seen.insert(&link.layer)) {
        let one = One {
            shared,
            spools: &blobs.spools,
            manifest: &image.manifest,
            link,
            labels: labels(name, link),
        };
        let layer = &link.layer;
        match one.keep().await {
            Ok(true) => tracing::debug!(%layer, "its blob is kept"),
            Ok(false) => tracing::debug!(%layer, "its blob is not kept: it did not come this time"),
            Err(error) => tracing::warn!(%layer, %error, "its blob is not kept"),
        }
        // One that the daemon does not take would be in the way of what is planned next.
        blobs.spools.remove(layer);
    }
}

/// As a pull of the daemon itself labels a layer.
fn labels(name: &ImageRef, link: &Link) -> Labels {
    let mut labels = label::from(name.registry(), name.repository());
    labels.insert(UNCOMPRESSED.to_owned(), link.diff_id.to_string());
    labels
}

/// One blob of one image.
struct One<'a> {
    shared: &'a Arc<Shared>,
    spools: &'a Spools,
    manifest: &'a Digest,
    link: &'a Link,
    labels: Labels,
}

// === impl One ===

impl One<'_> {
    /// Whether it is there and kept.
    async fn keep(&self) -> Result<bool, ContainerdError> {
        let mut tries = 1;
        loop {
            self.give_way().await;
            match self.kept().await {
                Err(error) if error.is_passing() && tries < TRIES => {
                    tracing::debug!(layer = %self.link.layer, %error, "its blob is tried again");
                    let next = self.shared.clock.now() + PAUSE;
                    self.shared.clock.sleep_until(next).await;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    /// Layers first.
    async fn give_way(&self) {
        let clock = &self.shared.clock;
        let until = clock.now() + PATIENCE;
        while self.shared.is_writing() && clock.now() < until {
            clock.sleep_until(clock.now() + LOOK).await;
        }
    }

    async fn kept(&self) -> Result<bool, ContainerdError> {
        let client = &self.shared.client;
        let file = self.spooled().await?;
        if file.is_none() && client.blob(&self.link.layer).await?.is_none() {
            return Ok(false);
        }
        let (purpose, now) = (
            format!("blob {}", self.link.layer.hex()),
            self.shared.clock.now(),
        );
        let lease = client.lease_begin(&purpose, now + TERM).await?.id;
        let kept = self.under(&lease, file).await;
        if matches!(kept, Err(ContainerdError::NoSpace(_))) {
            // The daemon's database needs room to forget what was written so far.
            self.spools.remove(&self.link.layer);
            client.abort(&self.link.layer).await;
        }
        // One that cannot be ended now ends by itself.
        let _ = client.lease_end(&lease, Collect::Later).await;
        kept
    }

    async fn spooled(&self) -> Result<Option<File>, ContainerdError> {
        match File::open(self.spools.file(&self.link.layer)).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContainerdError::Source {
                digest: self.link.layer.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    /// Writes it, or takes what is there; the lease holds it until the image's own does, or its record.
    async fn under(&self, lease: &LeaseId, file: Option<File>) -> Result<bool, ContainerdError> {
        let (shared, layer) = (self.shared, &self.link.layer);
        let blob = NewBlob {
            digest: layer.clone(),
            size: self.link.size.0,
            labels: self.labels.clone(),
        };
        let is_there = match file {
            Some(file) => {
                let written = shared.client.write_blob_from(lease, &blob, file);
                written.await.map(|()| true)?
            }
            None => shared.client.adopt(lease, &blob).await?,
        };
        // No record is made or taken back meanwhile.
        let _turn = shared.places.turn().await;
        if let Some(held) = shared.places.lease(self.manifest) {
            found(shared.client.hold_blob(&held, layer).await)?;
        }
        Ok(is_there)
    }
}
