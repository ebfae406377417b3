//! The in-cluster cache: decides which reads also take origin bandwidth.

use std::time::Duration;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::blobs::{Blobs, Effect, Input, Limits, Reader};
use crate::engine::trouble::BackOff;

/// The cache's engine, and what it moved.
#[derive(Debug)]
pub struct Cache {
    blobs: Blobs,
    readers: Reader,
    origin_bytes: f64,
}

/// An accepted read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Names the read when it is closed.
    pub reader: Reader,
    /// Whether the blob has to come from the origin first: this is the one fetch of it.
    pub fetch: bool,
}

impl Default for Cache {
    /// An empty cache without a quota.
    fn default() -> Self {
        Self {
            blobs: Blobs::new(Limits {
                quota: ByteSize(u64::MAX),
                back_off: BackOff {
                    first: Duration::from_secs(1),
                    longest: Duration::from_mins(1),
                    attempts: 10,
                    again: None,
                },
            }),
            readers: 0,
            origin_bytes: 0.0,
        }
    }
}

impl Cache {
    /// A node begins to read a blob.
    pub fn open(&mut self, digest: &Digest, size: f64, now: Timestamp) -> Opened {
        self.readers += 1;
        let reader = self.readers;
        let want = Input::Want {
            digest: digest.clone(),
            reader,
        };
        let effects = self.blobs.input(want, now);
        let fetch = effects.iter().any(|e| matches!(e, Effect::Fetch { .. }));
        if fetch {
            self.origin_bytes += size;
            let started = Input::Started {
                digest: digest.clone(),
                size: ByteSize(size as u64),
            };
            self.blobs.input(started, now);
        }
        Opened { reader, fetch }
    }

    /// A node reads no more.
    pub fn close(&mut self, digest: &Digest, reader: Reader, now: Timestamp) {
        let digest = digest.clone();
        self.blobs.input(Input::Left { digest, reader }, now);
    }

    /// A blob is whole at the cache.
    pub fn arrived(&mut self, digest: &Digest, size: f64, now: Timestamp) {
        let finished = Input::Finished {
            digest: digest.clone(),
            size: ByteSize(size as u64),
        };
        self.blobs.input(finished, now);
    }

    /// Bytes that came from the origin.
    #[must_use]
    pub fn origin_bytes(&self) -> f64 {
        self.origin_bytes
    }
}
