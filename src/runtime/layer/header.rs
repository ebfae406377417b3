//! One 512-byte tar header, read as Go's `archive/tar` reads it.

/// Size of a header, and what contents are padded to.
pub(super) const BLOCK: usize = 512;

/// A header block.
pub(super) type Block = [u8; BLOCK];

/// Seconds and nanoseconds since 1970; the nanoseconds count upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment {
    pub(super) secs: i64,
    pub(super) nanos: u32,
}

/// The fields of one header; extended headers change them afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) modified: Moment,
    pub(super) accessed: Option<Moment>,
    pub(super) device: (i64, i64),
}

impl Moment {
    /// Where containerd draws the line: before 1970 and after 2^63 nanoseconds becomes 1970.
    pub(super) fn bounded(self) -> Self {
        let last = Self {
            secs: i64::MAX / 1_000_000_000,
            nanos: (i64::MAX % 1_000_000_000) as u32,
        };
        if self < Self::default() || self > last {
            return Self::default();
        }
        self
    }
}

impl Header {
    /// Reads a block; `None` when its checksum or a number is wrong.
    pub(super) fn parse(block: &Block) -> Option<Self> {
        if !is_summed(block) {
            return None;
        }
        let mut header = Self {
            kind: block[156],
            name: text(&block[..100]).to_vec(),
            link: text(&block[157..257]).to_vec(),
            size: number(&block[124..136])?,
            mode: number(&block[100..108])?,
            uid: number(&block[108..116])?,
            gid: number(&block[116..124])?,
            modified: seconds(number(&block[136..148])?),
            ..Self::default()
        };
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        if !ustar && !gnu {
            return Some(header);
        }
        header.device = (number(&block[329..337])?, number(&block[337..345])?);
        let prefix = if gnu {
            header.gnu_times(block)
        } else if &block[508..] == b"tar\0" {
            header.accessed = Some(seconds(number(&block[476..488])?));
            number(&block[488..500])?;
            text(&block[345..476])
        } else {
            text(&block[345..500])
        };
        if !prefix.is_empty() {
            header.name = [prefix, b"/", &header.name].concat();
        }
        Some(header)
    }

    /// GNU keeps times where others keep the name's prefix. Early Go wrote prefixes there all the same
    /// (golang.org/issue/12594): times that are no numbers are such a prefix, if they are ASCII.
    fn gnu_times<'a>(&mut self, block: &'a Block) -> &'a [u8] {
        let time = |field: &[u8]| match field[0] {
            0 => Some(None),
            _ => Some(Some(seconds(number(field)?))),
        };
        if let (Some(accessed), Some(_)) = (time(&block[345..357]), time(&block[357..369])) {
            self.accessed = accessed;
            return b"";
        }
        let prefix = text(&block[345..500]);
        if prefix.is_ascii() { prefix } else { b"" }
    }
}

fn seconds(secs: i64) -> Moment {
    Moment { secs, nanos: 0 }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|c| *c == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Whether the checksum is right; Sun's tar added up signed bytes.
fn is_summed(block: &Block) -> bool {
    let Some(wanted) = octal(&block[148..156]) else {
        return false;
    };
    let blank = b"        ";
    let bytes = || block[..148].iter().chain(blank).chain(&block[156..]);
    let unsigned: i64 = bytes().map(|c| i64::from(*c)).sum();
    wanted == unsigned || wanted == bytes().map(|c| i64::from(*c as i8)).sum::<i64>()
}

/// Octal digits, or two's complement in big-endian bytes where the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let invert = if field[0] & 0x40 == 0 { 0 } else { 0xff };
    let mut value: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = byte ^ invert;
        let byte = if at == 0 { byte & 0x7f } else { byte };
        if value >> 56 > 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if invert == 0 { value } else { !value })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_fill = |c: &u8| *c == b' ' || *c == 0;
    let Some(from) = field.iter().position(|c| !is_fill(c)) else {
        return Some(0);
    };
    let to = field.iter().rposition(|c| !is_fill(c)).unwrap_or(from);
    let mut value: i64 = 0;
    // At most 12 digits: 36 bits.
    for digit in text(&field[from..=to]) {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value << 3 | i64::from(digit - b'0');
    }
    Some(value)
}
