//! PAX extended headers: records that replace or add to a header's fields.

use std::collections::BTreeMap;

use crate::runtime::layer::header::{Header, Moment};

/// Prefix of the records that carry extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one extended header that mean something to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    fields: BTreeMap<&'static str, Vec<u8>>,
    /// Extended attributes by name.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Records that are kept, `SCHILY.xattr.*` apart. The times and ids are checked even where unused.
const FIELDS: [&str; 15] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "atime",
    "ctime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.numblocks",
];

impl Pax {
    /// Reads a whole extended header; `None` when it is malformed.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut pax = Self::default();
        // Sparse format 0.0 repeats its keys, which PAX forbids: gathered into the map of format 0.1.
        let mut map: Vec<u8> = Vec::new();
        let mut numbers = 0_usize;
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)?;
            bytes = rest;
            let turn = match key {
                b"GNU.sparse.offset" => Some(0),
                b"GNU.sparse.numbytes" => Some(1),
                _ => None,
            };
            if let Some(turn) = turn {
                if numbers % 2 != turn || value.contains(&b',') {
                    return None;
                }
                if numbers > 0 {
                    map.push(b',');
                }
                map.extend_from_slice(value);
                numbers += 1;
            } else if let Some(name) = key.strip_prefix(XATTR) {
                pax.xattrs.insert(name.to_vec(), value.to_vec());
            } else if let Some(field) = FIELDS.iter().find(|f| f.as_bytes() == key) {
                pax.fields.insert(field, value.to_vec());
            }
        }
        if numbers > 0 {
            pax.fields.insert("GNU.sparse.map", map);
        }
        Some(pax)
    }

    /// A record that has a value.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let value = self.fields.get(name)?;
        (!value.is_empty()).then_some(value.as_slice())
    }

    /// Replaces what the records name; `None` when one of them is no number or time.
    pub(super) fn merge_into(&self, header: &mut Header) -> Option<()> {
        if let Some(path) = self.field("path") {
            header.name = path.to_vec();
        }
        if let Some(path) = self.field("linkpath") {
            header.link = path.to_vec();
        }
        let numbers = [
            ("size", &mut header.size),
            ("uid", &mut header.uid),
            ("gid", &mut header.gid),
        ];
        for (name, into) in numbers {
            if let Some(value) = self.field(name) {
                *into = integer(value)?;
            }
        }
        if let Some(value) = self.field("mtime") {
            header.modified = moment(value)?;
        }
        if let Some(value) = self.field("atime") {
            header.accessed = Some(moment(value)?);
        }
        if let Some(value) = self.field("ctime") {
            moment(value)?;
        }
        Some(())
    }
}

/// `"%d %s=%s\n"` with the length of all of it in front (POSIX pax, "pax Extended Header").
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|c| *c == b' ')?;
    let length = usize::try_from(integer(&bytes[..space])?).ok()?;
    if length < 5 || length > bytes.len() || length <= space + 1 {
        return None;
    }
    let (all, rest) = bytes.split_at(length);
    let text = all[space + 1..].strip_suffix(b"\n")?;
    let equals = text.iter().position(|c| *c == b'=')?;
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    let checked = match key {
        b"" => return None,
        b"path" | b"linkpath" | b"uname" | b"gname" => value,
        key => key,
    };
    (!checked.contains(&0)).then_some((key, value, rest))
}

/// A decimal number with or without a sign.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `secs[.fraction]`, nanoseconds at most; further digits are dropped.
fn moment(text: &[u8]) -> Option<Moment> {
    let dot = text.iter().position(|c| *c == b'.');
    let (whole, fraction) = match dot {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let secs = integer(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u32::from(fraction.get(at).unwrap_or(&b'0') - b'0');
    let nanos = (0..9).fold(0, |sum, at| sum * 10 + digit(at));
    if whole.starts_with(b"-") && nanos > 0 {
        return Some(Moment {
            secs: secs.saturating_sub(1),
            nanos: 1_000_000_000 - nanos,
        });
    }
    Some(Moment { secs, nanos })
}
