//! Puts unpacked layers into their places, from the base up, and holds what stands there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::fs::File;

use crate::domain::image::Digest;
use crate::port::RuntimeError;
use crate::runtime::containerd::chain::{Image, Link};
use crate::runtime::containerd::content::NewBlob;
use crate::runtime::containerd::delivery::{Shared, blocking, failed};
use crate::runtime::containerd::error::ContainerdError;
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
#[derive(Debug, Default)]
pub(super) struct Places {
    held: BTreeMap<Digest, Held>,
}

/// What is held for one image.
#[derive(Debug)]
struct Held {
    tenure: Tenure,
    /// Layers from the base up that stand in their places, under this lease.
    placed: usize,
}

/// Keys of one process are told apart by their number; those of an earlier one are removed at the start.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// What became of one layer.
enum Placed {
    /// It stands.
    Yes,
    /// It has not come yet, or has to come again in another form.
    No,
}

// === impl Places ===

impl Places {
    /// Places what has come; how many layers stand, from the base up.
    pub(super) async fn advance(
        &mut self,
        shared: &Arc<Shared>,
        image: &Image,
    ) -> Result<usize, RuntimeError> {
        let mut placed = self.hold(shared, image).await?.placed;
        while let Some(link) = image.links.get(placed) {
            let below = placed.checked_sub(1).map(|i| &image.links[i].chain);
            let lease = self.lease(&image.manifest).expect("just held");
            let place = Place {
                shared,
                lease,
                link,
                below,
            };
            let Placed::Yes = place.fill().await? else {
                break;
            };
            placed += 1;
            if let Some(held) = self.held.get_mut(&image.manifest) {
                held.placed = placed;
            }
        }
        Ok(placed)
    }

    /// As `advance`, and looks again at what was counted before: a daemon whose state was emptied, or that
    /// was away for longer than a lease, has lost it.
    pub(super) async fn standing(
        &mut self,
        shared: &Arc<Shared>,
        image: &Image,
    ) -> Result<usize, RuntimeError> {
        let placed = self.advance(shared, image).await?;
        let Some(top) = placed.checked_sub(1).map(|i| &image.links[i].chain) else {
            return Ok(placed);
        };
        let lease = self.lease(&image.manifest).expect("advance holds it");
        match shared.client.hold_snapshot(&lease, top.as_str()).await {
            Ok(true) => Ok(placed),
            // The lease is gone, too, or its snapshot: what it held is counted anew.
            Ok(false) | Err(ContainerdError::NotFound(_)) => {
                self.held.remove(&image.manifest);
                self.advance(shared, image).await
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The lease that holds what is made for an image.
    pub(super) fn lease(&self, manifest: &Digest) -> Option<LeaseId> {
        self.held.get(manifest).map(|held| held.tenure.id())
    }

    /// Holds every layer of the image that stands already, whoever put it there.
    async fn hold(&mut self, shared: &Shared, image: &Image) -> Result<&Held, RuntimeError> {
        let manifest = &image.manifest;
        if !self.held.contains_key(manifest) {
            let now = shared.clock.now();
            let begun = Tenure::begin(&shared.client, manifest.hex(), now, TERM).await;
            let held = Held {
                tenure: begun.map_err(failed)?,
                placed: 0,
            };
            self.held.insert(manifest.clone(), held);
        }
        let held = self.held.get_mut(manifest).expect("just put in");
        let lease = held.tenure.id();
        for (i, link) in image.links.iter().enumerate().skip(held.placed).rev() {
            let there = shared.client.snapshot(link.chain.as_str()).await;
            if there.map_err(failed)?.is_none() {
                continue;
            }
            let name = link.chain.as_str();
            if shared
                .client
                .hold_snapshot(&lease, name)
                .await
                .map_err(failed)?
            {
                held.placed = i + 1;
                // What waited for these places came too late.
                for link in &image.links[..=i] {
                    shared.stage.drop_layer(&link.layer)?;
                }
                break;
            }
        }
        Ok(held)
    }

    /// What holds the image from now on is its record, or nothing.
    pub(super) async fn let_go(
        &mut self,
        shared: &Shared,
        manifest: &Digest,
    ) -> Result<(), RuntimeError> {
        match self.held.remove(manifest) {
            Some(held) => {
                let ended = held.tenure.end(&shared.client, Collect::Later).await;
                ended.map_err(failed)
            }
            None => Ok(()),
        }
    }

    /// Another term for everything that is held.
    pub(super) async fn renew(&self, shared: &Shared) {
        for (manifest, held) in &self.held {
            let now = shared.clock.now();
            if let Err(error) = held.tenure.renew(&shared.client, now).await {
                tracing::warn!(%manifest, %error, "cannot renew a lease yet");
            }
        }
    }

    /// Ends the leases of earlier runs: what still counts is held by now.
    pub(super) async fn sweep(&self, shared: &Shared) -> Result<usize, RuntimeError> {
        let ours: Vec<LeaseId> = self.held.values().map(|held| held.tenure.id()).collect();
        let swept = shared.client.sweep(&ours, Collect::Later).await;
        swept.map_err(failed)
    }
}

/// How often leases are renewed.
pub(super) fn renewal() -> Duration {
    TERM / 3
}

/// One layer's place in one image.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    lease: LeaseId,
    link: &'a Link,
    /// The snapshot that it stands on.
    below: Option<&'a Digest>,
}

// === impl Place ===

impl Place<'_> {
    /// Fills it if the layer has come.
    async fn fill(&self) -> Result<Placed, RuntimeError> {
        let (stage, link) = (&self.shared.stage, self.link);
        let left = stage.is_left(&link.layer);
        if !self.shared.has_come(&link.layer) {
            return Ok(Placed::No);
        }
        let number = KEYS.fetch_add(1, Ordering::Relaxed);
        let key = format!("{KEY}{}-{number} {}", std::process::id(), link.chain);
        let labels = Labels::from([(SNAPSHOT_REF.to_owned(), link.chain.to_string())]);
        let below = self.below.map(Digest::as_str);
        let prepared = self
            .shared
            .client
            .prepare(&self.lease, &key, below, labels.clone());
        let mounts = match prepared.await {
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
        let held = self.shared.client.hold_snapshot(&self.lease, name).await;
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
            .commit(&self.lease, name, key, labels)
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
        let written = shared.client.write_blob_from(&self.lease, &blob, file);
        written.await.map_err(failed)?;
        let descriptor = Descriptor {
            media_type: link.media_type.clone(),
            digest: link.layer.to_string(),
            size: i64::try_from(link.size.0).unwrap_or(i64::MAX),
            ..Descriptor::default()
        };
        let applied = shared.client.apply(&self.lease, descriptor, mounts).await;
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
