//! The node's containerd as a runtime: layers arrive unpacked, images appear whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::manifest::MANIFEST_MAX;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::{
    BlobStore, BlobWriter, Clock, ContainerRuntime, RuntimeChange, RuntimeError, Whole,
};
use crate::runtime::containerd::blobs::{self, Blobs};
use crate::runtime::containerd::chain::{Image, Images, Link};
use crate::runtime::containerd::client::Client;
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::inventory::{self, Catalogue};
use crate::runtime::containerd::pin;
use crate::runtime::containerd::place::{KEY, Places, renewal};
use crate::runtime::containerd::record;
use crate::runtime::containerd::spool::Tee;
use crate::runtime::containerd::stage::Stage;
use crate::runtime::containerd::watch;
use crate::runtime::containerd::writer::{Claim, LayerWriter, There};
use crate::runtime::layer::{Limits, Unpacking, Wanted};
use crate::runtime::room::Space;

/// Layers that are unpacked at once, at most: each takes up to 12 MiB, and the agent has 64.
const UNPACKED_AT_ONCE: usize = 4;

/// Paused layers that are kept with their threads: one that gave way goes on where it was.
const PARKED_MAX: usize = 2;

/// Why there is a record of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// The manifest that it leads to.
    pub(super) manifest: Digest,
    /// The plan's name for it; none for one that only goes with another.
    pub(super) asked: Option<ImageRef>,
}

/// Where containerd is, and where layers wait.
pub struct Options {
    /// Its socket.
    pub socket: PathBuf,
    /// A directory on the mount of its snapshots.
    pub staging: PathBuf,
    /// Whether an image is on disk before it is recorded.
    pub sync: bool,
    /// Whether images get records at all.
    pub records: bool,
    /// Whether records may be pinned, where the daemon ends pins by itself.
    pub pins: bool,
    /// Whether layers' blobs are kept, too, once their image is shown.
    pub blobs: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A containerd of this machine. Its leases are renewed as long as it lives.
pub struct Containerd {
    shared: Arc<Shared>,
    renewing: AbortHandle,
}

/// What all calls share.
pub(super) struct Shared {
    pub(super) client: Client,
    /// Manifests, configs, and layers that containerd has to unpack.
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) stage: Stage,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sync: bool,
    /// Whether records may be made: not past image verifiers.
    pub(super) records: bool,
    pub(super) pins: bool,
    /// Where they are kept.
    pub(super) blobs: Option<Blobs>,
    pub(super) staging: PathBuf,
    pub(super) images: Mutex<Images>,
    pub(super) places: Places,
    pub(super) catalogue: Catalogue,
    /// Names that have a record of ours.
    names: Mutex<BTreeMap<String, Made>>,
    /// Paused layers, each with the claim that keeps everybody else away from its tree.
    parked: Mutex<VecDeque<(Claim, Tee)>>,
    writing: Arc<Mutex<BTreeSet<Digest>>>,
    turns: Arc<Semaphore>,
    /// How many there are.
    all_turns: usize,
}

/// Where to stage: as configured, or beside the snapshots.
///
/// # Errors
/// [`RuntimeError::Io`] when containerd cannot be asked where they are.
pub async fn staging(socket: &Path, configured: Option<PathBuf>) -> Result<PathBuf, RuntimeError> {
    if let Some(configured) = configured {
        return Ok(configured);
    }
    let client = Client::connect(socket).await;
    let client = client.map_err(failed)?;
    let root = client.snapshotter_root().await.map_err(failed)?;
    // `/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs`: a sibling is containerd's to
    // ignore, and goes with it when somebody empties its root.
    Ok(root.with_file_name("dev.forelay.staging"))
}

// === impl Containerd ===

