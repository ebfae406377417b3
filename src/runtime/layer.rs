//! One image layer, from its compressed stream into a directory that becomes a snapshot.
//!
//! ```text
//! write() -> queue -> inflate -> queue -> untar -> tree
//!                        \-----> queue -> hash (both digests)
//! ```
//! What lies in the tree afterwards is what containerd's own unpacking would have put into the upper
//! directory of its overlayfs snapshotter: see `layer/apply.rs`. What only the lower layers can tell is
//! done by [`settle`], just before the tree is renamed into its place.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::runtime::layer::feed::Gift;
use crate::runtime::layer::tree::Tree;

mod apply;
mod attrs;
mod dirs;
mod entry;
mod error;
mod feed;
mod hash;
mod header;
mod path;
mod pax;
mod raw;
mod remove;
mod rest;
mod settle;
mod sparse;
mod tree;
mod work;

#[cfg(test)]
mod tests;

pub use error::{Advice, LayerError};
pub use remove::remove_tree;
pub use rest::Unsettled;
pub use settle::{Settled, settle};

/// Bytes gathered before a thread is woken: network chunks are 8 to 64 KiB.
const GATHER: usize = 128 << 10;

/// Longest chunk that is handed on in one piece; longer ones are cut.
const SLICE_MAX: usize = 256 << 10;

/// Gathered chunks that may wait: with the one being gathered at most 2.6 MiB.
const GIFTS_QUEUED: usize = 6;

/// Which layer, and how it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the blob as it travels; `None` for a prepared form, which the diff ID alone proves.
    pub blob: Option<Digest>,
    /// Bytes of the blob as it travels, where known.
    pub size: Option<ByteSize>,
    /// Of the unpacked stream, as the image's config names it.
    pub diff_id: Option<Digest>,
    /// Whether no layer lies below. Containerd mounts such a snapshot differently, and whiteouts then
    /// remove what the layer itself had before.
    pub is_bottom: bool,
    /// Most that is taken.
    pub limits: Limits,
}

/// Most that a layer may have. What goes beyond is refused as soon as it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unpacked bytes: of the stream, and of one file (a sparse file has more than its stream).
    pub raw: ByteSize,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of extended headers and long names.
    pub pax: ByteSize,
    /// Unpacked bytes for each compressed one, once 64 MiB are unpacked. Gzip cannot exceed 1032.
    pub ratio: u64,
    /// Largest zstd window, as a power of two: it is memory. RFC 8878 wants 8 MiB of every decoder.
    pub zstd_window_log: u32,
}

/// A layer on its way. Dropping it ends its threads soon after; the tree is the caller's to remove.
#[derive(Debug)]
pub struct Unpacking {
    queue: Option<mpsc::Sender<Gift>>,
    gathered: VecDeque<Bytes>,
    gathered_len: usize,
    offset: u64,
    size: Option<ByteSize>,
    outcome: oneshot::Receiver<Result<Unpacked, LayerError>>,
    failed: Option<LayerError>,
}

/// A layer that is in its tree, both digests compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the blob as it travelled; `None` where it was not asked for and nothing else needed it.
    pub blob: Option<Digest>,
    /// Bytes that travelled.
    pub blob_bytes: ByteSize,
    /// Of the unpacked stream.
    pub diff_id: Digest,
    /// Bytes of the unpacked stream.
    pub raw_bytes: ByteSize,
    /// Inodes created, those that a later entry replaced included.
    pub inodes: u64,
    /// Bytes in the disk's blocks, replaced files included.
    pub disk: ByteSize,
    /// For [`settle`].
    pub rest: Unsettled,
}

// === impl Limits ===

impl Default for Limits {
    /// Far above any image that runs: 128 GiB, 8 million entries.
    fn default() -> Self {
        Self {
            raw: ByteSize(128 << 30),
            entries: 8_000_000,
            pax: ByteSize(4 << 30),
            ratio: 1_200,
            zstd_window_log: 23,
        }
    }
}

impl Limits {
    fn check_raw(&self, bytes: u64) -> Result<(), LayerError> {
        if bytes <= self.raw.0 {
            return Ok(());
        }
        Err(LayerError::TooMuch {
            what: "unpacked bytes",
            limit: self.raw.0,
        })
    }

