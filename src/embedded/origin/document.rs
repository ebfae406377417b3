//! Configs, manifests and indexes of generated images, in OCI's form.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::domain::image::{Digest, ImageManifest, Layer};
use crate::domain::manifest::{OCI_IMAGE, OCI_INDEX};
use crate::domain::quantity::ByteSize;
use crate::embedded::origin::content::Generated;

/// Config of an image.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Layers are random bytes: an uncompressed layer's digest is its unpacked digest, so that a config
/// can be right without compressing anything.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A small blob that is kept.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
}

impl Document {
    fn new(media_type: &'static str, value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        Self {
            digest: Digest::from_sha256(digest(&SHA256, &bytes).as_ref()),
            media_type,
            bytes,
        }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// The manifest as served for a manifest of the catalogue, with its documents.
pub(super) fn image(
    of: &ImageManifest,
    contents: &HashMap<Digest, Generated>,
    divisor: u64,
) -> (ImageManifest, [Document; 2]) {
    let layers: Vec<Layer> = of
        .layers
        .iter()
        .map(|layer| {
            let content = &contents[&layer.digest];
            Layer {
                digest: content.digest.clone(),
                size: ByteSize(content.size),
                unpacked: layer.unpacked.map(|size| ByteSize(size.0 / divisor)),
            }
        })
        .collect();
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    let config = Document::new(
        CONFIG,
        &json!({
            "os": of.platform.os,
            "architecture": of.platform.arch,
            // Two images with equal layers stay two images.
            "config": {"Labels": {"dev.forelay.catalogue.digest": of.digest}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }),
    );
    let described: Vec<Value> = layers
        .iter()
        .map(|l| json!({"mediaType": LAYER, "digest": l.digest, "size": l.size}))
        .collect();
    let manifest = Document::new(
        OCI_IMAGE,
        &json!({
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": config.descriptor(),
            "layers": described,
        }),
    );
    let served = ImageManifest {
        digest: manifest.digest.clone(),
        platform: of.platform.clone(),
        layers,
    };
    (served, [config, manifest])
}

/// The index over manifests that are there already.
pub(super) fn index(served: &[ImageManifest], documents: &HashMap<Digest, Document>) -> Document {
    let entries: Vec<Value> = served
        .iter()
        .map(|manifest| {
            let mut entry = documents[&manifest.digest].descriptor();
            let platform = &manifest.platform;
            entry["platform"] = json!({"os": platform.os, "architecture": platform.arch});
            entry
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    Document::new(OCI_INDEX, &index)
}
