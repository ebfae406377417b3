//! Owners, modes, times and extended attributes, set as containerd sets them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Timespec, Timestamps, Uid, XattrFlags, chownat, fsetxattr, lsetxattr, utimensat,
};
use rustix::io::Errno;

use crate::runtime::layer::dirs::Times;
use crate::runtime::layer::header::{Header, Moment};

/// What containerd never takes from an archive or a lower layer: overlayfs keeps its own marks there.
const TRUSTED: &[u8] = b"trusted.";

/// The access control list that new files in a directory get.
pub(super) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

impl Times {
    /// Of an entry: the access time is never before the modification time.
    pub(super) fn of(header: &Header) -> Self {
        let accessed = header.accessed.unwrap_or(header.modified);
        Self {
            accessed: accessed.max(header.modified).bounded(),
            modified: header.modified.bounded(),
        }
    }

    /// For the kernel.
    pub(super) fn stamps(self) -> Timestamps {
        let spec = |moment: Moment| Timespec {
            tv_sec: moment.secs,
            tv_nsec: moment.nanos.into(),
        };
        Timestamps {
            last_access: spec(self.accessed),
            last_modification: spec(self.modified),
        }
    }
}

/// Owner and group of an entry, cut to 32 bits as Go's system call does it.
pub(super) fn ids(header: &Header) -> (u32, u32) {
    (header.uid as u32, header.gid as u32)
}

/// For the kernel, to which -1 means "as it is".
pub(super) fn owners((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    (uid, (gid != u32::MAX).then(|| Gid::from_raw(gid)))
}

/// `lchown`.
pub(super) fn chown(folder: impl AsFd, base: &[u8], ids: (u32, u32)) -> Result<(), Errno> {
    let (uid, gid) = owners(ids);
    chownat(folder, base, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// Times of whatever stands there, a link itself too.
pub(super) fn touch(folder: impl AsFd, base: &[u8], times: Times) -> Result<(), Errno> {
    utimensat(folder, base, &times.stamps(), AtFlags::SYMLINK_NOFOLLOW)
}

/// The extended attributes of an open file.
pub(super) fn xattr_file<'a>(
    file: impl AsFd,
    xattrs: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
) -> Result<(), Errno> {
    for (name, value) in xattrs {
        if name.starts_with(TRUSTED) {
            continue;
        }
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The extended attributes of something that cannot be opened. `holds_user` says whether it may have
/// `user.*` ones: only files and directories may, and containerd passes over the others.
pub(super) fn xattr_at<'a>(
    folder: BorrowedFd<'_>,
    base: &[u8],
    xattrs: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    holds_user: bool,
) -> Result<(), Errno> {
    let mut path = Vec::new();
    for (name, value) in xattrs {
        if name.starts_with(TRUSTED) {
            continue;
        }
        if path.is_empty() {
            path = below(folder, base);
        }
        match lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if !holds_user && name.starts_with(b"user.") => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A path through an open folder, for the calls that have no `at` form.
pub(super) fn below(folder: BorrowedFd<'_>, base: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", folder.as_raw_fd()).into_bytes();
    if !base.is_empty() {
        path.push(b'/');
        path.extend_from_slice(base);
    }
    path
}

/// Whether lower layers' attributes of this name are copied up.
pub(super) fn is_copied(name: &[u8]) -> bool {
    !name.starts_with(TRUSTED)
}
