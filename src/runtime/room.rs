//! How much a file system may be given before the kubelet begins to remove images.

use std::path::Path;

use rustix::fs::statvfs;

use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;

/// Part of a file system that stays free: the kubelet removes images at 85 % (`imageGCHighThresholdPercent`)
/// and evicts pods below 15 % of free bytes (Kubernetes documentation, "Node-pressure Eviction"); we stay 2 %
/// away from that.
const KEPT_FREE: f64 = 0.17;

/// Inodes: of so many one stays free, twice what the kubelet evicts at (5 %).
const INODES_KEPT: u64 = 10;

/// A file system's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that may still be written by anybody.
    pub bytes_free: u64,
    /// Inodes in all; 0 where a file system has as many as it likes.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

// === impl Space ===

impl Space {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self, RuntimeError> {
        let failed = |e| RuntimeError::Io(format!("cannot look at {}: {e}", path.display()));
        let told = statvfs(path).map_err(failed)?;
        Ok(Self {
            bytes: told.f_blocks.saturating_mul(told.f_frsize),
            bytes_free: told.f_bavail.saturating_mul(told.f_frsize),
            inodes: told.f_files,
            inodes_free: told.f_favail,
        })
    }

    /// Bytes that may be added to it.
    pub fn may_be_added(&self) -> ByteSize {
        if self.inodes > 0 && self.inodes_free < self.inodes / INODES_KEPT {
            return ByteSize(0);
        }
        let kept = (self.bytes as f64 * KEPT_FREE) as u64;
        ByteSize(self.bytes_free.saturating_sub(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_filled_to_two_per_cent_below_where_the_kubelet_begins_to_remove() {
        let space = |bytes_free, inodes_free| Space {
            bytes: 1_000,
            bytes_free,
            inodes: 100,
            inodes_free,
        };
        assert_eq!(space(500, 50).may_be_added(), ByteSize(330));
        assert_eq!(space(170, 50).may_be_added(), ByteSize(0));
        assert_eq!(space(100, 50).may_be_added(), ByteSize(0));
        assert_eq!(space(500, 9).may_be_added(), ByteSize(0), "no inodes");
        let endless = Space {
            inodes: 0,
            inodes_free: 0,
            ..space(500, 0)
        };
        assert_eq!(endless.may_be_added(), ByteSize(330));
    }
}
