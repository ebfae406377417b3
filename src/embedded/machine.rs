//! One played node's image disk: real blobs, unpacked at the pace of one core per stream.
//!
//! Agent and kubelet of a node write through the same disk, as they would through containerd: each
//! sees what the other has brought, and what the other is just bringing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::embedded::link::Rate;
use crate::port::{BlobWriter, ContainerRuntime, RuntimeChange, RuntimeError, Show, Whole};

/// Changes that a slow listener may be behind before it misses some; a node of the recordings has
/// fewer than 200 layers.
const CHANGES: usize = 1024;

/// By how much a busy machine's timers wake too late: a scheduler's turn or two.
const LATE: Duration = Duration::from_millis(50);

/// The disk of one node.
pub struct Machine {
    layout: Arc<dyn ContainerRuntime>,
    unpack_bytes_per_s: f64,
    state: Mutex<State>,
    version: watch::Sender<u64>,
    changes: broadcast::Sender<RuntimeChange>,
}

#[derive(Default)]
struct State {
    present: BTreeMap<Digest, Bringer>,
    arriving: BTreeSet<Digest>,
    /// Layers that the kubelet fetches or unpacks, and manifests of images that it pulls.
    foreground: BTreeSet<Digest>,
    /// Usable images; those that the agent recorded with their manifest.
    images: BTreeMap<ImageRef, Option<Digest>>,
    /// Images that a container was made from: no garbage collection takes them.
    used: BTreeSet<ImageRef>,
}

/// Who brought a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bringer {
    /// The agent, ahead of need.
    Agent,
    /// The kubelet, for a pod.
    Kubelet,
}

impl Machine {
    /// A disk over an OCI layout; `unpack` is what one core unpacks, in bytes per second.
    #[must_use]
    pub fn new(layout: Arc<dyn ContainerRuntime>, unpack_bytes_per_s: f64) -> Arc<Self> {
        Arc::new(Self {
            layout,
            unpack_bytes_per_s,
            state: Mutex::default(),
            version: watch::channel(0).0,
            changes: broadcast::channel(CHANGES).0,
        })
    }

    /// Whether pods can use the image now.
    pub fn has_image(&self, image: &ImageRef) -> bool {
        self.state().images.contains_key(image)
    }

    /// A pod asks for the image: whether it is there; from now on it is in use.
    pub fn take(&self, image: &ImageRef) -> bool {
        let mut state = self.state();
        state.used.insert(image.clone());
        state.images.contains_key(image)
    }

    /// An image that was there before the play began.
    pub fn preload(&self, image: ImageRef, layers: impl IntoIterator<Item = Digest>) {
        let mut state = self.state();
        state.images.insert(image, None);
        state
            .present
            .extend(layers.into_iter().map(|layer| (layer, Bringer::Kubelet)));
    }

    /// Whether the blob is there, and otherwise whether somebody is bringing it. Where nobody does,
    /// whoever asks is from now on, until [`Machine::let_go`].
    pub fn claim(&self, digest: &Digest) -> Looks {
        let mut state = self.state();
        if state.present.contains_key(digest) {
            Looks::Present
        } else if state.arriving.insert(digest.clone()) {
            Looks::Missing
        } else {
            Looks::Arriving
        }
    }

    /// Ends a claim, whether the blob came or not.
    pub fn let_go(&self, digest: &Digest) {
        self.state().arriving.remove(digest);
        self.changed(None);
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.state().present.contains_key(digest)
    }

    /// Changes whenever anything on the disk does.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Announces that the kubelet brings this blob (or, by its manifest, this image) itself from now
    /// on, or has stopped to.
    pub fn foreground(&self, digest: &Digest, active: bool) {
        let mut state = self.state();
        if active {
            state.foreground.insert(digest.clone());
        } else {
            state.foreground.remove(digest);
        }
        drop(state);
        self.changed(Some(RuntimeChange::Foreground {
            digest: digest.clone(),
            active,
        }));
    }

    /// The kubelet has unpacked this blob.
    pub fn unpacked(&self, digest: &Digest) {
        self.state()
            .present
            .entry(digest.clone())
            .or_insert(Bringer::Kubelet);
        self.changed(Some(RuntimeChange::Present(digest.clone())));
    }

    /// The image is recorded; `manifest` where the agent did it.
    pub fn usable(&self, image: &ImageRef, manifest: Option<Digest>) {
        self.state().images.entry(image.clone()).or_insert(manifest);
        self.changed(None);
    }

    /// The layout underneath, for the kubelet's own unpaced writes: it paces the unpacking itself,
    /// after a layer's last byte.
    pub fn layout(&self) -> &Arc<dyn ContainerRuntime> {
        &self.layout
    }

    /// Blobs by who brought them.
    pub fn bringers(&self) -> BTreeMap<Digest, Bringer> {
        self.state().present.clone()
    }

