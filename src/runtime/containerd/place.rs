//! Puts unpacked layers into their places, from the base up, and holds what stands there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::fs::File;

use crate::domain::image::Digest;
use crate::port::RuntimeError;
use crate::runtime::containerd::chain::{Image, Link};
use crate::runtime::containerd::content::NewBlob;
use crate::runtime::containerd::delivery::{Shared, blocking, failed};
use crate::runtime::containerd::error::{ContainerdError, found};
use crate::runtime::containerd::label::{Labels, SNAPSHOT_REF, UNCOMPRESSED};
use crate::runtime::containerd::lease::{Collect, LeaseId, Tenure};
use crate::runtime::containerd::mounts::Mounts;
use crate::runtime::layer::{LayerError, settle};
use crate::runtime::wire::types::Descriptor;

/// How long a crashed agent's layers stay: renewed every third of it. Longer than a node's agent is
/// away for an update, shorter than anybody looks for lost room.
const TERM: Duration = Duration::from_mins(10);

/// Begins the keys of snapshots that are ours until they are committed.
pub(super) const KEY: &str = "forelay-";

/// Images on their way, each held by a lease of its own until it has a record or is given up.
///
/// Leases are renewed without any of the locks: containerd may unpack a layer for minutes, and all that is
/// held would end meanwhile.
#[derive(Debug, Default)]
pub(super) struct Places {
    held: Mutex<BTreeMap<Digest, Arc<Held>>>,
    /// One change of snapshots, staged trees and records at a time: some milliseconds each.
    turn: tokio::sync::Mutex<()>,
    /// One layer at a time that containerd unpacks itself, which nothing else waits for.
    applying: tokio::sync::Mutex<()>,
}

/// What is held for one image.
#[derive(Debug)]
pub(super) struct Held {
    tenure: Tenure,
    /// Layers from the base up that stand in their places, under this lease.
    placed: AtomicUsize,
}

/// Nobody else changes snapshots, staged trees or records while it is kept.
pub(super) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

/// Keys of one process are told apart by their number; those of an earlier one are removed at the start.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// What became of one layer.
enum Placed {
    /// It stands.
    Yes,
    /// It has not come yet, or has to come again in another form.
    No,
}

/// Why nothing more can be placed just now.
enum Stopped<'a> {
    /// All stands, or the next layer has not come.
    Waits,
    /// The next layer is one that containerd has to unpack.
    Apply(Place<'a>),
}

// === impl Places ===

impl Places {
    /// Waits until nobody else changes anything.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }

    /// Places what has come; how many layers stand, from the base up.
    pub(super) async fn advance(
        &self,
        shared: &Arc<Shared>,
        image: &Image,
    ) -> Result<usize, RuntimeError> {
        let mut applying = None;
        loop {
            let turn = self.turn().await;
            let Some(held) = self.hold(shared, image, &turn).await? else {
                return Ok(0);
            };
            let stopped = held.fill(shared, image).await?;
            drop(turn);
            match stopped {
                Stopped::Waits => return Ok(held.placed()),
                // Whoever applied before may have brought this one: looked at again.
                Stopped::Apply(_) if applying.is_none() => {
                    applying = Some(self.applying.lock().await);
                }
                Stopped::Apply(place) => {
                    let Placed::Yes = place.fill(true).await? else {
                        return Ok(held.placed());
                    };
                    held.count(place.at);
                }
            }
        }
    }

    /// As `advance`, and looks again at what was counted before: a daemon whose state was emptied, or that
    /// was away for longer than a lease, has lost it.
    pub(super) async fn standing(
        &self,
        shared: &Arc<Shared>,
        image: &Image,
    ) -> Result<usize, RuntimeError> {
        let placed = self.advance(shared, image).await?;
        if self.stands(shared, image, placed).await? {
            return Ok(placed);
        }
        self.advance(shared, image).await
    }

