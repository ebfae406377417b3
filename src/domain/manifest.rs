//! The two documents that a registry serves as a manifest, read leniently.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest as OciManifest};
use serde::Deserialize;

use crate::domain::image::{Digest, ImageManifest, Layer, Platform};
use crate::domain::quantity::ByteSize;

/// Largest manifest or index that is read; distribution refuses larger ones, too.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// Platforms of one index that are looked at; the widest official images have 14.
const PLATFORMS_MAX: usize = 64;

/// Layers of one image; overlayfs mounts at most 500, containerd and Docker stop at 127.
const LAYERS_MAX: usize = 500;

/// OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image manifest.
pub const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A manifest, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// One platform.
    Image(ImageParts),
    /// Several platforms.
    Index(Vec<IndexEntry>),
}

/// What one platform's image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageParts {
    /// The config blob: platform, environment, digests of unpacked layers.
    pub config: Part,
    /// Layers, base first.
    pub layers: Vec<Part>,
}

/// One blob that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Blob.
    pub digest: Digest,
    /// Bytes.
    pub size: ByteSize,
    /// As written.
    pub media_type: String,
}

/// One platform of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: ByteSize,
    /// For whom; `None` where the index does not say.
    pub platform: Option<Platform>,
}

/// A text that is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no usable manifest: {0}")]
pub struct ManifestError(String);

/// The two members that tell the kinds apart.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

// === impl Manifest ===

impl Manifest {
    /// Reads either document, OCI's or Docker's.
    ///
    /// # Errors
    /// What is missing, of the wrong form or beyond the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(ManifestError(format!(
                "{} bytes, more than {MANIFEST_MAX}",
                bytes.len()
            )));
        }
        let kind: Kind = read(bytes)?;
        if kind.manifests.is_some() {
            let index: ImageIndex = read(bytes)?;
            let images = index.manifests().iter().filter(|entry| is_image(entry));
            let entries: Result<Vec<_>, _> = images.map(entry_of).collect();
            return Ok(Self::Index(limited(entries?, PLATFORMS_MAX, "platforms")?));
        }
        if kind
            .media_type
            .is_some_and(|t| t.ends_with(".v1+prettyjws"))
        {
            return Err(ManifestError("schema 1 is no longer read".into()));
        }
        let image: OciManifest = read(bytes)?;
        let layers: Result<Vec<_>, _> = image.layers().iter().map(part_of).collect();
        Ok(Self::Image(ImageParts {
            config: part_of(image.config())?,
            layers: limited(layers?, LAYERS_MAX, "layers")?,
        }))
    }

    /// The media type to serve a stored manifest with: its own word, or else what its form says.
    #[must_use]
    pub fn media_type(bytes: &[u8]) -> String {
        match serde_json::from_slice::<Kind>(bytes) {
            Ok(Kind {
                media_type: Some(named),
                ..
            }) => named,
            Ok(Kind {
                manifests: Some(_), ..
            }) => OCI_INDEX.to_owned(),
            _ => OCI_IMAGE.to_owned(),
        }
    }

    /// Everything that has to be there for the manifest to be of use.
    pub fn parts(&self) -> Vec<Digest> {
        match self {
            Self::Image(image) => {
                let layers = image.layers.iter().map(|layer| layer.digest.clone());
                std::iter::once(image.config.digest.clone())
                    .chain(layers)
                    .collect()
            }
            Self::Index(entries) => entries.iter().map(|entry| entry.digest.clone()).collect(),
        }
    }
}

// === impl ImageParts ===

impl ImageParts {
    /// In the words of plans.
    pub fn to_manifest(&self, digest: Digest, platform: Platform) -> ImageManifest {
        let layers = self.layers.iter().map(|part| Layer {
            digest: part.digest.clone(),
            size: part.size,
            // What is not compressed lies on the disk as it travels, but for padding.
            unpacked: is_plain(&part.media_type).then_some(part.size),
        });
        ImageManifest {
            digest,
            platform,
            layers: layers.collect(),
        }
    }
}

/// `application/vnd.oci.image.layer.v1.tar` and Docker's `.rootfs.diff.tar`, with nothing after it.
fn is_plain(media_type: &str) -> bool {
    media_type.rsplit('.').next() == Some("tar")
}

// === impl Platform ===

