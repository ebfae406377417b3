//! The times of listed directories, kept until nothing is created in them any more.

use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::header::Moment;

/// Bytes that may be kept: some 500 000 directories as real images have them.
const KEPT_MAX: usize = 16 << 20;

/// Access and modification time, as `utimensat` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) accessed: Moment,
    pub(super) modified: Moment,
}

/// Directories in the order of their entries. A path is kept as the number of bytes that it shares with
/// the one before it and the rest: archives are written tree by tree, so that is a third of the bytes.
#[derive(Default)]
pub(super) struct Dirs {
    kept: Vec<u8>,
    last: Vec<u8>,
}

/// A record: shared and own length, four times of a moment's parts.
const FIXED: usize = 2 + 2 + 2 * 12;

impl Dirs {
    /// Keeps one.
    pub(super) fn push(&mut self, path: &[u8], times: Times) -> Result<(), LayerError> {
        let pairs = self.last.iter().zip(path);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        let own = &path[shared..];
        if self.kept.len() + FIXED + own.len() > KEPT_MAX {
            return Err(LayerError::TooMuch {
                what: "bytes of directory names",
                limit: KEPT_MAX as u64,
            });
        }
        // Paths are shorter than `path::PATH_MAX`.
        self.kept.extend_from_slice(&(shared as u16).to_le_bytes());
        self.kept
            .extend_from_slice(&(own.len() as u16).to_le_bytes());
        for moment in [times.accessed, times.modified] {
            self.kept.extend_from_slice(&moment.secs.to_le_bytes());
            self.kept.extend_from_slice(&moment.nanos.to_le_bytes());
        }
        self.kept.extend_from_slice(own);
        self.last.truncate(shared);
        self.last.extend_from_slice(own);
        Ok(())
    }

    /// Every one of them, in order.
    pub(super) fn each(
        self,
        mut act: impl FnMut(&[u8], Times) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut path = Vec::new();
        let mut rest = self.kept.as_slice();
        while let Some((fixed, after)) = rest.split_first_chunk::<FIXED>() {
            let shared = u16::from_le_bytes([fixed[0], fixed[1]]);
            let own = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
            let times = Times {
                accessed: moment(&fixed[4..16]),
                modified: moment(&fixed[16..28]),
            };
            path.truncate(usize::from(shared));
            path.extend_from_slice(&after[..own]);
            act(&path, times)?;
            rest = &after[own..];
        }
        Ok(())
    }
}

fn moment(bytes: &[u8]) -> Moment {
    let (secs, nanos) = bytes.split_at(8);
    Moment {
        secs: i64::from_le_bytes(secs.try_into().expect("eight bytes")),
        nanos: u32::from_le_bytes(nanos.try_into().expect("four bytes")),
    }
}
