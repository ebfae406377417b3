//! An image in a snapshotter's terms: layers, and the chain of snapshots that they become.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use oci_spec::image::ImageConfiguration;

use crate::domain::image::{Digest, Platform};
use crate::domain::manifest::{Manifest, ManifestError};
use crate::domain::quantity::ByteSize;

/// An image of which manifest and config are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Digest of its manifest.
    pub(super) manifest: Digest,
    /// Digest of its config.
    pub(super) config: Digest,
    /// For whom it is.
    pub(super) platform: Platform,
    /// Base first.
    pub(super) links: Vec<Link>,
}

/// One layer in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The blob that a registry serves.
    pub(super) layer: Digest,
    /// Bytes of the blob.
    pub(super) size: ByteSize,
    /// Of the blob, as the manifest writes it.
    pub(super) media_type: String,
    /// Digest of the unpacked stream.
    pub(super) diff_id: Digest,
    /// Name of the snapshot with this layer on top.
    pub(super) chain: Digest,
    /// Whether nothing lies below it.
    pub(super) is_bottom: bool,
}

/// Images that were planned and not released.
#[derive(Debug, Default)]
pub(super) struct Images {
    by_manifest: BTreeMap<Digest, Arc<Image>>,
}

/// A manifest and a config that do not fit each other, or are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImageError {
    /// One of the two documents.
    #[error(transparent)]
    Form(#[from] ManifestError),
    /// No image manifest, or a digest in the config that is none.
    #[error("{0}")]
    Broken(String),
}

// === impl Image ===

impl Image {
    /// Reads both documents; their digests are the caller's to know.
    pub(super) fn read(
        digest: &Digest,
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Self, ImageError> {
        let broken = |what: String| ImageError::Broken(format!("{digest}: {what}"));
        let Manifest::Image(parts) = Manifest::parse(manifest)? else {
            return Err(broken("an index is no image".into()));
        };
        let read: ImageConfiguration = serde_json::from_slice(config)
            .map_err(|e| broken(format!("its config {}: {e}", parts.config.digest)))?;
        let diff_ids = read.rootfs().diff_ids().iter();
        let diff_ids: Result<Vec<Digest>, _> = diff_ids.map(|text| text.parse()).collect();
        let diff_ids = diff_ids.map_err(|e| broken(format!("a diff ID of its config: {e}")))?;
        if diff_ids.len() != parts.layers.len() {
            return Err(broken(format!(
                "{} layers, and {} diff IDs in its config",
                parts.layers.len(),
                diff_ids.len()
            )));
        }
        let chains = chain_ids(&diff_ids);
        let links = parts
            .layers
            .into_iter()
            .zip(diff_ids)
            .zip(chains)
            .enumerate();
        Ok(Self {
            manifest: digest.clone(),
            config: parts.config.digest,
            platform: Platform::of_config(config)?,
            links: links
                .map(|(i, ((part, diff_id), chain))| Link {
                    is_bottom: i == 0,
                    layer: part.digest,
                    size: part.size,
                    media_type: part.media_type,
                    diff_id,
                    chain,
                })
                .collect(),
        })
    }

    /// Digest of the config that a manifest names.
    pub(super) fn config_of(digest: &Digest, manifest: &[u8]) -> Result<Digest, ImageError> {
        match Manifest::parse(manifest)? {
            Manifest::Image(parts) => Ok(parts.config.digest),
            Manifest::Index(_) => Err(ImageError::Broken(format!(
                "{digest}: an index is no image"
            ))),
        }
    }

    /// Name of the snapshot that containers of the image stand on; none where it has no layer.
    pub(super) fn top(&self) -> Option<&Digest> {
        self.links.last().map(|link| &link.chain)
    }
}

/// Names of the snapshots of a stack of layers, base first: the first is its diff ID, each other the
/// digest of `<name below> <diff ID>` (OCI image specification, config.md, "Layer ChainID").
fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => {
                let text = format!("{below} {diff_id}");
                Digest::from_sha256(digest(&SHA256, text.as_bytes()).as_ref())
            }
        });
    }
    chains
}

