//! Images in the words of the OCI specifications.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::quantity::ByteSize;

mod reference;

/// A normalised image reference: `nginx` and `docker.io/library/nginx:latest` are one value.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(Arc<str>);

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

/// Operating system and architecture in Go's words (`linux`, `amd64`).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub arch: String,
}

/// One layer blob of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Of the blob as it travels.
    pub digest: Digest,
    /// Bytes as it travels (compressed).
    pub size: ByteSize,
    /// Bytes when unpacked, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<ByteSize>,
}

/// What one platform's manifest lists, base layer first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Digest of the manifest's exact bytes.
    pub digest: Digest,
    /// Which machines can run it.
    pub platform: Platform,
    /// Layers, base first.
    pub layers: Vec<Layer>,
}

/// A text that is no image reference or no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not a reference: what was written, and the parser's reason.
    #[error("`{text}` is not an image reference: {reason}")]
    Reference {
        /// as written
        text: String,
        /// the parser's words
        reason: String,
    },
    /// Not a digest.
    #[error("`{0}` is not a digest: write sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
}

/// References that are remembered as read, on each thread, and how long one is at most: 4 MB in all. Real
/// ones have some hundred bytes.
const LATELY_MAX: usize = 4_096;
const LATELY_LENGTH_MAX: usize = 512;

thread_local! {
    /// What this thread read lately: pods name the same images again and again, and all hold one text then.
    static LATELY: RefCell<HashMap<Box<str>, ImageRef>> = RefCell::new(HashMap::new());
}

// === impl ImageRef ===

impl ImageRef {
    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `docker.io`, `quay.io`, `localhost:5000`, ...
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.split_once('/').map_or("", |(host, _)| host)
    }

    /// Repository without registry, tag or digest: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        let path = self.0.split_once('/').map_or("", |(_, path)| path);
        let path = path.split_once('@').map_or(path, |(path, _)| path);
        path.rsplit_once(':').map_or(path, |(path, _)| path)
    }

    /// The digest of a pinned reference.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.0
            .split_once('@')
            .and_then(|(_, digest)| digest.parse().ok())
    }

    /// The tag, where there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        let path = self.0.split_once('/').map_or("", |(_, path)| path);
        let path = path.split_once('@').map_or(path, |(path, _)| path);
        path.rsplit_once(':').map(|(_, tag)| tag)
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if let Some(known) = LATELY.with_borrow(|lately| lately.get(text).cloned()) {
            return Ok(known);
        }
        let whole = reference::normalised(text).map_err(|e| ImageError::Reference {
            text: text.chars().take(300).collect(),
            reason: e.to_string(),
        })?;
        let image = Self(whole.into());
        if text.len() > LATELY_LENGTH_MAX {
            return Ok(image);
        }
        LATELY.with_borrow_mut(|lately| {
            if lately.len() >= LATELY_MAX {
                lately.clear();
            }
            lately.insert(text.into(), image.clone());
        });
        Ok(image)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Digest ===

impl Digest {
    /// From the 32 bytes of a SHA-256.
    #[must_use]
    pub fn from_sha256(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(bytes)).into())
    }

    /// The whole text, algorithm included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl Hash for Digest {
    /// Sixteen digits are 64 bits of a hash already.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.hex().as_bytes()[..16]);
    }
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(lower_hex) => {
                Ok(Self(text.into()))
            }
            _ => Err(ImageError::Digest(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Platform ===

impl Platform {
    /// `linux` on the given architecture.
    #[must_use]
    pub fn linux(arch: &str) -> Self {
        Self {
            os: "linux".into(),
            arch: arch.into(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)
    }
}

// === impl ImageManifest ===

impl ImageManifest {
    /// Compressed bytes of all layers.
    #[must_use]
    pub fn size(&self) -> ByteSize {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

macro_rules! serde_as_text {
    ($name:ident, $schema:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

serde_as_text!(
    ImageRef,
    schemars::json_schema!({"type": "string", "minLength": 1})
);
serde_as_text!(
    Digest,
    schemars::json_schema!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_was_read_before_means_the_same_and_memory_of_them_is_bounded() {
        let names = (0..LATELY_MAX + 10).map(|n| format!("shop/web:{n}"));
        for name in names {
            let (first, again): (ImageRef, ImageRef) =
                (name.parse().unwrap(), name.parse().unwrap());
            assert_eq!(first, again);
            assert!(first.as_str().ends_with(&name));
        }
        let before = LATELY.with_borrow(HashMap::len);
        let long = format!("{}.example/web", "a".repeat(LATELY_LENGTH_MAX));
        assert!(long.parse::<ImageRef>().is_ok());
        let after = LATELY.with_borrow(HashMap::len);
        assert!(after == before && after <= LATELY_MAX);
    }

    #[test]
    fn short_and_long_names_of_an_image_are_one_value() {
        let short: ImageRef = "nginx".parse().unwrap();
        assert_eq!(short, "docker.io/library/nginx:latest".parse().unwrap());
        assert_eq!(short.registry(), "docker.io");
        assert_eq!(short.repository(), "library/nginx");
        assert_eq!(short.tag(), Some("latest"));
    }

    #[test]
    fn a_pinned_reference_tells_its_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned: ImageRef = format!("quay.io/a/b@{digest}").parse().unwrap();
        assert_eq!(pinned.digest().unwrap().as_str(), digest);
        assert_eq!(pinned.repository(), "a/b");
    }

    #[test]
    fn a_digest_of_the_wrong_form_is_refused_with_the_right_one() {
        for bad in [
            "",
            "sha256:",
            "sha256:AB",
            "md5:00",
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            let error = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("64 lower-case"), "{error}");
        }
    }
}
