//! Images written in the test: layers from tars, config, manifest, index; and pushing them.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use forelay::domain::image::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::registry::{Upstream, sha256};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a layer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
}

/// A layer, as a tar and as it travels.
#[derive(Clone, Debug)]
pub struct Layer {
    pub tar: Bytes,
    pub blob: Bytes,
    pub form: Form,
}

/// A whole image of one platform, with an index around it.
#[derive(Clone, Debug)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Bytes,
    pub manifest: Bytes,
    pub index: Bytes,
}

/// A tar in memory.
pub type Tar = Builder<Vec<u8>>;

impl Form {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    fn packed(self, tar: &Bytes) -> Bytes {
        match self {
            Self::Plain => tar.clone(),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap().into()
            }
            Self::Zstd => zstd::encode_all(&tar[..], 1).unwrap().into(),
        }
    }
}

impl Layer {
    /// A layer of what `fill` puts into it.
    pub fn new(form: Form, fill: impl FnOnce(&mut Tar)) -> Self {
        let mut tar = Builder::new(Vec::new());
        fill(&mut tar);
        Self::of(form, tar.into_inner().unwrap().into())
    }

    /// A layer of this very tar.
    pub fn of(form: Form, tar: Bytes) -> Self {
        let blob = form.packed(&tar);
        Self { tar, blob, form }
    }

    pub fn diff_id(&self) -> Digest {
        sha256(&self.tar)
    }

    pub fn digest(&self) -> Digest {
        sha256(&self.blob)
    }
}

impl Image {
    /// `process` is what the config says about starting: `{"Entrypoint": [..]}`.
    pub fn new(layers: Vec<Layer>, process: &Value) -> Self {
        let ids: Vec<Digest> = layers.iter().map(Layer::diff_id).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": process,
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = Bytes::from(config.to_string());
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| describe(layer.form.media_type(), &layer.blob))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": describe(OCI_CONFIG, &config), "layers": described});
        let manifest = Bytes::from(manifest.to_string());
        let mut entry = describe(OCI_MANIFEST, &manifest);
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        Self {
            layers,
            config,
            manifest,
            index: Bytes::from(index.to_string()),
        }
    }

    /// Pushes all of it; the tag names the index.
    pub async fn push(&self, registry: &Upstream, repository: &str, tag: &str) {
        let layers = self.layers.iter().map(|layer| &layer.blob);
        for blob in layers.chain([&self.config]) {
            registry.upload(repository, blob.clone()).await;
        }
        let digest = sha256(&self.manifest);
        let (manifest, index) = (self.manifest.clone(), self.index.clone());
        registry
            .put_manifest(repository, digest.as_str(), OCI_MANIFEST, manifest)
            .await;
        registry
            .put_manifest(repository, tag, OCI_INDEX, index)
            .await;
    }

    /// Names of the snapshots, lowest first: the OCI image specification's `ChainID`.
    pub fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::new();
        for layer in &self.layers {
            let id = layer.diff_id();
            let next = match chain.last() {
                None => id.to_string(),
                Some(below) => sha256(format!("{below} {id}").as_bytes()).to_string(),
            };
            chain.push(next);
        }
        chain
    }
}

/// Adds a directory.
pub fn folder(tar: &mut Tar, path: &str, mode: u32) {
    entry(tar, path, EntryType::Directory, mode, b"");
}

/// Adds a file.
pub fn file(tar: &mut Tar, path: &str, mode: u32, bytes: &[u8]) {
    entry(tar, path, EntryType::Regular, mode, bytes);
}

/// Adds an entry of any kind, of root, with a time in the past.
pub fn entry(tar: &mut Tar, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).unwrap();
}

fn describe(media_type: &str, bytes: &Bytes) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}
