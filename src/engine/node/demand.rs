//! Which blobs the live entries still need, within the disk budget.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer};
use crate::domain::plan::{PlanEntry, Priority};
use crate::domain::quantity::ByteSize;
use crate::engine::trouble::Troubles;

/// One missing blob, with the strongest entry that needs it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of that entry: tells the repository.
    pub image: ImageRef,
    /// Blob.
    pub digest: Digest,
    /// Bytes as it travels.
    pub size: ByteSize,
    /// Class of that entry.
    pub priority: Priority,
}

/// What is missing, and what is not tried.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Missing blobs, each once, first to fetch first.
    pub wanted: Vec<Wanted>,
    /// Manifest digests of entries for which the disk budget has no room.
    pub left_out: BTreeSet<Digest>,
    /// Those for which the disk itself has none.
    pub cramped: BTreeSet<Digest>,
    /// Manifest digests of entries of which a part was given up.
    pub failed: BTreeSet<Digest>,
}

/// What is known of the node when demand is counted.
#[derive(Clone, Copy, Debug)]
pub struct Stock<'a> {
    /// Known manifests.
    pub manifests: &'a BTreeMap<Digest, ImageManifest>,
    /// Blobs that are there.
    pub present: &'a BTreeSet<Digest>,
    /// Blobs that were brought for a plan and fill the budget.
    pub brought: &'a BTreeMap<Digest, ByteSize>,
    /// Failures.
    pub troubles: &'a Troubles,
    /// Names, with their manifests, of which no record may be made now: nothing is brought for them.
    pub refused: &'a BTreeSet<(Digest, ImageRef)>,
    /// The budget.
    pub disk: ByteSize,
    /// Whether blobs are kept beside what becomes of them.
    pub blobs: bool,
    /// Unpacked bytes for which the disk has room.
    pub room: ByteSize,
}

/// Unpacked bytes for each that travels, where an image does not say it: three images of Debian packages
/// have 2.2, 3.1 and 3.6. What is guessed too large is left out, what too small makes the kubelet remove
/// images.
const UNPACKED: u64 = 4;

/// Bytes of a layer on the disk.
fn unpacked(layer: &Layer) -> ByteSize {
    let guessed = ByteSize(layer.size.0.saturating_mul(UNPACKED));
    layer.unpacked.unwrap_or(guessed)
}

/// Bytes that layers add to the disk, at most at one time: a blob that is kept is there twice while it is written
/// into the runtime's store, one after the other.
fn added<'a>(layers: impl Iterator<Item = &'a Layer>, blobs: bool) -> ByteSize {
    let (mut sum, mut largest) = (ByteSize(0), ByteSize(0));
    for layer in layers {
        sum += unpacked(layer);
        if blobs {
            sum += layer.size;
            largest = largest.max(layer.size);
        }
    }
    sum + largest
}

/// Layers of a manifest, each once: an image may list its empty layer many times.
pub fn distinct(manifest: &ImageManifest) -> impl Iterator<Item = (&Digest, ByteSize)> {
    let mut seen = BTreeSet::new();
    manifest
        .layers
        .iter()
        .filter(move |layer| seen.insert(&layer.digest))
        .map(|layer| (&layer.digest, layer.size))
}

/// Walks the entries in their order and admits each as a whole, or not at all.
///
/// An entry whose manifest is still unknown keeps the room that its plan says it needs, so that a
/// weaker one does not take it in the meantime.
pub fn demand(entries: &[PlanEntry], stock: Stock<'_>) -> Demand {
    let mut demand = Demand::default();
    // Of the budget.
    let counts = |bytes: ByteSize| if stock.blobs { bytes + bytes } else { bytes };
    let mut room = stock.disk - counts(stock.brought.values().copied().sum());
    let mut free = stock.room;
    let mut counted: BTreeSet<&Digest> = BTreeSet::new();
    let refused = |entry: &&PlanEntry| {
        let record = (entry.digest.clone(), entry.image.clone());
        stock.refused.contains(&record)
    };
    for entry in entries.iter().filter(|entry| !refused(entry)) {
        let Some(manifest) = stock.manifests.get(&entry.digest) else {
            if stock.troubles.is_given_up(&entry.digest) {
                demand.failed.insert(entry.digest.clone());
            } else {
                room = room - counts(entry.bytes);
            }
            continue;
        };
        let missing: Vec<_> = distinct(manifest)
            .filter(|(digest, _)| !stock.present.contains(*digest) && !counted.contains(digest))
            .collect();
        let given_up = stock.troubles.is_given_up(&entry.digest)
            || distinct(manifest).any(|(digest, _)| stock.troubles.is_given_up(digest));
        let bytes = counts(missing.iter().map(|(_, size)| *size).sum());
        let is_missing =
            |layer: &&Layer| missing.iter().any(|(digest, _)| **digest == layer.digest);
        let added = added(manifest.layers.iter().filter(is_missing), stock.blobs);
        if given_up {
            demand.failed.insert(entry.digest.clone());
        } else if bytes > room {
            demand.left_out.insert(entry.digest.clone());
        } else if added > free {
            demand.cramped.insert(entry.digest.clone());
        } else {
            room = room - bytes;
            free = free - added;
            for (digest, size) in missing {
                counted.insert(digest);
                demand.wanted.push(Wanted {
                    image: entry.image.clone(),
                    digest: digest.clone(),
                    size,
                    priority: entry.priority,
                });
            }
        }
    }
    demand
}
