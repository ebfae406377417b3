//! What becomes of layers, odd and hostile ones included. Root only: owners, devices, whiteouts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::geteuid;
use tempfile::TempDir;

use super::*;

mod archive;
mod attacks;

mod oddities;
mod parsing;
mod settling;
mod stream;

use archive::Archive;

/// A folder for trees. Fails with words where the test cannot mean anything.
struct Yard(TempDir);

impl Yard {
    fn new() -> Self {
        assert!(
            geteuid().is_root(),
            "run this test as root: it makes devices and files of other owners"
        );
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Unpacks into a tree of this name.
    fn unpack(&self, name: &str, blob: &[u8], wanted: Wanted) -> Result<Unpacked, LayerError> {
        unpack(&self.path(name), blob, wanted, 40_000)
    }

    /// Unpacks a layer above others.
    fn above(&self, archive: &Archive) -> Result<Unpacked, LayerError> {
        let blob = archive.gzip();
        self.unpack("tree", &blob, wanted(&blob, false))
    }

    /// Unpacks a bottom layer.
    fn bottom(&self, archive: &Archive) -> Result<Unpacked, LayerError> {
        let blob = archive.gzip();
        self.unpack("tree", &blob, wanted(&blob, true))
    }

    fn at(&self, path: &str) -> fs::Metadata {
        let path = self.path("tree").join(path);
        fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path("tree").join(path)).is_ok()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path("tree").join(path)).unwrap()
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref())
}

fn wanted(blob: &[u8], is_bottom: bool) -> Wanted {
    Wanted {
        blob: Some(sha256(blob)),
        size: Some(ByteSize(blob.len() as u64)),
        diff_id: None,
        is_bottom,
        limits: Limits::default(),
    }
}

/// All of a blob in chunks of this size.
fn unpack(tree: &Path, blob: &[u8], wanted: Wanted, chunk: usize) -> Result<Unpacked, LayerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let mut unpacking = Unpacking::begin(tree, wanted)?;
        for chunk in blob.chunks(chunk) {
            unpacking.write(Bytes::copy_from_slice(chunk)).await?;
        }
        assert_eq!(unpacking.offset(), blob.len() as u64);
        unpacking.finish().await
    })
}

impl Archive {
    fn gzip(&self) -> Vec<u8> {
        gzip(&self.ended())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The entry that an error is about, and why.
fn refusal<T: std::fmt::Debug>(result: Result<T, LayerError>) -> (String, String) {
    match result {
        Err(LayerError::Entry { name, reason }) => (name, reason),
        other => panic!("not a refused entry: {other:?}"),
    }
}