// === impl Images ===

impl Images {
    pub(super) fn learn(&mut self, image: Image) -> Arc<Image> {
        let image = Arc::new(image);
        self.by_manifest
            .insert(image.manifest.clone(), image.clone());
        image
    }

    pub(super) fn forget(&mut self, manifest: &Digest) -> Option<Arc<Image>> {
        self.by_manifest.remove(manifest)
    }

    pub(super) fn get(&self, manifest: &Digest) -> Option<Arc<Image>> {
        self.by_manifest.get(manifest).cloned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.by_manifest.values()
    }

    /// A place of this layer in some image; all have the same diff ID, as the blob has one content.
    pub(super) fn link(&self, layer: &Digest) -> Option<&Link> {
        let links = self.all().flat_map(|image| &image.links);
        links.into_iter().find(|link| link.layer == *layer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_manifest.is_empty()
    }

    /// Layers on top of the snapshot of this name.
    pub(super) fn standing(&self, chain: &str) -> BTreeSet<Digest> {
        let links = self.all().flat_map(|image| &image.links);
        let links = links.filter(|link| link.chain.as_str() == chain);
        links.map(|link| link.layer.clone()).collect()
    }

    /// Images that have this layer.
    pub(super) fn with(&self, layer: &Digest) -> Vec<Arc<Image>> {
        let has = |image: &&Arc<Image>| image.links.iter().any(|link| link.layer == *layer);
        self.all().filter(has).cloned().collect()
    }

    /// Every blob that some image needs: manifests, configs, layers.
    pub(super) fn blobs(&self) -> BTreeSet<Digest> {
        let of = |image: &Arc<Image>| {
            let layers = image.links.iter().map(|link| link.layer.clone());
            let documents = [image.manifest.clone(), image.config.clone()];
            documents.into_iter().chain(layers).collect::<Vec<_>>()
        };
        self.all().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest_of(text: &str) -> Digest {
        Digest::from_sha256(digest(&SHA256, text.as_bytes()).as_ref())
    }

    fn manifest(layers: &[&str]) -> Vec<u8> {
        let part = |text: &str| json!({"mediaType": "x/y", "size": 1, "digest": digest_of(text)});
        let layers: Vec<Value> = layers.iter().map(|text| part(text)).collect();
        let text = json!({"schemaVersion": 2, "config": part("config"), "layers": layers});
        text.to_string().into_bytes()
    }

    fn config(diff_ids: &[&str]) -> Vec<u8> {
        let diff_ids: Vec<Digest> = diff_ids.iter().map(|text| digest_of(text)).collect();
        let text = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        text.to_string().into_bytes()
    }

    #[test]
    fn a_snapshot_is_named_after_everything_below_it() {
        let image = Image::read(
            &digest_of("m"),
            &manifest(&["a", "b"]),
            &config(&["A", "B"]),
        );
        let image = image.unwrap();
        let [base, top] = image.links.as_slice() else {
            panic!("{image:?}");
        };
        assert_eq!(base.chain, digest_of("A"));
        let both = format!("{} {}", digest_of("A"), digest_of("B"));
        assert_eq!(top.chain, digest_of(&both));
        assert_eq!(image.top(), Some(&top.chain));
    }

    #[test]
    fn a_config_for_another_number_of_layers_is_refused() {
        let read = Image::read(&digest_of("m"), &manifest(&["a", "b"]), &config(&["A"]));
        let error = read.unwrap_err().to_string();
        assert!(error.contains("2 layers, and 1 diff IDs"), "{error}");
    }

    #[test]
    fn a_config_that_is_none_is_named() {
        let error = Image::read(&digest_of("m"), &manifest(&["a"]), b"{}").unwrap_err();
        assert!(error.to_string().contains(digest_of("config").as_str()));
    }
}
