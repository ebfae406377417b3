//! A real origin: Debian's `docker-registry`, and images pushed to it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use forelay::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use forelay::domain::quantity::ByteSize;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The registry process; killed when dropped.
pub struct Upstream {
    child: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

/// An image as it was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub manifest: ImageManifest,
    pub bytes: Bytes,
    pub layers: Vec<Bytes>,
}

impl Upstream {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let root = folder.path().join("data");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: '127.0.0.1:0'}}\n",
                root.display()
            ),
        )
        .unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry: {e}; apt-get install docker-registry"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("listening on ")?;
                let end = rest.find(['"', ' ']).unwrap_or(rest.len());
                Some(rest[..end].parse().unwrap())
            })
            .expect("the registry says where it listens");
        // Its log is read to the end, or it would block on a full pipe.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            _folder: folder,
        }
    }

    /// Ends it at once, as a machine that goes away.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

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
            unpacked: None,
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

    pub async fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: Bytes) {
        let answer = client()
            .put(self.url(&format!("/v2/{repository}/manifests/{tag}")))
            .header("content-type", media_type)
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    async fn upload(&self, repository: &str, blob: Bytes) {
        let begin = self.url(&format!("/v2/{repository}/blobs/uploads/"));
        let begun = client().post(begin).send().await.unwrap();
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let place = if place.starts_with('/') {
            self.url(&place)
        } else {
            place
        };
        let url = format!("{place}&digest={}", sha256(&blob));
        let answer = client().put(url).body(blob).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref())
}

fn random(seed: u8, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    ChaCha8Rng::from_seed([seed; 32]).fill_bytes(&mut bytes);
    Bytes::from(bytes)
}
