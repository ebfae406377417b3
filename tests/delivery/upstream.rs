//! Images of random bytes, pushed to a real origin.

use bytes::Bytes;
use forelay::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use forelay::domain::quantity::ByteSize;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

pub use crate::registry::{Upstream, client, sha256};

pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image as it was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub manifest: ImageManifest,
    pub bytes: Bytes,
    pub layers: Vec<Bytes>,
}

impl Upstream {
    /// Pushes an image with layers of these sizes; equal seeds and sizes give equal layers.
    pub async fn push(&self, image: &ImageRef, layers: &[(u8, usize)]) -> Pushed {
        let repository = image.repository();
        let layers: Vec<Bytes> = layers
            .iter()
            .map(|(seed, size)| random(*seed, *size))
            .collect();
        let ids: Vec<Digest> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": {},
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = Bytes::from(config.to_string());
        for blob in layers.iter().chain([&config]) {
            self.upload(repository, blob.clone()).await;
        }
        let describe = |media_type: &str, blob: &Bytes| json!({"mediaType": media_type, "digest": sha256(blob), "size": blob.len()});
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let described: Vec<Value> = layers.iter().map(|l| describe(layer_type, l)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": described});
        let bytes = Bytes::from(manifest.to_string());
        let tag = image.tag().unwrap();
        self.put_manifest(repository, tag, OCI_IMAGE, bytes.clone())
            .await;
        let sized = |layer: &Bytes| Layer {
            digest: sha256(layer),
            size: ByteSize(layer.len() as u64),
            // Not compressed, as their type says.
            unpacked: Some(ByteSize(layer.len() as u64)),
        };
        Pushed {
            manifest: ImageManifest {
                digest: sha256(&bytes),
                platform: Platform::linux("amd64"),
                layers: layers.iter().map(sized).collect(),
            },
            bytes,
            layers,
        }
    }
}

fn random(seed: u8, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    ChaCha8Rng::from_seed([seed; 32]).fill_bytes(&mut bytes);
    Bytes::from(bytes)
}
