//! Finishes a tree with what the layers below it know.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, Stat, XattrFlags, chmodat, chownat, fstat, getxattr, listxattr, lsetxattr,
    statat,
};
use rustix::io::Errno;

use crate::runtime::layer::attrs::{DEFAULT_LIST, below, chown, is_copied, owners, touch};
use crate::runtime::layer::dirs::Times;
use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::header::Moment;
use crate::runtime::layer::path::{resolve, shown, split};
use crate::runtime::layer::rest::{Due, Unsettled};
use crate::runtime::layer::tree::{IMPLIED_MODE, is_dir, open_below, open_folder};

/// Linux gives no list and no value of extended attributes that is longer.
const XATTR_MAX: usize = 64 << 10;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Directories that got a lower layer's attributes.
    pub dirs: u64,
}

/// Gives `tree` what containerd would have copied up from `lowers` (the overlay's lower directories, top
/// first) while it unpacked: the snapshotter's owner of the root, and the attributes of implied
/// directories. Two system calls where nothing is unsettled.
///
/// As containerd does it, each lower layer is looked at alone, its links followed within it, and the
/// first that has the path decides: a directory is copied, anything else leaves root's `0755`. An implied
/// directory keeps the lower one's times; containerd's own carry the moment of unpacking instead, unless
/// nothing was created in it.
///
/// # Errors
/// [`LayerError::NotHere`] where containerd fails or does more than this; the tree is then half done and
/// of no use. [`LayerError::NoSpace`], [`LayerError::Io`].
pub fn settle(tree: &Path, lowers: &[PathBuf], rest: &Unsettled) -> Result<Settled, LayerError> {
    let mut settled = Settled::default();
    let Some(top) = lowers.first() else {
        return Ok(settled);
    };
    let open = |path: &Path| open_folder(path).map_err(|e| LayerError::at(path, "open", e));
    let root = open(tree)?;
    own_root(&root, &open(top)?).map_err(|e| LayerError::at(tree, "set the owner of", e))?;
    if rest.is_empty() {
        return Ok(settled);
    }
    let lowers: Vec<OwnedFd> = lowers.iter().map(|l| open(l)).collect::<Result<_, _>>()?;
    for (path, due) in rest.dirs() {
        let found = find(&lowers, path)?;
        let failed = |errno| LayerError::call(path, "copy the attributes of", errno);
        let (parent, base) = split(path);
        let folder = open_below(root.as_fd(), parent).map_err(failed)?;
        match found {
            Some(lower) => {
                copy(&lower, &folder, base, due).map_err(|errno| match errno {
                    Errno::OPNOTSUPP => not_here(path, "its parent hands an access list down"),
                    errno => failed(errno),
                })?;
                settled.dirs += 1;
            }
            None if due != Due::Listed => inherit(&folder, base).map_err(failed)?,
            None => {}
        }
    }
    Ok(settled)
}

/// As the snapshotter makes the root of a snapshot with a parent.
fn own_root(root: &OwnedFd, top: &OwnedFd) -> Result<(), Errno> {
    let (ours, theirs) = (fstat(root)?, fstat(top)?);
    if (ours.st_uid, ours.st_gid) == (theirs.st_uid, theirs.st_gid) {
        return Ok(());
    }
    let (uid, gid) = owners((theirs.st_uid, theirs.st_gid));
    chownat(root, ".", uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// The directory whose attributes count; `None` where the first lower layer that has the path has
/// something else there, or none has it.
fn find(lowers: &[OwnedFd], path: &[u8]) -> Result<Option<OwnedFd>, LayerError> {
    // A file or whiteout above the path: containerd stops with this error too.
    let failed = |errno: Errno| not_here(path, &format!("a lower layer: {errno}"));
    for lower in lowers {
        let (there, _) = resolve(lower.as_fd(), path).map_err(failed)?;
        let at = if there.is_empty() {
            b"."
        } else {
            there.as_slice()
        };
        match statat(lower, at, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
            Ok(stat) if !is_dir(&stat) => return Ok(None),
            Ok(_) => return open_below(lower.as_fd(), &there).map(Some).map_err(failed),
        }
    }
    Ok(None)
}

fn copy(from: &OwnedFd, folder: &OwnedFd, base: &[u8], due: Due) -> Result<(), Errno> {
    let lower = fstat(from)?;
    let mut mode = lower.st_mode & 0o7777;
    if due != Due::Listed {
        chown(folder, base, (lower.st_uid, lower.st_gid))?;
        chmodat(folder, base, Mode::from_raw_mode(mode), AtFlags::empty())?;
    } else {
        mode = statat(folder, base, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777;
    }
    let has_list = copy_xattrs(from, folder, base)?;
    if has_list && due == Due::Listed {
        // The entry's mode came after the list.
        chmodat(folder, base, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    if due == Due::Implied {
        touch(folder, base, times(&lower))?;
    }
    Ok(())
}

/// Attributes that the directory does not have itself. Whether an access control list was among them.
fn copy_xattrs(from: &OwnedFd, folder: &OwnedFd, base: &[u8]) -> Result<bool, Errno> {
    let from = below(from.as_fd(), b"");
    let into = below(folder.as_fd(), base);
    let mut names = vec![0; XATTR_MAX];
    let length = match listxattr(from.as_slice(), names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut has_list = false;
    let mut value = Vec::new();
    for name in names[..length].split(|c| *c == 0) {
        if name.is_empty() || !is_copied(name) {
            continue;
        }
        if name == DEFAULT_LIST {
            // What is created in the directory would have inherited it.
            return Err(Errno::OPNOTSUPP);
        }
        value.resize(XATTR_MAX, 0);
        let length = match getxattr(from.as_slice(), name, value.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::NOTSUP | Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        match lsetxattr(into.as_slice(), name, &value[..length], XattrFlags::CREATE) {
            Ok(()) => has_list |= name == b"system.posix_acl_access",
            Err(Errno::NOTSUP | Errno::NODATA | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(has_list)
}

/// A new directory takes the group of a parent that passes it on, and by now the parent is settled.
fn inherit(folder: &OwnedFd, base: &[u8]) -> Result<(), Errno> {
    let parent: Stat = fstat(folder)?;
    if parent.st_mode & 0o2000 == 0 {
        return Ok(());
    }
    chown(folder, base, (u32::MAX, parent.st_gid))?;
    let mode = Mode::from_raw_mode(IMPLIED_MODE);
    chmodat(folder, base, mode, AtFlags::empty())
}

fn times(stat: &Stat) -> Times {
    let moment = |secs: i64, nanos: u64| Moment {
        secs,
        nanos: nanos as u32,
    };
    Times {
        accessed: moment(stat.st_atime, stat.st_atime_nsec),
        modified: moment(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn not_here(path: &[u8], reason: &str) -> LayerError {
    LayerError::NotHere {
        name: shown(path),
        reason: reason.to_owned(),
    }
}
