//! A partial blob file that knows the hash of its bytes.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::store::{Durability, WriteGuard, io_error};

/// Read size of re-hashing: large enough that the system call does not count.
const HASH_CHUNK: usize = 256 << 10;

/// The hash is not stored: it is computed again from the file on resume. At 1 to 2 GB/s that is
/// cheaper than the network ever was, and there is no second truth that could disagree.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    hash: Context,
    len: u64,
    size: Option<u64>,
    guard: WriteGuard,
}

impl Partial {
    /// Opens or creates the file and hashes what it holds.
    pub(super) fn open(
        path: PathBuf,
        guard: WriteGuard,
        size: Option<ByteSize>,
    ) -> Result<Self, RuntimeError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| io_error("open", &path, &e))?;
        let (hash, len) = hash_from(&mut file).map_err(|e| io_error("read", &path, &e))?;
        let mut partial = Self {
            file,
            path,
            hash,
            len,
            size: size.map(|s| s.0),
            guard,
        };
        if partial.size.is_some_and(|size| partial.len > size) {
            partial.restart()?;
        }
        Ok(partial)
    }

    /// Bytes in the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The blob.
    pub(super) fn digest(&self) -> &Digest {
        &self.guard.digest
    }

    /// Appends; more bytes than the blob has empty the file and are an error.
    pub(super) fn append(&mut self, chunks: &[Bytes]) -> Result<(), RuntimeError> {
        for chunk in chunks {
            let found = self.len + chunk.len() as u64;
            if let Some(expected) = self.size.filter(|size| found > *size) {
                self.restart()?;
                return Err(RuntimeError::WrongSize {
                    digest: self.digest().clone(),
                    expected,
                    found,
                });
            }
            if let Err(e) = self.file.write_all(chunk) {
                // A short write leaves bytes that are not hashed: cut them off, so that the file
                // and the hash agree when the disk has room again.
                let _ = self.file.set_len(self.len);
                let _ = self.file.seek(SeekFrom::Start(self.len));
                return Err(io_error("write", &self.path, &e));
            }
            self.hash.update(chunk);
            self.len = found;
        }
        Ok(())
    }

    /// Empties the file.
    pub(super) fn restart(&mut self) -> Result<(), RuntimeError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| io_error("truncate", &self.path, &e))?;
        self.hash = Context::new(&SHA256);
        self.len = 0;
        Ok(())
    }

    /// Verifies and renames into place. The file is on disk before its name is, and the name is
    /// before anybody is told.
    pub(super) fn finish(self, to: &Path) -> Result<u64, RuntimeError> {
        let discard = |error| {
            let _ = fs::remove_file(&self.path);
            Err(error)
        };
        if let Some(expected) = self.size.filter(|size| *size != self.len) {
            return discard(RuntimeError::WrongSize {
                digest: self.guard.digest.clone(),
                expected,
                found: self.len,
            });
        }
        let found = Digest::from_sha256(self.hash.clone().finish().as_ref());
        if found != self.guard.digest {
            return discard(RuntimeError::WrongDigest {
                expected: self.guard.digest.clone(),
                found,
            });
        }
        let lasting = self.guard.shared.durability == Durability::Lasting;
        if lasting {
            let synced = self.file.sync_all();
            synced.map_err(|e| io_error("sync", &self.path, &e))?;
        }
        fs::rename(&self.path, to).map_err(|e| io_error("rename into", to, &e))?;
        if lasting {
            sync_parent(to)?;
        }
        Ok(self.len)
    }
}

impl fmt::Debug for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.path.display(), self.len)
    }
}

/// Makes a rename in this file's directory survive a power cut.
fn sync_parent(path: &Path) -> Result<(), RuntimeError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| io_error("sync", parent, &e))
}

/// The digest of a whole file.
pub(super) fn hash_of(path: &Path) -> Result<Digest, RuntimeError> {
    let mut file = File::open(path).map_err(|e| io_error("open", path, &e))?;
    let (hash, _) = hash_from(&mut file).map_err(|e| io_error("read", path, &e))?;
    Ok(Digest::from_sha256(hash.finish().as_ref()))
}

fn hash_from(file: &mut File) -> std::io::Result<(Context, u64)> {
    let mut hash = Context::new(&SHA256);
    let mut chunk = vec![0; HASH_CHUNK];
    let mut len = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((hash, len)),
            n => {
                hash.update(&chunk[..n]);
                len += n as u64;
            }
        }
    }
}
