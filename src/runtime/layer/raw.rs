//! The unpacked stream in shared chunks, and a reader that copies only what it must.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::runtime::layer::error::LayerError;

/// Bytes of one chunk: large enough that queues and writes do not count, small enough for the L2 cache
/// of a core, which the hash and the write read it from.
pub(super) const CHUNK: usize = 256 << 10;

/// Chunks that may wait in a queue.
pub(super) const CHUNKS_QUEUED: usize = 6;

/// Part of the unpacked stream.
#[derive(Clone)]
pub(super) struct Raw {
    bytes: Arc<Vec<u8>>,
    length: usize,
}

/// What goes down a queue of chunks. A queue that ends without `End` was cut.
pub(super) enum Piece {
    /// The next bytes.
    Data(Raw),
    /// There are no more.
    End,
}

/// Buffers that are used again when nobody reads them any more: fresh 256 KiB allocations would have
/// their pages faulted in each time.
pub(super) struct Pool(VecDeque<Arc<Vec<u8>>>);

/// Reads the stream from its queue.
pub(super) struct Reader {
    queue: Receiver<Piece>,
    now: Option<Raw>,
    at: usize,
    ended: bool,
}

impl Raw {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// One chunk, filled by `fill`, which says how many bytes it wrote.
    pub(super) fn chunk<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Raw, E> {
        // All of a queue, one with the queue's reader, one here: the oldest is free again.
        let oldest = if self.0.len() < CHUNKS_QUEUED + 3 {
            None
        } else {
            self.0.pop_front()
        };
        let mut bytes = match oldest {
            Some(bytes) if Arc::strong_count(&bytes) == 1 => bytes,
            _ => Arc::new(vec![0; CHUNK]),
        };
        let length = fill(Arc::get_mut(&mut bytes).expect("nobody else holds it"))?;
        self.0.push_back(bytes.clone());
        Ok(Raw { bytes, length })
    }
}

impl Reader {
    pub(super) fn new(queue: Receiver<Piece>) -> Self {
        Self {
            queue,
            now: None,
            at: 0,
            ended: false,
        }
    }

    /// What is there of the next `max` bytes, without waiting for more than one; empty at the end.
    pub(super) fn some(&mut self, max: u64) -> Result<&[u8], LayerError> {
        self.fill()?;
        let Some(raw) = &self.now else {
            return Ok(&[]);
        };
        let rest = &raw.as_slice()[self.at..];
        let length = usize::try_from(max).map_or(rest.len(), |max| max.min(rest.len()));
        self.at += length;
        Ok(&rest[..length])
    }

    /// Fills `into` as far as the stream goes, and says how far.
    pub(super) fn exactly(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
        let mut done = 0;
        while done < into.len() {
            let some = self.some((into.len() - done) as u64)?;
            if some.is_empty() {
                break;
            }
            into[done..done + some.len()].copy_from_slice(some);
            done += some.len();
        }
        Ok(done)
    }

    /// Passes over `length` bytes, and says how many there were.
    pub(super) fn skip(&mut self, length: u64) -> Result<u64, LayerError> {
        let mut done = 0;
        while done < length {
            let some = self.some(length - done)?.len() as u64;
            if some == 0 {
                break;
            }
            done += some;
        }
        Ok(done)
    }

    fn fill(&mut self) -> Result<(), LayerError> {
        while !self.ended && self.now.as_ref().is_none_or(|raw| self.at == raw.length) {
            self.now = None;
            self.at = 0;
            match self.queue.recv() {
                Ok(Piece::Data(raw)) => self.now = Some(raw),
                Ok(Piece::End) => self.ended = true,
                // The sender knows why, and its reason counts.
                Err(_) => return Err(LayerError::Abandoned),
            }
        }
        Ok(())
    }
}
