//! Every stored blob read again and held against its name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::image::Digest;

/// What a look at all stores found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Blobs that are what their names say.
    pub good: u64,
    /// Files that are not.
    pub bad: Vec<PathBuf>,
}

/// Hashes every file below a `blobs/sha256` folder, at any depth under `root`.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn blobs_below(root: &Path) -> std::io::Result<Verified> {
    let mut found = Verified::default();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let holds_blobs = folder.ends_with("blobs/sha256");
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if holds_blobs {
                if digest_of(&entry.path())?.hex() == entry.file_name().to_string_lossy() {
                    found.good += 1;
                } else {
                    found.bad.push(entry.path());
                }
            }
        }
    }
    Ok(found)
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_was_changed_on_disk_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("node/blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let name = |bytes: &[u8]| {
            let digest = aws_lc_rs::digest::digest(&SHA256, bytes);
            blobs.join(hex::encode(digest.as_ref()))
        };
        std::fs::write(name(b"whole"), b"whole").unwrap();
        std::fs::write(name(b"good"), b"evil").unwrap();
        let found = blobs_below(folder.path()).unwrap();
        assert_eq!((found.good, found.bad), (1, vec![name(b"good")]));
    }
}