    /// Takes the agent's record of one name of a manifest, or of all, away unless a container uses it.
    fn forget(&self, manifest: &Digest, name: Option<&ImageRef>) -> bool {
        let mut state = self.state();
        let goes = |image: &ImageRef, of: &Option<Digest>| {
            of.as_ref() == Some(manifest) && name.is_none_or(|name| name == image)
        };
        let in_use = state
            .images
            .iter()
            .any(|(image, of)| goes(image, of) && state.used.contains(image));
        if !in_use {
            state.images.retain(|image, of| !goes(image, of));
        }
        !in_use
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, change: Option<RuntimeChange>) {
        self.version.send_modify(|version| *version += 1);
        if let Some(change) = change {
            // No agent listens in the reactive run.
            let _ = self.changes.send(change);
        }
    }
}

/// How a blob stands on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Whole, verified, unpacked.
    Present,
    /// Being brought.
    Arriving,
    /// Neither.
    Missing,
}

/// The agent's side of a disk.
pub struct AgentSide(pub Arc<Machine>);

impl ContainerRuntime for AgentSide {
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        async {
            let mut blobs = self.0.layout.inventory().await?;
            let state = self.0.state();
            // What the kubelet has fetched counts when it is unpacked.
            blobs.retain(|blob| !state.arriving.contains(blob));
            blobs.extend(state.present.keys().cloned());
            drop(state);
            blobs.sort();
            blobs.dedup();
            Ok(blobs)
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        self.0.layout.read(digest)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        async move {
            if self.0.claim(digest) == Looks::Arriving {
                return Err(RuntimeError::Busy(digest.clone()));
            }
            let claim = Claim {
                machine: self.0.clone(),
                digest: digest.clone(),
            };
            let inner = self.0.layout.open(digest, size).await?;
            let pace = Rate::new(self.0.unpack_bytes_per_s);
            Ok(Box::new(Unpacking {
                inner,
                pace,
                unpacked_at: Instant::now(),
                claim,
            }) as Box<dyn BlobWriter>)
        }
        .boxed()
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let (image, digest) = (&whole.image, &whole.digest);
            if self.0.has_image(image) || whole.show == Show::Warm {
                return Ok(());
            }
            match self.0.layout.record(whole).await {
                // A layer that was on the node before the play began has no blob in the layout.
                Err(RuntimeError::Incomplete { missing, .. }) if self.0.has_blob(&missing) => {}
                other => other?,
            }
            self.0.usable(image, Some(digest.clone()));
            Ok(())
        }
        .boxed()
    }

    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            if self.0.forget(digest, name) {
                self.0.layout.withdraw(digest, name).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            if !self.0.forget(digest, None) {
                return Ok(());
            }
            let before = self.0.layout.inventory().await?;
            self.0.layout.release(digest).await?;
            let left = self.0.layout.inventory().await?;
            let gone: BTreeSet<&Digest> =
                before.iter().filter(|blob| !left.contains(blob)).collect();
            self.0
                .state()
                .present
                .retain(|blob, by| *by == Bringer::Kubelet || !gone.contains(blob));
            self.0.changed(None);
            Ok(())
        }
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, RuntimeChange> {
        // An agent that starts in the middle of a pull has to hear of it too.
        let state = self.0.state();
        let active = |digest: &Digest| RuntimeChange::Foreground {
            digest: digest.clone(),
            active: true,
        };
        let begun: Vec<RuntimeChange> = state.foreground.iter().map(active).collect();
        let later = stream::unfold(self.0.changes.subscribe(), |mut changes| async move {
            loop {
                match changes.recv().await {
                    Ok(change) => return Some((change, changes)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        drop(state);
        stream::iter(begun).chain(later).boxed()
    }
}

/// A blob that the agent is bringing: unpacked while it arrives (design section 8).
struct Unpacking {
    inner: Box<dyn BlobWriter>,
    pace: Arc<Rate>,
    /// When what has come so far was unpacked.
    unpacked_at: Instant,
    claim: Claim,
}

/// Keeps a blob marked as arriving for as long as its writer lives.
struct Claim {
    machine: Arc<Machine>,
    digest: Digest,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.machine.let_go(&self.digest);
    }
}

impl BlobWriter for Unpacking {
    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), RuntimeError>> {
        async move {
            let now = Instant::now();
            // A chunk that comes later than this was not there before.
            let late = now.saturating_duration_since(self.unpacked_at) < LATE;
            let ready = if late { self.unpacked_at } else { now };
            self.unpacked_at = self.pace.pass(chunk.len(), ready).await;
            self.inner.write(chunk).await
        }
        .boxed()
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.inner.restart()
    }

    fn suspend(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        async move {
            let Self { inner, claim, .. } = *self;
            let suspended = inner.suspend().await;
            // Only now can somebody else open it.
            drop(claim);
            suspended
        }
        .boxed()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        async move {
            let Self { inner, claim, .. } = *self;
            inner.commit().await?;
            let digest = claim.digest.clone();
            claim
                .machine
                .state()
                .present
                .insert(digest.clone(), Bringer::Agent);
            claim.machine.changed(Some(RuntimeChange::Present(digest)));
            Ok(())
        }
        .boxed()
    }
}
