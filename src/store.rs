//! L4: content-addressed blobs on disk, of which only verified ones are visible.
//!
//! | path | what |
//! | --- | --- |
//! | `blobs/sha256/<hex>` | whole, verified blobs, named as in an OCI image layout |
//! | `ingest/<hex>.partial` | a blob on its way; survives a crash, is hashed again on resume |
//! | `quarantine/<hex>` | the last few stored blobs that later did not verify |
//! | `store.lock` | held by the one process that writes here |

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::{BlobStore, BlobWriter, RuntimeError};
use crate::store::ingest::Partial;
pub use crate::store::recover::Recovery;
pub use crate::store::writer::Writer;

mod ingest;
mod recover;
mod writer;

/// Largest blob that [`Store::read`] takes into memory: manifests and configs are limited to this
/// by registries, too (distribution refuses manifests over 4 MiB).
pub const READ_MAX: u64 = 4 << 20;

/// Stored blobs that failed a later check are kept for a look, but not more than these.
const QUARANTINE_MAX: usize = 8;

/// A directory of blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    durability: Durability,
    /// Held for as long as the store is open.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Entry>,
    used: u64,
    writing: HashSet<Digest>,
}

/// What a blob that is visible has survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// File and name are on disk: a power cut takes nothing back.
    #[default]
    Lasting,
    /// The operating system has it: a killed process loses nothing, a power cut may. Saves two
    /// syncs per blob, 5 to 20 ms each; for a demo's or a test's temporary directory.
    Temporary,
}

/// One stored blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bytes.
    pub size: ByteSize,
    /// When it was last asked for (kept as the file's modification time).
    pub used: Timestamp,
}

/// Keeps a second writer away from a digest until dropped.
#[derive(Debug)]
struct WriteGuard {
    shared: Arc<Shared>,
    digest: Digest,
}

// === impl Store ===

impl Store {
    /// Opens or makes the directory, drops what a crash left behind, lists what is there.
    ///
    /// Partial blobs older than a day before `now` are dropped, younger ones are kept for a resume.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when the directory cannot be used or another process has it open.
    pub fn open(root: &Path, now: Timestamp) -> Result<(Self, Recovery), RuntimeError> {
        Self::open_with(root, now, Durability::Lasting)
    }

