//! The image catalogue: which layers a public image has, and how large they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use crate::domain::quantity::ByteSize;
use crate::source::recording::{RecordingError, UNPACKED_RATIO};

/// Manifests of the wanted images, by reference and architecture.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    images: BTreeMap<(ImageRef, String), ImageManifest>,
    /// Tags of the wanted images' repositories, by registry and repository.
    tags: BTreeMap<(String, String), BTreeSet<String>>,
}

/// Tags that are offered where one does not exist.
const NEAR: usize = 5;

#[derive(Deserialize)]
struct ImageRow {
    repository: String,
    tag: String,
    arch: String,
    layer_ids: String,
}

#[derive(Deserialize)]
struct LayerRow {
    layer_id: u64,
    digest16: String,
    compressed_bytes: u64,
}

impl Catalogue {
    /// Reads the rows of the wanted images out of `images.csv.gz` and `layers.csv.gz`.
    pub fn read(
        images: &Path,
        layers: &Path,
        wanted: &BTreeSet<ImageRef>,
    ) -> Result<Self, RecordingError> {
        let mut found: BTreeMap<(ImageRef, String), Vec<u64>> = BTreeMap::new();
        let homes = wanted.iter().map(|image| (home(image), BTreeSet::new()));
        let mut tags: BTreeMap<(String, String), BTreeSet<String>> = homes.collect();
        each(images, |row: ImageRow| {
            let Ok(image) = format!("{}:{}", row.repository, row.tag).parse::<ImageRef>() else {
                return Ok(()); // names that no registry would serve
            };
            if let Some(tags) = tags.get_mut(&home(&image)) {
                tags.insert(row.tag);
            }
            if wanted.contains(&image) {
                let ids: Result<Vec<u64>, _> = row.layer_ids.split(' ').map(str::parse).collect();
                let ids = ids.map_err(|e| format!("layer_ids of {image}: {e}"))?;
                found.insert((image, row.arch), ids);
            }
            Ok(())
        })?;
        let ids: BTreeSet<u64> = found.values().flatten().copied().collect();
        let mut by_id = BTreeMap::new();
        each(layers, |row: LayerRow| {
            if ids.contains(&row.layer_id) {
                by_id.insert(row.layer_id, (row.digest16, row.compressed_bytes));
            }
            Ok(())
        })?;
        let missing = |id: &u64| RecordingError::Table {
            path: layers.to_owned(),
            reason: format!("layer {id} is named by an image but has no row"),
        };
        let mut catalogue = Self {
            images: BTreeMap::new(),
            tags,
        };
        for ((image, arch), ids) in found {
            let mut parts = Vec::new();
            for id in &ids {
                let (digest16, size) = by_id.get(id).ok_or_else(|| missing(id))?;
                parts.push((digest16.as_str(), *size));
            }
            let manifest = manifest(&image, &arch, &parts);
            catalogue.images.insert((image, arch), manifest);
        }
        Ok(catalogue)
    }

    /// The manifest for an architecture.
    #[must_use]
    pub fn manifest(&self, image: &ImageRef, arch: &str) -> Option<&ImageManifest> {
        self.images.get(&(image.clone(), arch.to_owned()))
    }

    /// Tags that a wanted image's repository has here, those most like the wanted one first; none where
    /// it is not in the catalogue.
    #[must_use]
    pub fn near(&self, image: &ImageRef) -> Vec<&str> {
        let wanted = image.tag().unwrap_or_default();
        let tags = self.tags.get(&home(image)).into_iter().flatten();
        let mut near: Vec<&str> = tags.map(String::as_str).collect();
        let likeness = |tag: &str| strsim::jaro_winkler(wanted, tag);
        near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        near.truncate(NEAR);
        near
    }

    /// A manifest of any architecture with this size: a crawl may have listed an image of several
    /// platforms under one of them. Event sizes count manifest and configuration too, which is less
    /// than 6 kB on known images (prediction notes, section 1.8); 64 kB leaves room for long ones.
    #[must_use]
    pub fn of_size(&self, image: &ImageRef, size: ByteSize) -> Option<&ImageManifest> {
        let all = self.images.iter();
        all.filter(|((reference, _), _)| reference == image)
            .map(|(_, manifest)| manifest)
            .find(|manifest| manifest.size().0.abs_diff(size.0) < 64 << 10)
    }
}

fn home(image: &ImageRef) -> (String, String) {
    (image.registry().to_owned(), image.repository().to_owned())
}

/// A manifest whose digest is that of its layers' digests, or of a pinned reference.
pub(super) fn manifest(image: &ImageRef, arch: &str, parts: &[(&str, u64)]) -> ImageManifest {
    let layers = parts.iter().map(|(digest16, size)| Layer {
        digest: layer_digest(digest16),
        size: ByteSize(*size),
        unpacked: Some(ByteSize((*size as f64 * UNPACKED_RATIO) as u64)),
    });
    let layers: Vec<_> = layers.collect();
    ImageManifest {
        digest: manifest_digest(image, arch, &layers),
        platform: Platform::linux(arch),
        layers,
    }
}

/// Not a digest of bytes that exist: made of what identifies the manifest, so that equal layers on
/// two architectures or under two tags stay two manifests.
pub(super) fn manifest_digest(image: &ImageRef, arch: &str, layers: &[Layer]) -> Digest {
    if let Some(pinned) = image.digest() {
        return pinned;
    }
    let mut text = format!("{image} {arch}");
    for layer in layers {
        text.push(' ');
        text.push_str(layer.digest.as_str());
    }
    Digest::from_sha256(digest(&SHA256, text.as_bytes()).as_ref())
}

/// The first 16 digits are real where the text has them, the others are made from them.
fn layer_digest(digest16: &str) -> Digest {
    let made = hex::encode(digest(&SHA256, digest16.as_bytes()).as_ref());
    let real = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let text = if digest16.len() == 16 && digest16.bytes().all(real) {
        format!("sha256:{digest16}{}", &made[..48])
    } else {
        format!("sha256:{made}")
    };
    text.parse()
        .expect("64 lower-case digits were put together")
}

/// Calls `take` with every row of a gzip table.
pub(super) fn each<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), RecordingError> {
    let file = std::fs::File::open(path).map_err(|source| RecordingError::Io {
        path: path.to_owned(),
        source,
    })?;
    let table = |reason: String| RecordingError::Table {
        path: path.to_owned(),
        reason,
    };
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
    for row in reader.deserialize() {
        take(row.map_err(|e| table(e.to_string()))?).map_err(table)?;
    }
    Ok(())
}
