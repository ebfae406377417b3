//! Layers' bytes beside their trees, as they travel, until the content store has them.
//!
//! | path | what |
//! | --- | --- |
//! | `spool/<hex>.part` | a blob on its way; the next start throws it away |
//! | `spool/<hex>` | all of one, its digest compared; outlives a crash |

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::runtime::layer::{LayerError, Unpacked, Unpacking};

/// Bytes that a thread is given at once: as many again are gathered meanwhile, so that a layer takes a
/// mebibyte more than it does without.
const BATCH: usize = 512 << 10;

/// Ends the name of a file that is not whole.
const PART: &str = ".part";

/// The directory below the staging area.
#[derive(Debug)]
pub(super) struct Spools {
    folder: PathBuf,
}

/// One blob on its way; its file goes with it unless it was finished.
#[derive(Debug)]
struct Spool {
    layer: Digest,
    part: PathBuf,
    whole: PathBuf,
    file: Arc<File>,
    gathered: Vec<Bytes>,
    length: usize,
    writing: Option<JoinHandle<io::Result<()>>>,
    is_whole: bool,
}

/// A layer that is unpacked, and spooled where its blob is to be kept.
#[derive(Debug)]
pub(super) struct Tee {
    unpacking: Unpacking,
    spool: Option<Spool>,
}

// === impl Spools ===

impl Spools {
    /// Opens or makes the directory, without the halves that a crash left. Where nothing is to be kept, none is
    /// made, and what an earlier run kept goes.
    pub(super) fn open(staging: &Path, wanted: bool) -> Result<Option<Self>, RuntimeError> {
        let folder = staging.join("spool");
        if !wanted {
            return match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed("remove", &folder, &error))
                }
                _ => Ok(None),
            };
        }
        fs::create_dir_all(&folder).map_err(|e| failed("create", &folder, &e))?;
        let spools = Self { folder };
        for (path, _) in spools.files()? {
            if layer_of(&path).is_none() {
                fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
            }
        }
        Ok(Some(spools))
    }

    /// Throws away what is not needed.
    pub(super) fn retain(&self, needed: impl Fn(&Digest) -> bool) -> Result<(), RuntimeError> {
        for (path, _) in self.files()? {
            if let Some(layer) = layer_of(&path)
                && !needed(&layer)
            {
                self.remove(&layer);
            }
        }
        Ok(())
    }

    /// Unpacks a layer and keeps its bytes, unless they are kept already. Without room for them it comes without.
    pub(super) fn tee(&self, layer: &Digest, unpacking: Unpacking) -> Tee {
        let whole = self.file(layer);
        let part = whole.with_extension(&PART[1..]);
        let spool = if whole.exists() {
            None
        } else {
            match File::create(&part) {
                Ok(file) => Some(Spool {
                    layer: layer.clone(),
                    part,
                    whole,
                    file: Arc::new(file),
                    gathered: Vec::new(),
                    length: 0,
                    writing: None,
                    is_whole: false,
                }),
                Err(error) => {
                    lost(layer, &error);
                    None
                }
            }
        };
        Tee { unpacking, spool }
    }

    /// Where a blob is, once it is whole.
    pub(super) fn file(&self, layer: &Digest) -> PathBuf {
        self.folder.join(layer.hex())
    }

    /// Removes a blob that is whole, if there is one.
    pub(super) fn remove(&self, layer: &Digest) {
        let path = self.file(layer);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next start tries again.
            tracing::warn!(path = %path.display(), %error, "cannot remove");
        }
    }

    /// Bytes of the largest of them: for so long as it is written into the content store it is there twice.
    pub(super) fn largest(&self) -> ByteSize {
        let files = self.files().unwrap_or_default();
        let sizes = files.into_iter().map(|(_, size)| size);
        ByteSize(sizes.max().unwrap_or_default())
    }

    fn files(&self) -> Result<Vec<(PathBuf, u64)>, RuntimeError> {
        let read = fs::read_dir(&self.folder).map_err(|e| failed("list", &self.folder, &e))?;
        let entries = read.flatten();
        // One that goes meanwhile has no size.
        let sized = entries.map(|entry| (entry.path(), entry.metadata().map_or(0, |m| m.len())));
        Ok(sized.collect())
    }
}

// === impl Tee ===

impl Tee {
    /// A layer of which only the tree is kept.
    pub(super) fn plain(unpacking: Unpacking) -> Self {
        Self {
            unpacking,
            spool: None,
        }
    }

    /// As [`Unpacking::offset`].
    pub(super) fn offset(&self) -> u64 {
        self.unpacking.offset()
    }

    /// As [`Unpacking::write`]: both have the chunk even where the wait is given up.
    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<(), LayerError> {
        if let Some(spool) = &mut self.spool {
            spool.take(chunk.clone());
        }
        self.unpacking.write(chunk).await?;
        if let Some(spool) = &mut self.spool
            && let Err(error) = spool.pump().await
        {
            lost(&spool.layer, &error);
            self.spool = None;
        }
        Ok(())
    }

    /// As [`Unpacking::finish`]; the blob is whole then, too.
    pub(super) async fn finish(self) -> Result<Unpacked, LayerError> {
        let unpacked = self.unpacking.finish().await?;
        let Some(spool) = self.spool else {
            return Ok(unpacked);
        };
        let layer = spool.layer.clone();
        if unpacked.blob.as_ref() != Some(&layer) {
            // Right files, but not the bytes that the manifest names.
            tracing::debug!(%layer, "it came in another form: its blob is not kept");
        } else if let Err(error) = spool.finish().await {
            lost(&layer, &error);
        }
        Ok(unpacked)
    }

    /// As [`Unpacking::abandon`].
    pub(super) async fn abandon(self) {
        self.unpacking.abandon().await;
    }
}

// === impl Spool ===

impl Spool {
    fn take(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.gathered.push(chunk);
    }

    /// Waits only where the disk is a whole batch behind.
    async fn pump(&mut self) -> io::Result<()> {
        if self.length < BATCH {
            return Ok(());
        }
        self.written().await?;
        self.give();
        Ok(())
    }

    fn give(&mut self) {
        let (file, chunks) = (self.file.clone(), mem::take(&mut self.gathered));
        self.length = 0;
        self.writing = Some(spawn_blocking(move || {
            let mut chunks = chunks.iter();
            chunks.try_for_each(|chunk| (&*file).write_all(chunk))
        }));
    }

    async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else {
            return Ok(());
        };
        let written = writing.await;
        self.writing = None;
        written.map_err(io::Error::other)?
    }

    async fn finish(mut self) -> io::Result<()> {
        self.written().await?;
        self.give();
        self.written().await?;
        // Not synced: the daemon compares the digest of what it is given.
        fs::rename(&self.part, &self.whole)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.is_whole {
            // What a thread still writes into it has no name then; what stays goes with the next start.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// A layer counts more than its blob.
fn lost(layer: &Digest, error: &io::Error) {
    tracing::warn!(%layer, %error, "its blob cannot be kept");
}

/// Whose blob this is, if it is a whole one.
fn layer_of(path: &Path) -> Option<Digest> {
    let hex = path.file_name()?.to_str()?;
    format!("sha256:{hex}").parse().ok()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io(format!("cannot {what} {}: {error}", path.display()))
}