impl Containerd {
    /// Connects, and clears away what a crash left: half-made snapshots, leases of earlier runs, trees
    /// without an end.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when containerd does not answer or the staging directory cannot be used.
    pub async fn open(options: Options, store: Arc<dyn BlobStore>) -> Result<Self, RuntimeError> {
        let client = Client::connect(&options.socket).await;
        let client = client.map_err(failed)?;
        let pins = options.pins && pin::end_by_themselves(&client).await.map_err(failed)?;
        let staging = options.staging.clone();
        let (stage, blobs) = blocking(move || {
            let blobs = Blobs::open(&staging, options.blobs)?;
            Ok((Stage::open(&staging)?, blobs))
        })
        .await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all_turns = cores.clamp(2, UNPACKED_AT_ONCE);
        let shared = Arc::new(Shared {
            client,
            store,
            stage,
            clock: options.clock,
            sync: options.sync,
            records: options.records,
            pins,
            blobs,
            staging: options.staging,
            images: Mutex::default(),
            places: Places::default(),
            catalogue: Catalogue::default(),
            names: Mutex::default(),
            parked: Mutex::default(),
            writing: Arc::default(),
            turns: Arc::new(Semaphore::new(all_turns)),
            all_turns,
        });
        // What is taken up again is held and renewed from the first instant on.
        let renewing = tokio::spawn(renew(shared.clone())).abort_handle();
        let opened = Self { shared, renewing };
        opened.shared.recover().await?;
        Ok(opened)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl ContainerRuntime for Containerd {
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(self.shared.inventory())
    }

    fn lacking<'a>(
        &'a self,
        manifest: &'a ImageManifest,
    ) -> BoxFuture<'a, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(async move {
            let shared = &self.shared;
            let image = shared.learn(&manifest.digest).await?;
            let placed = shared.places.advance(shared, &image).await?;
            let above = image.links.iter().skip(placed);
            let lacking = above.filter(|link| !shared.has_come(&link.layer));
            Ok(lacking.map(|link| link.layer.clone()).collect())
        })
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        self.shared.store.read(digest)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        Box::pin(self.shared.open(digest, size))
    }

    fn prepare<'a>(
        &'a self,
        image: &'a ImageRef,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(record::prepare(&self.shared, image, digest))
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            record::show(&self.shared, whole).await?;
            blobs::keep_soon(&self.shared, &whole.image, &whole.digest);
            Ok(())
        })
    }

    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(record::withdraw(&self.shared, digest, name))
    }

    fn pin<'a>(
        &'a self,
        digest: &'a Digest,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(pin::pin(&self.shared, digest, until))
    }

    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(record::release(&self.shared, digest))
    }

    fn images(&self) -> BoxFuture<'_, Result<Option<Vec<StoredImage>>, RuntimeError>> {
        Box::pin(async { inventory::images(&self.shared).await.map(Some) })
    }

    fn room(&self) -> BoxFuture<'_, Result<Option<ByteSize>, RuntimeError>> {
        let shared = self.shared.clone();
        Box::pin(blocking(move || {
            let room = Space::of(&shared.staging)?.may_be_added();
            let reserved = shared.blobs.as_ref().map_or(ByteSize(0), Blobs::reserved);
            Ok(Some(room - reserved))
        }))
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if let Some(blobs) = &shared.blobs {
                blobs.settle().await;
            }
            // A thread that panicked has said so.
            let _ = spawn_blocking(move || shared.stage.settle()).await;
        })
    }

    fn changes(&self) -> BoxStream<'static, RuntimeChange> {
        watch::changes(self.shared.clone())
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        let known: Vec<Digest> = {
            let images = self.shared.images();
            images.all().map(|image| image.manifest.clone()).collect()
        };
        Box::pin(async move { Ok(known) })
    }
}

