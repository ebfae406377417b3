//! Every image of the daemon's, whoever made it, by the manifest that its names lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::image::Digest;
use crate::domain::inventory::StoredImage;
use crate::domain::manifest::{IndexEntry, MANIFEST_MAX, Manifest};
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::runtime::containerd::client::Client;
use crate::runtime::containerd::delivery::{Shared, failed};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::pin::is_pin;
use crate::runtime::containerd::record;

/// Targets whose documents are read, at most: some two calls each, once in an agent's life. A node has some hundred.
const TARGETS_MAX: usize = 4_096;

/// What targets of records were found to be.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: Mutex<BTreeMap<Digest, Resolved>>,
}

/// The image that a record leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    manifest: Digest,
    /// Of its layers, as they travel.
    bytes: ByteSize,
}

impl Catalogue {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Digest, Resolved>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers no more than there is.
    fn keep(&self, targets: &BTreeSet<Digest>) {
        self.known().retain(|target, _| targets.contains(target));
    }

    /// What a target leads to; none where its documents are not here, or are none.
    async fn resolve(
        &self,
        client: &Client,
        target: &Digest,
    ) -> Result<Option<Resolved>, RuntimeError> {
        if let Some(known) = self.known().get(target) {
            return Ok(Some(known.clone()));
        }
        let found = resolve(client, target).await?;
        if let Some(found) = &found {
            self.known().insert(target.clone(), found.clone());
        }
        Ok(found)
    }
}

/// All of them. Pins are no images; a name that is no reference (CRI's image IDs) is none by which a pod asks.
pub(super) async fn images(shared: &Shared) -> Result<Vec<StoredImage>, RuntimeError> {
    let records = shared.client.images(&[]).await.map_err(failed)?;
    let mut targets = BTreeSet::new();
    let mut images: BTreeMap<Digest, StoredImage> = BTreeMap::new();
    for record in records.iter().filter(|record| !is_pin(&record.name)) {
        let target = record.target.as_ref();
        let Some(target) = target.and_then(|target| target.digest.parse::<Digest>().ok()) else {
            continue;
        };
        let is_new = targets.insert(target.clone());
        let resolved = if is_new && targets.len() > TARGETS_MAX {
            None
        } else {
            shared.catalogue.resolve(&shared.client, &target).await?
        };
        let (digest, bytes) = match resolved {
            Some(found) => (found.manifest, Some(found.bytes)),
            None => (target, None),
        };
        let image = images.entry(digest.clone()).or_insert(StoredImage {
            digest,
            names: Vec::new(),
            planned: Vec::new(),
            bytes,
        });
        let name = record.name.parse().ok();
        let Some(name) = name.filter(|_| !record.name.starts_with("sha256:")) else {
            continue;
        };
        if record::goes_with_plan(shared, record) {
            image.planned.push(name);
        } else {
            image.names.push(name);
        }
    }
    shared.catalogue.keep(&targets);
    Ok(images.into_values().collect())
}

async fn resolve(client: &Client, target: &Digest) -> Result<Option<Resolved>, RuntimeError> {
    let Some(document) = read(client, target).await? else {
        return Ok(None);
    };
    let entries = match document {
        Manifest::Image(_) => return Ok(resolved(target, document)),
        Manifest::Index(entries) => entries,
    };
    // Of an index's manifests only those are here that somebody pulled: hardly ever those of two platforms.
    for entry in own_first(entries) {
        if let Some(document) = read(client, &entry.digest).await? {
            return Ok(resolved(&entry.digest, document));
        }
    }
    Ok(None)
}

fn resolved(digest: &Digest, document: Manifest) -> Option<Resolved> {
    let Manifest::Image(parts) = document else {
        return None;
    };
    Some(Resolved {
        manifest: digest.clone(),
        bytes: parts.layers.iter().map(|layer| layer.size).sum(),
    })
}

/// Entries of this machine's platform before others.
fn own_first(mut entries: Vec<IndexEntry>) -> Vec<IndexEntry> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let is_own = |entry: &IndexEntry| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| platform.os == "linux" && platform.arch == own)
    };
    entries.sort_by_key(|entry| !is_own(entry));
    entries
}

/// A document that is here and can be read; a daemon that cannot be asked is an error.
async fn read(client: &Client, digest: &Digest) -> Result<Option<Manifest>, RuntimeError> {
    match client.read_blob(digest, MANIFEST_MAX).await {
        Ok(bytes) => Ok(bytes.and_then(|bytes| Manifest::parse(&bytes).ok())),
        Err(
            error @ (ContainerdError::Socket(_)
            | ContainerdError::Unavailable(_)
            | ContainerdError::Deadline { .. }),
        ) => Err(failed(error)),
        // Damaged, too large, collected while it was read: the image is listed without its size.
        Err(_) => Ok(None),
    }
}
