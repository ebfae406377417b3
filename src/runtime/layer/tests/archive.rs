//! A small tar writer that can write what no honest one does.

/// An archive being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    pub(super) raw: Vec<u8>,
}

/// One entry, ready to be changed before it is written.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) link: Vec<u8>,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
    pub(super) device: (u64, u64),
    pub(super) data: Vec<u8>,
    /// Where the header lies about it.
    pub(super) size: Option<u64>,
    pub(super) pax: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) magic: [u8; 8],
}

pub(super) fn item(kind: u8, name: &str) -> Item {
    Item {
        name: name.as_bytes().to_vec(),
        kind,
        link: Vec::new(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_600_000_000,
        device: (0, 0),
        data: Vec::new(),
        size: None,
        pax: Vec::new(),
        magic: *b"ustar\x0000",
    }
}

impl Item {
    pub(super) fn mode(mut self, mode: u64) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub(super) fn link(mut self, to: &str) -> Self {
        self.link = to.as_bytes().to_vec();
        self
    }

    pub(super) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(super) fn device(mut self, major: u64, minor: u64) -> Self {
        self.device = (major, minor);
        self
    }

    pub(super) fn mtime(mut self, secs: u64) -> Self {
        self.mtime = secs;
        self
    }

    pub(super) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.as_bytes().to_vec(), value.to_vec()));
        self
    }

    /// The header alone.
    pub(super) fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let length = self.name.len().min(100);
        block[..length].copy_from_slice(&self.name[..length]);
        octal(&mut block[100..108], self.mode);
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(
            &mut block[124..136],
            self.size.unwrap_or(self.data.len() as u64),
        );
        octal(&mut block[136..148], self.mtime);
        block[156] = self.kind;
        let length = self.link.len().min(100);
        block[157..157 + length].copy_from_slice(&self.link[..length]);
        block[257..265].copy_from_slice(&self.magic);
        octal(&mut block[329..337], self.device.0);
        octal(&mut block[337..345], self.device.1);
        sum(&mut block);
        block
    }
}

/// Writes the checksum.
pub(super) fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|c| u64::from(*c)).sum();
    octal(&mut block[148..155], sum);
}

/// Octal digits and a NUL, or base-256 where they do not fit.
pub(super) fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if value >> (3 * digits) == 0 {
        field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
        return;
    }
    let bytes = value.to_be_bytes();
    field.fill(0);
    let from = bytes.len().saturating_sub(field.len());
    let at = field.len() - (bytes.len() - from);
    field[at..].copy_from_slice(&bytes[from..]);
    field[0] |= 0x80;
}

/// The text of PAX records.
pub(super) fn records(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        text.extend_from_slice(format!("{length} ").as_bytes());
        text.extend_from_slice(key);
        text.push(b'=');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text
}

impl Archive {
    pub(super) fn of(items: impl IntoIterator<Item = Item>) -> Self {
        items.into_iter().fold(Self::default(), Self::with)
    }

    /// Appends an entry, with the extended headers that its length and records need.
    pub(super) fn with(mut self, item: Item) -> Self {
        if !item.pax.is_empty() {
            let mut extended = super::archive::item(b'x', "PaxHeaders/x");
            extended.data = records(&item.pax);
            self = self.plain(&extended);
        }
        for (kind, long) in [(b'L', &item.name), (b'K', &item.link)] {
            if long.len() > 100 {
                let mut extended = super::archive::item(kind, "././@LongLink");
                extended.magic = *b"ustar  \0";
                extended.data = [long.as_slice(), b"\0"].concat();
                self = self.plain(&extended);
            }
        }
        self.plain(&item)
    }

    fn plain(mut self, item: &Item) -> Self {
        self.raw.extend_from_slice(&item.header());
        self.raw.extend_from_slice(&item.data);
        self.raw.resize(self.raw.len().next_multiple_of(512), 0);
        self
    }

    /// With the two blocks that end it.
    pub(super) fn ended(&self) -> Vec<u8> {
        let mut raw = self.raw.clone();
        raw.resize(raw.len() + 1_024, 0);
        raw
    }
}

pub(super) fn file(name: &str, data: &[u8]) -> Item {
    item(b'0', name).data(data)
}

pub(super) fn dir(name: &str) -> Item {
    item(b'5', name)
}

pub(super) fn symlink(name: &str, to: &str) -> Item {
    item(b'2', name).link(to).mode(0o777)
}

pub(super) fn hard_link(name: &str, to: &str) -> Item {
    item(b'1', name).link(to)
}
