//! Sparse files in PAX archives (GNU formats 0.0, 0.1 and 1.0): where their bytes belong.

use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::header::{BLOCK, Header};
use crate::runtime::layer::pax::{Pax, integer};
use crate::runtime::layer::raw::Reader;

/// Bytes of a map in the file's own data, as Go allows them.
const MAP_MAX: usize = 1 << 20;

/// Parts of a file that hold data, in order; the rest reads as zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Where each part begins, and its bytes.
    pub(super) parts: Vec<(u64, u64)>,
    /// Bytes that the map itself took of the file's data.
    pub(super) map_bytes: u64,
}

/// The map of a sparse file; `None` for an ordinary one. Puts the real name and size into `header`.
pub(super) fn read(
    pax: &Pax,
    header: &mut Header,
    reader: &mut Reader,
) -> Result<Option<Sparse>, LayerError> {
    let is_1_0 = match (pax.field("GNU.sparse.major"), pax.field("GNU.sparse.minor")) {
        (Some(b"0"), Some(b"0" | b"1")) => false,
        (Some(b"1"), Some(b"0")) => true,
        (None, None) if pax.field("GNU.sparse.map").is_some() => false,
        _ => return Ok(None),
    };
    let stored = header.size.max(0) as u64;
    if let Some(name) = pax.field("GNU.sparse.name") {
        header.name = name.to_vec();
    }
    let malformed = || LayerError::entry(&[], "its sparse map is malformed");
    let size = pax.field("GNU.sparse.size");
    if let Some(size) = size.or_else(|| pax.field("GNU.sparse.realsize")) {
        header.size = integer(size).ok_or_else(malformed)?;
    }
    let (numbers, map_bytes) = if is_1_0 {
        in_data(reader, stored)?
    } else {
        (in_header(pax).ok_or_else(malformed)?, 0)
    };
    let parts = checked(&numbers, header.size).ok_or_else(malformed)?;
    let data: u64 = parts.iter().map(|(_, length)| length).sum();
    if data + map_bytes != stored {
        return Err(malformed());
    }
    Ok(Some(Sparse { parts, map_bytes }))
}

/// Formats 0.0 and 0.1: a list in the extended header.
fn in_header(pax: &Pax) -> Option<Vec<i64>> {
    let count = integer(pax.field("GNU.sparse.numblocks")?)?;
    let map = pax.field("GNU.sparse.map").unwrap_or_default();
    let numbers: Option<Vec<i64>> = match map {
        b"" => Some(Vec::new()),
        map => map.split(|c| *c == b',').map(integer).collect(),
    };
    let numbers = numbers?;
    (i64::try_from(numbers.len()).ok()? == count.checked_mul(2)?).then_some(numbers)
}

/// Format 1.0: lines in front of the data, filled up to a block. Gives the bytes they took.
fn in_data(reader: &mut Reader, stored: u64) -> Result<(Vec<i64>, u64), LayerError> {
    let malformed = || LayerError::entry(&[], "its sparse map is malformed");
    let mut text = Vec::new();
    let mut numbers = Vec::new();
    let mut seen = 0;
    loop {
        let wanted = match numbers.first() {
            None => 1,
            Some(count) => usize::try_from(*count)
                .ok()
                .and_then(|count| count.checked_mul(2)?.checked_add(1))
                .ok_or_else(malformed)?,
        };
        if numbers.len() >= wanted {
            numbers.truncate(wanted);
            break;
        }
        let mut block = [0; BLOCK];
        // No number has 512 digits.
        let too_long = text.len() - seen > BLOCK
            || text.len() + BLOCK > MAP_MAX
            || (text.len() + BLOCK) as u64 > stored;
        if too_long || reader.exactly(&mut block)? < BLOCK {
            return Err(malformed());
        }
        text.extend_from_slice(&block);
        while let Some(end) = text[seen..].iter().position(|c| *c == b'\n') {
            // What follows the last line fills its block and is no number.
            let full = numbers.first().is_some_and(|count| {
                usize::try_from(*count).is_ok_and(|count| numbers.len() > count.saturating_mul(2))
            });
            if full {
                break;
            }
            numbers.push(integer(&text[seen..seen + end]).ok_or_else(malformed)?);
            seen += end + 1;
        }
    }
    numbers.remove(0);
    Ok((numbers, text.len() as u64))
}

/// Pairs that go upwards, do not overlap and end within the file; empty parts are dropped.
fn checked(numbers: &[i64], size: i64) -> Option<Vec<(u64, u64)>> {
    let mut parts = Vec::with_capacity(numbers.len() / 2);
    let mut end = 0_i64;
    for pair in numbers.chunks_exact(2) {
        let (from, length) = (pair[0], pair[1]);
        if from < end || length < 0 {
            return None;
        }
        end = from.checked_add(length)?;
        if length > 0 {
            parts.push((from as u64, length as u64));
        }
    }
    (end <= size).then_some(parts)
}
