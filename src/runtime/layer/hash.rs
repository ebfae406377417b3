//! Both digests of a layer, on a thread of their own.

use std::sync::mpsc::Receiver;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use crate::domain::image::Digest;
use crate::runtime::layer::raw::Raw;

/// Something to hash. Each kind comes in its order; between them there is none.
pub(super) enum Part {
    /// Of the blob as it travels.
    Blob(Bytes),
    /// Of the unpacked stream.
    Raw(Raw),
}

/// What was hashed.
pub(super) struct Hashes {
    pub(super) blob: Digest,
    pub(super) raw: Digest,
}

/// Hashes until the queue is closed.
pub(super) fn run(queue: Receiver<Part>) -> Hashes {
    let (mut blob, mut raw) = (Context::new(&SHA256), Context::new(&SHA256));
    for part in queue {
        match part {
            Part::Blob(bytes) => blob.update(&bytes),
            Part::Raw(chunk) => raw.update(chunk.as_slice()),
        }
    }
    Hashes {
        blob: Digest::from_sha256(blob.finish().as_ref()),
        raw: Digest::from_sha256(raw.finish().as_ref()),
    }
}