    /// Whether so many layers stand and are held; what was counted is forgotten where they do not.
    pub(super) async fn stands(
        &self,
        shared: &Shared,
        image: &Image,
        placed: usize,
    ) -> Result<bool, RuntimeError> {
        let Some(held) = self.get(&image.manifest) else {
            return Ok(false);
        };
        let Some(top) = placed.checked_sub(1).map(|i| &image.links[i].chain) else {
            return Ok(true);
        };
        let client = &shared.client;
        match client.hold_snapshot(&held.tenure.id(), top.as_str()).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                held.placed.store(0, Ordering::Release);
                Ok(false)
            }
            // The lease itself is gone.
            Err(ContainerdError::NotFound(_)) => {
                self.held().remove(&image.manifest);
                Ok(false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The lease that holds what is made for an image.
    pub(super) fn lease(&self, manifest: &Digest) -> Option<LeaseId> {
        self.get(manifest).map(|held| held.tenure.id())
    }

    /// Layers of an image that stand in their places and are held.
    pub(super) fn placed(&self, manifest: &Digest) -> usize {
        self.get(manifest).map_or(0, |held| held.placed())
    }

    /// Holds every layer of the image that stands already, whoever put it there; `None` for one that was
    /// released meanwhile, of which nothing may be held any more.
    pub(super) async fn hold(
        &self,
        shared: &Shared,
        image: &Image,
        _: &Turn<'_>,
    ) -> Result<Option<Arc<Held>>, RuntimeError> {
        let manifest = &image.manifest;
        if shared.images().get(manifest).is_none() {
            return Ok(None);
        }
        let mut held = match self.get(manifest) {
            Some(held) => held,
            None => self.begin(shared, manifest).await?,
        };
        let before = held.placed();
        let mut looked = held.look(shared, image).await;
        if matches!(looked, Err(ContainerdError::NotFound(_))) {
            // The lease is gone, with all that it held.
            held = self.begin(shared, manifest).await?;
            looked = held.look(shared, image).await;
        }
        let placed = looked.map_err(failed)?;
        if placed > before {
            // What waited for these places came too late.
            for link in &image.links[..placed] {
                shared.stage.drop_layer(&link.layer)?;
            }
        }
        Ok(Some(held))
    }

    async fn begin(&self, shared: &Shared, manifest: &Digest) -> Result<Arc<Held>, RuntimeError> {
        let now = shared.clock.now();
        let begun = Tenure::begin(&shared.client, manifest.hex(), now, TERM).await;
        let held = Arc::new(Held {
            tenure: begun.map_err(failed)?,
            placed: AtomicUsize::new(0),
        });
        self.held().insert(manifest.clone(), held.clone());
        Ok(held)
    }

    /// What holds the image from now on is its record, or nothing.
    pub(super) async fn let_go(
        &self,
        shared: &Shared,
        manifest: &Digest,
        _: &Turn<'_>,
    ) -> Result<(), RuntimeError> {
        let held = self.held().remove(manifest);
        match held {
            Some(held) => {
                let ended = held.tenure.end(&shared.client, Collect::Later).await;
                ended.map_err(failed)
            }
            None => Ok(()),
        }
    }

    /// Another term for everything that is held.
    pub(super) async fn renew(&self, shared: &Shared) {
        let all = self.held().clone();
        for (manifest, held) in all {
            let now = shared.clock.now();
            if let Err(error) = held.tenure.renew(&shared.client, now).await {
                tracing::warn!(%manifest, %error, "cannot renew a lease yet");
            }
        }
    }

    /// Looks again at all that is held, and holds it again where it has to be: nobody told what became of
    /// it.
    pub(super) async fn recount(&self, shared: &Shared) -> Result<(), RuntimeError> {
        let all: Vec<Digest> = self.held().keys().cloned().collect();
        for manifest in all {
            let turn = self.turn().await;
            let (image, held) = (shared.images().get(&manifest), self.get(&manifest));
            if let (Some(image), Some(held)) = (image, held) {
                held.placed.store(0, Ordering::Release);
                let kept = found(shared.client.held(&held.tenure.id()).await);
                if kept.map_err(failed)?.is_none() {
                    self.held().remove(&manifest);
                }
                self.hold(shared, &image, &turn).await?;
            }
        }
        Ok(())
    }

    /// Ends the leases of earlier runs: what still counts is held by now.
    pub(super) async fn sweep(&self, shared: &Shared) -> Result<usize, RuntimeError> {
        let ours: Vec<LeaseId> = self.held().values().map(|held| held.tenure.id()).collect();
        let swept = shared.client.sweep(&ours, Collect::Later).await;
        swept.map_err(failed)
    }

    fn get(&self, manifest: &Digest) -> Option<Arc<Held>> {
        self.held().get(manifest).cloned()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held {
    fn placed(&self) -> usize {
        self.placed.load(Ordering::Acquire)
    }

    /// One more layer stands, if none was found to be lost meanwhile.
    fn count(&self, placed: usize) {
        let (acquire, release) = (Ordering::Acquire, Ordering::AcqRel);
        let _ = self
            .placed
            .compare_exchange(placed, placed + 1, release, acquire);
    }

    /// Counts and holds what stands above what was counted.
    async fn look(&self, shared: &Shared, image: &Image) -> Result<usize, ContainerdError> {
        let (client, lease) = (&shared.client, self.tenure.id());
        let above = image.links.iter().enumerate().skip(self.placed()).rev();
        for (i, link) in above {
            let name = link.chain.as_str();
            let there = client.snapshot(name).await?.is_some();
            if there && client.hold_snapshot(&lease, name).await? {
                self.placed.store(i + 1, Ordering::Release);
                break;
            }
        }
        Ok(self.placed())
    }

    /// The lowest place that is empty.
    fn next<'a>(&'a self, shared: &'a Arc<Shared>, image: &'a Image) -> Option<Place<'a>> {
        let placed = self.placed();
        Some(Place {
            shared,
            held: self,
            at: placed,
            link: image.links.get(placed)?,
            below: placed.checked_sub(1).map(|i| &image.links[i].chain),
        })
    }

    /// Fills places from the base up, as far as no layer has to be unpacked by containerd.
    async fn fill<'a>(
        &'a self,
        shared: &'a Arc<Shared>,
        image: &'a Image,
    ) -> Result<Stopped<'a>, RuntimeError> {
        while let Some(place) = self.next(shared, image) {
            if !shared.has_come(&place.link.layer) {
                break;
            }
            if shared.stage.is_left(&place.link.layer) {
                return Ok(Stopped::Apply(place));
            }
            let Placed::Yes = place.fill(false).await? else {
                break;
            };
            self.count(place.at);
        }
        Ok(Stopped::Waits)
    }
}