async fn renew(shared: Arc<Shared>) {
    loop {
        let next = shared.clock.now() + renewal();
        shared.clock.sleep_until(next).await;
        shared.places.renew(&shared).await;
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_record(&self, name: &str, made: Made) {
        let mut names = self.names();
        let old = names
            .remove(name)
            .filter(|old| old.manifest == made.manifest);
        let asked = made.asked.or(old.and_then(|old| old.asked));
        names.insert(name.to_owned(), Made { asked, ..made });
    }

    /// Why this name was recorded, if it still counts as recorded.
    pub(super) fn forget_record(&self, name: &str) -> Option<Made> {
        self.names().remove(name)
    }

    pub(super) fn made_record(&self, name: &str) -> Option<Made> {
        self.names().get(name).cloned()
    }

    /// Every name that has a record of ours, as far as is known.
    pub(super) fn recorded_names(&self) -> Vec<String> {
        self.names().keys().cloned().collect()
    }

    fn is_recorded(&self, manifest: &Digest) -> bool {
        self.names().values().any(|made| made.manifest == *manifest)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what earlier runs left, then clears away what does not count any more.
    async fn recover(self: &Arc<Self>) -> Result<(), RuntimeError> {
        for (digest, size) in self.store.list() {
            if size.0 <= MANIFEST_MAX {
                // Configs are no manifests, and a manifest without its config is of no use yet.
                let _ = self.learn(&digest).await;
            }
        }
        if let Some(blobs) = &self.blobs {
            let needed = self.images().blobs();
            blobs.retain(&needed)?;
        }
        let images: Vec<Arc<Image>> = self.images().all().cloned().collect();
        for snapshot in self.client.snapshots(&[]).await.map_err(failed)? {
            if snapshot.name.starts_with(KEY) {
                self.client
                    .remove_snapshot(&snapshot.name)
                    .await
                    .map_err(failed)?;
            }
        }
        for image in images {
            // One that cannot be placed is its own trouble, and is told again when it is wanted.
            if let Err(error) = self.places.advance(self, &image).await {
                tracing::warn!(manifest = %image.manifest, %error, "an earlier image cannot be placed");
            }
        }
        pin::sweep(self).await?;
        let swept = self.places.sweep(self).await?;
        if swept > 0 {
            tracing::info!(swept, "leases of an earlier run are ended");
        }
        Ok(())
    }

    /// The image of a manifest that is in the store with its config.
    pub(super) async fn learn(&self, manifest: &Digest) -> Result<Arc<Image>, RuntimeError> {
        if let Some(known) = self.images().get(manifest) {
            return Ok(known);
        }
        let gone = |digest: &Digest| RuntimeError::Io(format!("{digest} is not in the store"));
        let bytes = self.store.read(manifest).await?;
        let bytes = bytes.ok_or_else(|| gone(manifest))?;
        let broken = |e: &dyn std::fmt::Display| RuntimeError::Io(e.to_string());
        let config = Image::config_of(manifest, &bytes).map_err(|e| broken(&e))?;
        let config = self
            .store
            .read(&config)
            .await?
            .ok_or_else(|| gone(&config))?;
        let image = Image::read(manifest, &bytes, &config).map_err(|e| broken(&e))?;
        Ok(self.images().learn(image))
    }

    /// Whether a layer waits for its place.
    pub(super) fn has_come(&self, layer: &Digest) -> bool {
        if self.stage.is_left(layer) {
            self.store.size(layer).is_some()
        } else {
            self.stage.get(layer).is_some()
        }
    }

    async fn inventory(&self) -> Result<Vec<Digest>, RuntimeError> {
        // A layer that is placed meanwhile is in the stage now, or among the snapshots then.
        let stored = self.store.list().into_iter().map(|(digest, _)| digest);
        let mut present: BTreeSet<Digest> = stored.chain(self.stage.layers()).collect();
        let snapshots = self.client.snapshots(&[]).await.map_err(failed)?;
        let snapshots: BTreeSet<&str> = snapshots.iter().map(|info| info.name.as_str()).collect();
        for image in self.images().all() {
            let links = image.links.iter();
            let standing = links.filter(|link| snapshots.contains(link.chain.as_str()));
            present.extend(standing.map(|link| link.layer.clone()));
        }
        Ok(present.into_iter().collect())
    }

    async fn open(
        self: &Arc<Self>,
        digest: &Digest,
        size: Option<ByteSize>,
    ) -> Result<Box<dyn BlobWriter>, RuntimeError> {
        let link = self.images().link(digest).cloned();
        let Some(link) = link.filter(|_| !self.stage.is_left(digest)) else {
            return self.store.open(digest, size).await;
        };
        if self.stage.get(digest).is_some() {
            return Ok(Box::new(There(link.size.0)));
        }
        // One that waits for its turn may still be the one that has to go for another.
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.expect("nobody closes it");
        let (claim, work) = if let Some(parked) = self.unpark(digest) {
            parked
        } else {
            let claim = Claim::new(&self.writing, digest)?;
            (claim, self.unpacking(&link).await?)
        };
        Ok(Box::new(LayerWriter {
            shared: self.clone(),
            link,
            work: Some(work),
            _turn: turn,
            claim: Some(claim),
        }))
    }

    /// Whether layers are on their way through us.
    pub(super) fn is_writing(&self) -> bool {
        self.turns.available_permits() < self.all_turns
    }

    /// Begins a layer anew.
    pub(super) async fn unpacking(self: &Arc<Self>, link: &Link) -> Result<Tee, RuntimeError> {
        let (shared, link) = (self.clone(), link.clone());
        blocking(move || {
            let tree = shared.stage.clear(&link.layer)?;
            let wanted = Wanted {
                blob: Some(link.layer.clone()),
                size: Some(link.size),
                diff_id: Some(link.diff_id.clone()),
                is_bottom: link.is_bottom,
                limits: Limits::default(),
            };
            let unpacking = Unpacking::begin(&tree, wanted);
            let unpacking = unpacking.map_err(|e| RuntimeError::Io(e.to_string()))?;
            Ok(match &shared.blobs {
                Some(blobs) => blobs.tee(&link.layer, unpacking),
                None => Tee::plain(unpacking),
            })
        })
        .await
    }

    /// Keeps a paused layer; answers the one that has to go for it.
    pub(super) fn park(&self, claim: Claim, work: Tee) -> Option<(Claim, Tee)> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.push_back((claim, work));
        if parked.len() > PARKED_MAX {
            return parked.pop_front();
        }
        None
    }

    pub(super) fn unpark(&self, layer: &Digest) -> Option<(Claim, Tee)> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let at = parked
            .iter()
            .position(|(claim, _)| claim.layer() == layer)?;
        parked.remove(at)
    }

    /// A layer has come: places it in every image whose layers below stand.
    pub(super) fn place_soon(self: &Arc<Self>, layer: &Digest) {
        let images = self.images().with(layer);
        let shared = self.clone();
        tokio::spawn(async move {
            for image in images {
                // The record asks again, and tells whoever waits for it.
                if let Err(error) = shared.place(&image).await {
                    tracing::debug!(manifest = %image.manifest, %error, "cannot place a layer yet");
                }
            }
        });
    }

    /// Places what has come of an image. One that is recorded, by now or before, is held by its record alone: a
    /// lease beside it would keep bytes that the kubelet counts as freed.
    async fn place(self: &Arc<Self>, image: &Image) -> Result<(), RuntimeError> {
        if !self.is_recorded(&image.manifest) {
            self.places.advance(self, image).await?;
            let turn = self.places.turn().await;
            if self.is_recorded(&image.manifest) {
                self.places.let_go(self, &image.manifest, &turn).await?;
            }
        }
        Ok(())
    }
}

/// In the words of the port.
pub(super) fn failed(error: ContainerdError) -> RuntimeError {
    match error {
        ContainerdError::NoSpace(_) => RuntimeError::Full(error.to_string()),
        other => RuntimeError::Io(other.to_string()),
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(RuntimeError::Io(format!("file work was ended: {e}"))))
}
