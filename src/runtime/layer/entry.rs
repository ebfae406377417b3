//! The entries of a tar stream: headers joined with the extended headers before them.

use crate::runtime::layer::Limits;
use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::header::{BLOCK, Block, Header};
use crate::runtime::layer::pax::Pax;
use crate::runtime::layer::raw::Reader;
use crate::runtime::layer::sparse::{self, Sparse};

/// Bytes of one extended header or long name, as Go allows them.
const SPECIAL_MAX: u64 = 1 << 20;

/// The kinds of entry that containerd takes.
pub(super) mod kind {
    pub(in super::super) const FILE: u8 = b'0';
    pub(in super::super) const LINK: u8 = b'1';
    pub(in super::super) const SYMLINK: u8 = b'2';
    pub(in super::super) const CHAR: u8 = b'3';
    pub(in super::super) const BLOCK: u8 = b'4';
    pub(in super::super) const DIR: u8 = b'5';
    pub(in super::super) const FIFO: u8 = b'6';
    pub(in super::super) const GLOBAL: u8 = b'g';
}

/// One entry; its contents come next in the stream.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) pax: Pax,
    pub(super) sparse: Option<Sparse>,
}

/// Reads entries. Contents are taken through [`Entries::data`]; what is left is passed over.
pub(super) struct Entries {
    reader: Reader,
    /// Of the current entry's contents, and what fills their last block.
    left: u64,
    padding: u64,
    special_left: u64,
    special_limit: u64,
}

/// What extended headers said about the header that follows them.
#[derive(Default)]
struct Special {
    pax: Pax,
    name: Vec<u8>,
    link: Vec<u8>,
}

impl Entries {
    pub(super) fn new(reader: Reader, limits: &Limits) -> Self {
        Self {
            reader,
            left: 0,
            padding: 0,
            special_left: limits.pax.0,
            special_limit: limits.pax.0,
        }
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut special = Special::default();
        loop {
            let Some(mut header) = self.header()? else {
                return Ok(None);
            };
            self.begin(&header)?;
            match header.kind {
                b'x' => special.pax = self.records(&header)?,
                b'L' => special.name = until_nul(self.special(&header)?),
                b'K' => special.link = until_nul(self.special(&header)?),
                kind::GLOBAL => {
                    // Named like any entry, but neither its records nor those before it count.
                    let pax = self.records(&header)?;
                    if let Some(path) = pax.field("path") {
                        header.name = path.to_vec();
                    }
                    let entry = Entry {
                        header,
                        ..Entry::default()
                    };
                    return Ok(Some(entry));
                }
                _ => return self.finished(header, special).map(Some),
            }
        }
    }

    /// What is there of the entry's next `max` bytes; empty when they are used up.
    pub(super) fn data(&mut self, max: u64) -> Result<&[u8], LayerError> {
        let max = max.min(self.left);
        if max == 0 {
            return Ok(&[]);
        }
        let some = self.reader.some(max)?;
        if some.is_empty() {
            return Err(cut("a file"));
        }
        self.left -= some.len() as u64;
        Ok(some)
    }

    /// Reads to the end of the stream: what follows the archive is hashed, not used.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        self.reader.skip(u64::MAX).map(drop)
    }

    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        if self.reader.skip(self.left)? < self.left {
            return Err(cut("a file"));
        }
        // Go takes an archive that ends in the middle of this for complete.
        if self.reader.skip(self.padding)? < self.padding {
            return Ok(None);
        }
        (self.left, self.padding) = (0, 0);
        let mut block: Block = [0; BLOCK];
        let mut is_last = false;
        loop {
            match self.reader.exactly(&mut block)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(cut("a header")),
            }
            let is_zero = block.iter().all(|c| *c == 0);
            match (is_zero, is_last) {
                (true, true) => return Ok(None),
                (true, false) => is_last = true,
                (false, true) => {
                    return Err(broken("one block of zeros stands between its entries"));
                }
                (false, false) => break,
            }
        }
        let header = Header::parse(&block);
        header.map_or_else(|| Err(broken("a header is malformed")), |h| Ok(Some(h)))
    }

    /// Sets up what follows a header.
    fn begin(&mut self, header: &Header) -> Result<(), LayerError> {
        let has_data = !matches!(header.kind, kind::LINK..=kind::FIFO);
        let size = if has_data { header.size } else { 0 };
        self.left = u64::try_from(size)
            .map_err(|_| LayerError::entry(&header.name, "its size is negative"))?;
        self.padding = self.left.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn finished(&mut self, mut header: Header, special: Special) -> Result<Entry, LayerError> {
        let merged = special.pax.merge_into(&mut header);
        if merged.is_none() {
            let reason = "its extended header holds no number where one belongs";
            return Err(LayerError::entry(&header.name, reason));
        }
        if !special.name.is_empty() {
            header.name = special.name;
        }
        if !special.link.is_empty() {
            header.link = special.link;
        }
        if header.kind == 0 {
            let is_dir = header.name.ends_with(b"/");
            header.kind = if is_dir { kind::DIR } else { kind::FILE };
        }
        self.begin(&header)?;
        let sparse = sparse::read(&special.pax, &mut header, &mut self.reader);
        let sparse = sparse.map_err(|error| match error {
            LayerError::Entry { reason, .. } => LayerError::entry(&header.name, reason),
            other => other,
        })?;
        if let Some(sparse) = &sparse {
            if matches!(header.kind, kind::LINK..=kind::FIFO) {
                return Err(LayerError::entry(&header.name, "only a file can be sparse"));
            }
            self.left -= sparse.map_bytes;
        }
        Ok(Entry {
            header,
            pax: special.pax,
            sparse,
        })
    }

    fn records(&mut self, header: &Header) -> Result<Pax, LayerError> {
        let bytes = self.special(header)?;
        Pax::parse(&bytes)
            .ok_or_else(|| LayerError::entry(&header.name, "an extended header is malformed"))
    }

    /// The contents of an extended header.
    fn special(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        if self.left > SPECIAL_MAX {
            return Err(LayerError::entry(
                &header.name,
                format!("an extended header has more than {SPECIAL_MAX} bytes"),
            ));
        }
        // Empty ones cost their own block.
        let cost = self.left + BLOCK as u64;
        let left = self.special_left.checked_sub(cost);
        self.special_left = left.ok_or(LayerError::TooMuch {
            what: "bytes of extended headers",
            limit: self.special_limit,
        })?;
        let mut bytes = vec![0; self.left as usize];
        if self.reader.exactly(&mut bytes)? < bytes.len() {
            return Err(cut("an extended header"));
        }
        self.left = 0;
        Ok(bytes)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|c| *c == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn cut(within: &str) -> LayerError {
    LayerError::Broken(format!("the archive ends within {within}"))
}

fn broken(reason: &str) -> LayerError {
    LayerError::Broken(format!("no tar archive that containerd reads: {reason}"))
}