/// How often leases are renewed.
pub(super) fn renewal() -> Duration {
    TERM / 3
}

/// One layer's place in one image.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    held: &'a Held,
    /// How many layers are below it.
    at: usize,
    link: &'a Link,
    /// The snapshot that it stands on.
    below: Option<&'a Digest>,
}

// === impl Place ===

impl Place<'_> {
    /// Asked anew for each call: renewals go on meanwhile.
    fn lease(&self) -> LeaseId {
        self.held.tenure.id()
    }

    /// Fills it with a layer that has come; `left` to containerd or not.
    async fn fill(&self, left: bool) -> Result<Placed, RuntimeError> {
        let (stage, link) = (&self.shared.stage, self.link);
        let number = KEYS.fetch_add(1, Ordering::Relaxed);
        let key = format!("{KEY}{}-{number} {}", std::process::id(), link.chain);
        let labels = Labels::from([(SNAPSHOT_REF.to_owned(), link.chain.to_string())]);
        let below = self.below.map(Digest::as_str);
        let client = &self.shared.client;
        let prepared = client
            .prepare(&self.lease(), &key, below, labels.clone())
            .await;
        let mounts = match prepared {
            Ok(mounts) => mounts,
            Err(ContainerdError::Exists(_)) => return self.stands_already().await,
            Err(error) => return Err(failed(error)),
        };
        let filled = if left {
            self.apply(&mounts).await
        } else {
            self.rename(&mounts).await
        };
        let placed = match filled {
            Ok(Placed::Yes) => self.commit(&key, labels).await,
            other => other,
        };
        if placed.is_err() && !left && !stage.tree(&link.layer).exists() {
            // The tree is the daemon's by now, which may have committed it before it went away: taking it
            // back could empty a snapshot that counts. It comes again, or is found to stand.
            stage.drop_layer(&link.layer)?;
        }
        if !matches!(placed, Ok(Placed::Yes))
            && let Err(error) = self.shared.client.remove_snapshot(&key).await
        {
            tracing::debug!(key, %error, "the lease's end will remove it");
        }
        placed
    }

    /// Somebody else was faster: theirs is as good, and is held like ours.
    async fn stands_already(&self) -> Result<Placed, RuntimeError> {
        let name = self.link.chain.as_str();
        let held = self.shared.client.hold_snapshot(&self.lease(), name).await;
        if !held.map_err(failed)? {
            return Ok(Placed::No);
        }
        self.shared.stage.drop_layer(&self.link.layer)?;
        Ok(Placed::Yes)
    }

    async fn commit(&self, key: &str, labels: Labels) -> Result<Placed, RuntimeError> {
        let name = self.link.chain.as_str();
        match self
            .shared
            .client
            .commit(&self.lease(), name, key, labels)
            .await
        {
            Ok(()) => {
                // An unpacked tree has moved; a blob that containerd unpacked is of no more use.
                self.shared.stage.drop_layer(&self.link.layer)?;
                self.shared.store.remove(&self.link.layer).await?;
                Ok(Placed::Yes)
            }
            Err(ContainerdError::Exists(_)) => {
                if let Err(error) = self.shared.client.remove_snapshot(key).await {
                    tracing::debug!(key, %error, "the lease's end will remove it");
                }
                self.stands_already().await
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Our tree becomes the snapshot's directory.
    async fn rename(&self, mounts: &Mounts) -> Result<Placed, RuntimeError> {
        let (stage, layer) = (&self.shared.stage, &self.link.layer);
        let directory = match mounts.overlay() {
            Ok(directory) => directory,
            Err(error @ ContainerdError::NotOverlay { .. }) => {
                tracing::info!(%layer, %error, "containerd unpacks it itself");
                stage.leave(layer)?;
                return Ok(Placed::No);
            }
            Err(error) => return Err(failed(error)),
        };
        let Some(ready) = stage.get(layer) else {
            return Ok(Placed::No);
        };
        if ready.diff_id != self.link.diff_id {
            stage.drop_layer(layer)?;
            return Ok(Placed::No);
        }
        if ready.is_bottom != self.link.is_bottom {
            // Two images have it in different places: one tree cannot serve both.
            stage.leave(layer)?;
            return Ok(Placed::No);
        }
        let (tree, rest) = (stage.tree(layer), ready.rest);
        let moved = blocking(move || {
            match settle(&tree, &directory.lowers, &rest) {
                Ok(_) => {}
                // Half of it may be settled for these layers below: it serves no others.
                Err(error) => return Ok(Err(error)),
            }
            rename(&tree, &directory.upper).map(Ok)
        });
        match moved.await? {
            Ok(()) => Ok(Placed::Yes),
            Err(why @ LayerError::NotHere { .. }) => {
                tracing::info!(%layer, %why, "containerd unpacks it itself");
                stage.leave(layer)?;
                Ok(Placed::No)
            }
            Err(error) => {
                stage.drop_layer(layer)?;
                Err(RuntimeError::Io(format!("{layer}: {error}")))
            }
        }
    }

    /// containerd unpacks the blob, which was kept.
    async fn apply(&self, mounts: &Mounts) -> Result<Placed, RuntimeError> {
        let (shared, link) = (self.shared, self.link);
        let path = shared.store.file(&link.layer);
        let path = path
            .ok_or_else(|| RuntimeError::Io(format!("{}: its store keeps no files", link.layer)))?;
        let named = |e| RuntimeError::Io(format!("cannot open {}: {e}", path.display()));
        let file = File::open(&path).await.map_err(named)?;
        let blob = NewBlob {
            digest: link.layer.clone(),
            size: link.size.0,
            labels: Labels::from([(UNCOMPRESSED.to_owned(), link.diff_id.to_string())]),
        };
        let lease = self.lease();
        let written = shared.client.write_blob_from(&lease, &blob, file);
        written.await.map_err(failed)?;
        let descriptor = Descriptor {
            media_type: link.media_type.clone(),
            digest: link.layer.to_string(),
            size: i64::try_from(link.size.0).unwrap_or(i64::MAX),
            ..Descriptor::default()
        };
        let lease = self.lease();
        let applied = shared.client.apply(&lease, descriptor, mounts).await;
        let applied = applied.map_err(failed)?.digest;
        if applied == link.diff_id.as_str() {
            return Ok(Placed::Yes);
        }
        shared.store.remove(&link.layer).await?;
        Err(RuntimeError::WrongDigest {
            expected: link.diff_id.clone(),
            found: applied.parse().unwrap_or_else(|_| link.layer.clone()),
        })
    }
}

/// An empty directory is replaced in one step.
fn rename(tree: &Path, upper: &PathBuf) -> Result<(), RuntimeError> {
    std::fs::rename(tree, upper).map_err(|error| {
        let mend = match error.raw_os_error() {
            // EXDEV: two bind mounts of one file system are two mounts.
            Some(18) => "; set agent.staging to a directory on the mount of the snapshots",
            _ => "",
        };
        let (from, to) = (tree.display(), upper.display());
        RuntimeError::Io(format!("cannot move {from} to {to}: {error}{mend}"))
    })
}