impl Platform {
    /// The platform that a config blob names.
    ///
    /// # Errors
    /// When the text is no image configuration.
    pub fn of_config(bytes: &[u8]) -> Result<Self, ManifestError> {
        let config: ImageConfiguration = read(bytes)?;
        Ok(Self {
            os: config.os().to_string(),
            arch: config.architecture().to_string(),
        })
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|e| ManifestError(e.to_string()))
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, ManifestError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|e| ManifestError(format!("{e}")))
}

fn part_of(descriptor: &Descriptor) -> Result<Part, ManifestError> {
    Ok(Part {
        digest: digest_of(descriptor)?,
        size: ByteSize(descriptor.size()),
        media_type: descriptor.media_type().to_string(),
    })
}

fn entry_of(descriptor: &Descriptor) -> Result<IndexEntry, ManifestError> {
    Ok(IndexEntry {
        digest: digest_of(descriptor)?,
        size: ByteSize(descriptor.size()),
        platform: descriptor.platform().as_ref().map(|p| Platform {
            os: p.os().to_string(),
            arch: p.architecture().to_string(),
        }),
    })
}

/// Attestations (BuildKit) ride in an index as manifests of the platform `unknown/unknown`.
fn is_image(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .as_ref()
        .is_none_or(|p| p.os().to_string() != "unknown")
}

fn limited<T>(items: Vec<T>, max: usize, what: &str) -> Result<Vec<T>, ManifestError> {
    if items.len() > max {
        return Err(ManifestError(format!(
            "{} {what}, more than {max}",
            items.len()
        )));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", hex::encode([n; 32]))
    }

    #[test]
    fn an_image_manifest_tells_config_and_layers() {
        let text = json!({"schemaVersion": 2, "mediaType": DOCKER_IMAGE,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "size": 7, "digest": digest(1)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": 9, "digest": digest(2)}]})
        .to_string();
        let Manifest::Image(image) = Manifest::parse(text.as_bytes()).unwrap() else {
            panic!("read as an index");
        };
        assert_eq!(image.config.size, ByteSize(7));
        assert_eq!(image.layers[0].digest.as_str(), digest(2));
        assert_eq!(Manifest::media_type(text.as_bytes()), DOCKER_IMAGE);
    }

    #[test]
    fn only_layers_that_are_not_compressed_tell_their_size_on_disk() {
        let layer = |n, form: &str| {
            let media_type = format!("application/vnd.oci.image.layer.v1.{form}");
            json!({"mediaType": media_type, "size": 9, "digest": digest(n)})
        };
        let text = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "size": 7, "digest": digest(1)},
            "layers": [layer(2, "tar"), layer(3, "tar+zstd")]})
        .to_string();
        let Manifest::Image(image) = Manifest::parse(text.as_bytes()).unwrap() else {
            panic!("read as an index");
        };
        let manifest = image.to_manifest(digest(4).parse().unwrap(), Platform::linux("amd64"));
        let unpacked: Vec<_> = manifest.layers.iter().map(|layer| layer.unpacked).collect();
        assert_eq!(unpacked, [Some(ByteSize(9)), None]);
    }

    #[test]
    fn attestations_in_an_index_are_no_images() {
        let entry = |n, os: &str, arch: &str| {
            json!({"mediaType": OCI_IMAGE, "size": 9, "digest": digest(n),
                "platform": {"os": os, "architecture": arch}})
        };
        let text = json!({"schemaVersion": 2, "manifests": [
            entry(1, "linux", "amd64"), entry(2, "unknown", "unknown"),
            entry(3, "linux", "arm64")]})
        .to_string();
        let Manifest::Index(entries) = Manifest::parse(text.as_bytes()).unwrap() else {
            panic!("read as an image");
        };
        let found: Vec<_> = entries
            .iter()
            .map(|e| e.platform.clone().unwrap())
            .collect();
        assert_eq!(found, [Platform::linux("amd64"), Platform::linux("arm64")]);
        assert_eq!(Manifest::media_type(text.as_bytes()), OCI_INDEX);
    }

    #[test]
    fn more_layers_than_any_runtime_mounts_are_refused() {
        let layer = json!({"mediaType": "x/y", "size": 1, "digest": digest(2)});
        let text = json!({"schemaVersion": 2, "config": layer,
            "layers": vec![layer.clone(); LAYERS_MAX + 1]})
        .to_string();
        let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("501 layers"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in r#"\{("manifests"|"layers"|"config"): ?(\[\]|\{\}|null|1)\}"#,
        ) {
            let _ = Manifest::parse(&bytes);
            prop_assert!(Manifest::parse(text.as_bytes()).is_err() || text.contains("manifests"));
        }
    }
}
