//! What tags meant when they were last asked, one small file each.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::cache::manifests::Found;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Tags that are remembered; the least recently asked go first. A cluster names hundreds.
pub(super) const TAGS_MAX: usize = 20_000;

/// What a tag means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tag {
    /// The whole reference.
    pub(super) image: ImageRef,
    /// Manifest.
    pub(super) digest: Digest,
    /// Bytes of the manifest.
    pub(super) size: ByteSize,
    /// As served.
    pub(super) media_type: String,
    /// When the registry last said so.
    pub(super) checked: Timestamp,
}

impl Tag {
    /// The answer to who asks for it.
    pub(super) fn found(&self, stale_s: Option<u64>) -> Found {
        Found {
            digest: self.digest.clone(),
            media_type: self.media_type.clone(),
            size: self.size,
            stale_s,
        }
    }
}

/// Where a tag is kept.
pub(super) fn path(directory: &Path, image: &ImageRef) -> PathBuf {
    let name = digest(&SHA256, image.as_str().as_bytes());
    directory.join(format!("{}.json", hex::encode(name)))
}

/// A tag file that does not read is as good as none: the registry is asked.
pub(super) fn load(directory: &Path) -> HashMap<ImageRef, Tag> {
    let Ok(files) = fs::read_dir(directory) else {
        return HashMap::new();
    };
    let texts = files
        .flatten()
        .filter_map(|file| fs::read(file.path()).ok());
    texts
        .filter_map(|text| serde_json::from_slice::<Tag>(&text).ok())
        .take(TAGS_MAX)
        .map(|tag| (tag.image.clone(), tag))
        .collect()
}

/// Replaced as a whole, so that a crash leaves the old meaning or the new.
pub(super) fn save(path: &Path, tag: &Tag) {
    let text = serde_json::to_vec(tag).expect("a tag is plain data");
    let new = path.with_extension("new");
    if let Err(error) = fs::write(&new, text).and_then(|()| fs::rename(&new, path)) {
        tracing::warn!(path = %path.display(), %error, "cannot save a tag");
    }
}
