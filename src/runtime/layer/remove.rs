//! Removes trees, whatever their depth and modes.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::path::push;

/// Removes a staging directory with all that is in it; no error when there is none. Links are removed,
/// never followed.
///
/// # Errors
/// [`LayerError::Io`].
pub fn remove_tree(at: &Path) -> Result<(), LayerError> {
    let name = at.as_os_str().as_encoded_bytes();
    match remove_at(CWD, name) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(LayerError::at(at, "remove", errno)),
    }
}

/// Removes `name` in `folder`. One descriptor is open at a time: a tree may be 2 000 levels deep.
pub(super) fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    // An empty one needs no list.
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return done,
    }
    let root = open(folder, name, ResolveFlags::empty())?;
    // Each is looked at twice: before and after what is in it.
    let mut paths: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = paths.last().cloned() {
        let before = paths.len();
        empty(root.as_fd(), &path, &mut paths)?;
        if paths.len() == before {
            paths.pop();
            if !path.is_empty() {
                unlinkat(&root, path.as_slice(), AtFlags::REMOVEDIR)?;
            }
        }
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// Removes all but the directories in one directory, and adds those to `paths`.
fn empty(root: BorrowedFd<'_>, path: &[u8], paths: &mut Vec<Vec<u8>>) -> Result<(), Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let at = if path.is_empty() { b"." } else { path };
    let folder = open(root, at, within)?;
    for item in Dir::read_from(&folder)? {
        let item = item?;
        let name: &CStr = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if item.file_type() != FileType::Directory {
            match unlinkat(&folder, name, AtFlags::empty()) {
                // Some file systems do not tell the type in a list.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) if errno != Errno::NOENT => return Err(errno),
                _ => continue,
            }
        }
        let mut below = path.to_vec();
        push(&mut below, name.to_bytes());
        paths.push(below);
    }
    Ok(())
}

fn open(folder: BorrowedFd<'_>, name: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(folder, name, flags, Mode::empty(), resolve)
}