    fn check_ratio(&self, raw: u64, compressed: u64) -> Result<(), LayerError> {
        if raw < 64 << 20 || raw / compressed.max(1) <= self.ratio {
            return Ok(());
        }
        Err(LayerError::TooMuch {
            what: "unpacked bytes for each compressed one",
            limit: self.ratio,
        })
    }
}

// === impl Unpacking ===

impl Unpacking {
    /// Makes the directory `tree`, which must not exist, and starts the layer's threads.
    ///
    /// # Errors
    /// [`LayerError::Unproved`], [`LayerError::NoSpace`], [`LayerError::Io`].
    pub fn begin(tree: &Path, wanted: Wanted) -> Result<Self, LayerError> {
        if wanted.blob.is_none() && wanted.diff_id.is_none() {
            return Err(LayerError::Unproved);
        }
        let size = wanted.size;
        let tree = Tree::create(tree)?;
        let (queue, gifts) = mpsc::channel(GIFTS_QUEUED);
        let (tell, outcome) = oneshot::channel();
        thread::Builder::new()
            .name("layer-inflate".to_owned())
            .spawn(move || {
                // Nobody listens when the caller is gone.
                let _ = tell.send(work::run(tree, &wanted, gifts));
            })
            .map_err(|e| LayerError::Io(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            queue: Some(queue),
            gathered: VecDeque::new(),
            gathered_len: 0,
            offset: 0,
            size,
            outcome,
            failed: None,
        })
    }

    /// Compressed bytes taken so far: the next chunk begins here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends. Waits while the threads are behind. The chunk is taken even where the wait is given up.
    ///
    /// # Errors
    /// What made the threads stop; [`LayerError::WrongSize`] when there are more bytes than the blob has.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), LayerError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = self.offset + chunk.len() as u64;
        if let Some(size) = self.size
            && found > size.0
        {
            return Err(LayerError::WrongSize {
                expected: size.0,
                found,
            });
        }
        self.offset = found;
        // All of it at once: a caller that drops the future in the middle of a wait loses nothing.
        let mut rest = chunk;
        while !rest.is_empty() {
            let slice = rest.split_to(rest.len().min(SLICE_MAX));
            self.gathered_len += slice.len();
            self.gathered.push_back(slice);
        }
        while self.gathered_len >= GATHER {
            self.flush().await?;
        }
        Ok(())
    }

    /// Waits for the last byte, and compares size and digests.
    ///
    /// # Errors
    /// Any [`LayerError`]: nothing of the tree may be used then.
    pub async fn finish(mut self) -> Result<Unpacked, LayerError> {
        while !self.gathered.is_empty() {
            self.flush().await?;
        }
        // With nothing left it tells the end.
        self.flush().await?;
        self.queue = None;
        self.outcome().await
    }

    /// Gives up, and waits until no thread touches the tree any more.
    pub async fn abandon(mut self) {
        self.queue = None;
        let _ = self.outcome().await;
    }

    /// Hands on as much as one gift takes.
    async fn flush(&mut self) -> Result<(), LayerError> {
        let Some(queue) = &self.queue else {
            return Err(LayerError::Abandoned);
        };
        let Ok(room) = queue.reserve().await else {
            return Err(self.outcome().await.err().unwrap_or(LayerError::Abandoned));
        };
        let mut gift = Vec::new();
        let mut length = 0;
        while length < GATHER
            && let Some(chunk) = self.gathered.pop_front()
        {
            length += chunk.len();
            gift.push(chunk);
        }
        self.gathered_len -= length;
        room.send(if gift.is_empty() {
            Gift::End
        } else {
            Gift::Data(gift)
        });
        Ok(())
    }

    /// What the threads say when they have ended.
    async fn outcome(&mut self) -> Result<Unpacked, LayerError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = (&mut self.outcome).await.unwrap_or_else(|_| {
            let reason = "a thread of the layer panicked: a defect";
            Err(LayerError::Io(reason.to_owned()))
        });
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }
}