    /// As [`Store::open`], for directories whose life may end with the process.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(
        root: &Path,
        now: Timestamp,
        durability: Durability,
    ) -> Result<(Self, Recovery), RuntimeError> {
        for part in ["blobs/sha256", "ingest", "quarantine"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|e| io_error("create", &path, &e))?;
        }
        let path = root.join("store.lock");
        let lock = File::create(&path).map_err(|e| io_error("create", &path, &e))?;
        lock.try_lock().map_err(|e| {
            RuntimeError::Io(format!(
                "{} is in use by another process: {e}",
                root.display()
            ))
        })?;
        let (blobs, recovery) = recover::scan(root, now)?;
        let used = blobs.values().map(|entry| entry.size.0).sum();
        let state = State {
            blobs,
            used,
            writing: HashSet::new(),
        };
        let shared = Shared {
            root: root.to_owned(),
            state: Mutex::new(state),
            durability,
            _lock: lock,
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            recovery,
        ))
    }

    /// Size of a blob that is there.
    pub fn size(&self, digest: &Digest) -> Option<ByteSize> {
        self.state().blobs.get(digest).map(|entry| entry.size)
    }

    /// Everything that is there, in no order.
    pub fn entries(&self) -> Vec<(Digest, Entry)> {
        let state = self.state();
        state.blobs.iter().map(|(d, e)| (d.clone(), *e)).collect()
    }

    /// Bytes of all blobs that are there.
    pub fn used(&self) -> ByteSize {
        ByteSize(self.state().used)
    }

    /// Bytes that an earlier attempt left.
    pub fn partial(&self, digest: &Digest) -> u64 {
        fs::metadata(self.partial_path(digest)).map_or(0, |meta| meta.len())
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.shared.root.join("blobs/sha256").join(digest.hex())
    }

    /// Where the blob grows. A reader that opened it keeps it through the final rename.
    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}.partial", digest.hex());
        self.shared.root.join("ingest").join(name)
    }

    /// Notes that a blob was asked for, so that it is dropped later than others.
    pub fn touch(&self, digest: &Digest, now: Timestamp) {
        let mut state = self.state();
        let Some(entry) = state.blobs.get_mut(digest) else {
            return;
        };
        // A minute is fine enough to order evictions by, and spares a write per request.
        let stale = now.secs_since(entry.used) > 60.0;
        entry.used = entry.used.max(now);
        drop(state);
        if stale && let Ok(file) = File::open(self.blob_path(digest)) {
            // Only an order of eviction after a restart depends on it.
            let _ = file.set_modified(recover::system_time(now));
        }
    }

    /// A writer for the blob, standing where an earlier attempt ended.
    ///
    /// # Errors
    /// [`RuntimeError::Busy`] when somebody is writing it, [`RuntimeError::Io`].
    pub async fn writer(
        &self,
        digest: &Digest,
        size: Option<ByteSize>,
    ) -> Result<Writer, RuntimeError> {
        let guard = WriteGuard::take(&self.shared, digest)?;
        let path = self.partial_path(digest);
        let partial = run(move || Partial::open(path, guard, size)).await?;
        Ok(Writer::new(self.clone(), partial))
    }

    /// A small blob's bytes, `None` when it is not there.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when it cannot be read or is larger than [`READ_MAX`].
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, RuntimeError> {
        let Some(size) = self.size(digest) else {
            return Ok(None);
        };
        let path = self.blob_path(digest);
        if size.0 > READ_MAX {
            return Err(RuntimeError::Io(format!(
                "{digest} has {size}: too large to be read into memory"
            )));
        }
        run(move || {
            let bytes = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
            Ok(Some(Bytes::from(bytes)))
        })
        .await
    }

    /// Stores bytes that are in memory already, after checking their digest.
    ///
    /// # Errors
    /// As the writer's.
    pub async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), RuntimeError> {
        if self.size(digest).is_some() {
            return Ok(());
        }
        let mut writer = self
            .writer(digest, Some(ByteSize(bytes.len() as u64)))
            .await?;
        writer.restart().await?;
        writer.append(bytes).await?;
        writer.finish().await
    }

    /// Drops a blob, whole or partial; no error when there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Busy`] while it is written, [`RuntimeError::Io`].
    pub async fn remove(&self, digest: &Digest) -> Result<(), RuntimeError> {
        let guard = WriteGuard::take(&self.shared, digest)?;
        let paths = [self.blob_path(digest), self.partial_path(digest)];
        self.forget(digest);
        run(move || {
            for path in paths {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("remove", &path, &e));
                    }
                    _ => {}
                }
            }
            drop(guard);
            Ok(())
        })
        .await
    }

    /// Hashes a stored blob again; one that does not match goes to quarantine and is gone.
    ///
    /// # Errors
    /// [`RuntimeError::WrongDigest`], [`RuntimeError::Io`].
    pub async fn verify(&self, digest: &Digest) -> Result<(), RuntimeError> {
        let path = self.blob_path(digest);
        let found = {
            let path = path.clone();
            run(move || ingest::hash_of(&path)).await?
        };
        if &found == digest {
            return Ok(());
        }
        self.forget(digest);
        let store = self.clone();
        let hex = digest.hex().to_owned();
        run(move || recover::quarantine(store.root(), &path, &hex, QUARANTINE_MAX)).await?;
        Err(RuntimeError::WrongDigest {
            expected: digest.clone(),
            found,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn forget(&self, digest: &Digest) {
        let mut state = self.state();
        if let Some(entry) = state.blobs.remove(digest) {
            state.used -= entry.size.0;
        }
    }

    fn remember(&self, digest: &Digest, size: ByteSize) {
        let mut state = self.state();
        let entry = Entry {
            size,
            used: Timestamp::ZERO,
        };
        if state.blobs.insert(digest.clone(), entry).is_none() {
            state.used += size.0;
        }
    }
}

impl BlobStore for Store {
    fn list(&self) -> Vec<(Digest, ByteSize)> {
        let entries = self.entries().into_iter();
        entries
            .map(|(digest, entry)| (digest, entry.size))
            .collect()
    }

    fn size(&self, digest: &Digest) -> Option<ByteSize> {
        Store::size(self, digest)
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        Box::pin(Store::read(self, digest))
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        Box::pin(async move {
            let writer = self.writer(digest, size).await?;
            Ok(Box::new(writer) as Box<dyn BlobWriter>)
        })
    }

    fn file(&self, digest: &Digest) -> Option<PathBuf> {
        Store::size(self, digest).map(|_| self.blob_path(digest))
    }

    fn is_durable(&self) -> bool {
        self.shared.durability == Durability::Lasting
    }

    fn remove<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(Store::remove(self, digest))
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock between two halves of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl WriteGuard ===

impl WriteGuard {
    fn take(shared: &Arc<Shared>, digest: &Digest) -> Result<Self, RuntimeError> {
        if !shared.state().writing.insert(digest.clone()) {
            return Err(RuntimeError::Busy(digest.clone()));
        }
        Ok(Self {
            shared: Arc::clone(shared),
            digest: digest.clone(),
        })
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.shared.state().writing.remove(&self.digest);
    }
}

/// File work off the async threads.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(RuntimeError::Io(format!("file work was ended: {e}"))))
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
