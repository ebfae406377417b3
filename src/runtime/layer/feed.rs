//! The compressed side: chunks as they arrive, hashed on another thread, inflated on this one.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::SyncSender;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc::Receiver;

use crate::runtime::layer::Limits;
use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::hash::Part;
use crate::runtime::layer::raw::{Piece, Pool};

/// What the caller sends down.
pub(super) enum Gift {
    /// The next bytes.
    Data(Vec<Bytes>),
    /// There are no more.
    End,
}

/// How the stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Gzip,
    Zstd,
    Plain,
}

/// Why the pumping ended early.
pub(super) enum Cut {
    /// The stream is wrong, or there is too much of it.
    Fault(LayerError),
    /// The untar thread is gone, and knows why.
    Downstream,
    /// The caller is gone.
    Abandoned,
}

/// Compressed bytes in order.
pub(super) struct Feed {
    queue: Receiver<Gift>,
    hash: SyncSender<Part>,
    /// What arrived together, the first one next, in reverse.
    here: Vec<Bytes>,
    /// Whether the compressed bytes are hashed.
    is_hashed: bool,
    is_ended: bool,
    is_abandoned: bool,
    taken: u64,
}

impl Feed {
    pub(super) fn new(queue: Receiver<Gift>, hash: SyncSender<Part>, is_hashed: bool) -> Self {
        Self {
            queue,
            hash,
            here: Vec::new(),
            is_hashed,
            is_ended: false,
            is_abandoned: false,
            taken: 0,
        }
    }

    /// Inflates everything into `pieces` and the raw hash.
    pub(super) fn pump(
        &mut self,
        form: Form,
        limits: &Limits,
        pieces: &SyncSender<Piece>,
    ) -> Result<u64, Cut> {
        // The bytes of a plain stream are hashed once, as they come.
        let raw_hash = (form != Form::Plain).then(|| self.hash.clone());
        let mut pump = Pump {
            limits,
            pieces,
            hash: raw_hash,
            raw: 0,
        };
        let result = match form {
            Form::Gzip => pump.all(MultiGzDecoder::new(&mut *self), |gzip| gzip.get_ref().taken),
            Form::Zstd => self.zstd(&mut pump),
            Form::Plain => pump.all(&mut *self, |feed| feed.taken),
        };
        match result {
            Err(_) if self.is_abandoned => Err(Cut::Abandoned),
            Err(cut) => Err(cut),
            Ok(()) => pieces
                .send(Piece::End)
                .map(|()| pump.raw)
                .map_err(|_| Cut::Downstream),
        }
    }

    fn zstd(&mut self, pump: &mut Pump<'_>) -> Result<(), Cut> {
        let window = pump.limits.zstd_window_log;
        let decoder = zstd::stream::read::Decoder::with_buffer(&mut *self);
        let decoder = decoder.and_then(|mut decoder| {
            decoder.window_log_max(window)?;
            Ok(decoder)
        });
        let decoder = decoder.map_err(|e| Cut::Fault(LayerError::Io(e.to_string())))?;
        pump.all(decoder, |zstd| zstd.get_ref().taken)
    }

    /// The form, by the first bytes; what is none of the known ones is taken for a tar archive.
    pub(super) fn form(&mut self) -> Result<Form, Cut> {
        // Magic numbers: RFC 1952 with the only method there is, RFC 8878 (frame, skippable frame).
        let wanted = 4;
        let mut start = Vec::new();
        while start.len() < wanted && !self.is_ended {
            match self.queue.blocking_recv() {
                Some(Gift::Data(chunks)) => {
                    self.take(chunks);
                    let bytes = self.here.iter().rev().flatten();
                    start = bytes.take(wanted).copied().collect();
                }
                Some(Gift::End) => self.is_ended = true,
                None => return Err(Cut::Abandoned),
            }
        }
        let form = match start.as_slice() {
            [0x1f, 0x8b, 0x08, ..] => Form::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Form::Zstd,
            _ => Form::Plain,
        };
        if form == Form::Plain && !self.is_hashed {
            self.hash_all();
        }
        Ok(form)
    }

    /// Takes what is left without inflating it. Whether all of it came.
    pub(super) fn drain(&mut self) -> bool {
        loop {
            let length = match self.fill_buf() {
                Ok(bytes) => bytes.len(),
                Err(_) => return false,
            };
            if length == 0 {
                return true;
            }
            self.consume(length);
        }
    }

    /// Bytes that arrived.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// From now on the compressed bytes are hashed, those that wait included.
    fn hash_all(&mut self) {
        self.is_hashed = true;
        for chunk in self.here.iter().rev() {
            let _ = self.hash.send(Part::Blob(chunk.clone()));
        }
    }

    fn take(&mut self, mut chunks: Vec<Bytes>) {
        for chunk in &chunks {
            self.taken += chunk.len() as u64;
            if self.is_hashed {
                // The hash thread never ends before its queue.
                let _ = self.hash.send(Part::Blob(chunk.clone()));
            }
        }
        chunks.retain(|chunk| !chunk.is_empty());
        chunks.reverse();
        chunks.append(&mut self.here);
        self.here = chunks;
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.here.is_empty() && !self.is_ended {
            match self.queue.blocking_recv() {
                Some(Gift::Data(chunks)) => self.take(chunks),
                Some(Gift::End) => self.is_ended = true,
                None => {
                    self.is_abandoned = true;
                    return Err(io::Error::other("abandoned"));
                }
            }
        }
        Ok(self.here.last().map_or(&[], |chunk| chunk.as_ref()))
    }

    fn consume(&mut self, length: usize) {
        if let Some(chunk) = self.here.last_mut() {
            chunk.advance(length);
            if chunk.is_empty() {
                self.here.pop();
            }
        }
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let length = here.len().min(into.len());
        into[..length].copy_from_slice(&here[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Moves unpacked bytes on.
struct Pump<'a> {
    limits: &'a Limits,
    pieces: &'a SyncSender<Piece>,
    hash: Option<SyncSender<Part>>,
    raw: u64,
}

impl Pump<'_> {
    fn all<R: Read>(&mut self, mut from: R, taken: impl Fn(&R) -> u64) -> Result<(), Cut> {
        let mut pool = Pool::new();
        loop {
            let chunk = pool.chunk(|buffer| fill(&mut from, buffer));
            let chunk = chunk.map_err(|e| {
                Cut::Fault(LayerError::Broken(format!(
                    "it cannot be decompressed: {e}"
                )))
            })?;
            let length = chunk.as_slice().len() as u64;
            if length == 0 {
                return Ok(());
            }
            self.raw += length;
            self.limits.check_raw(self.raw).map_err(Cut::Fault)?;
            let ratio = self.limits.check_ratio(self.raw, taken(&from));
            ratio.map_err(Cut::Fault)?;
            if let Some(hash) = &self.hash {
                let _ = hash.send(Part::Raw(chunk.clone()));
            }
            let sent = self.pieces.send(Piece::Data(chunk));
            sent.map_err(|_| Cut::Downstream)?;
        }
    }
}

/// Fills the buffer, or reads to the end.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match from.read(&mut buffer[done..])? {
            0 => break,
            length => done += length,
        }
    }
    Ok(done)
}
