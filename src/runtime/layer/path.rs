//! Names in archives as paths below a root, and how containerd resolves them.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, readlinkat, statat};
use rustix::io::Errno;

/// Containerd joins an entry to the absolute path of its snapshot, and Linux takes 4095 bytes: what is
/// longer than this fails there with "file name too long" (the rest is the snapshot's own path).
pub(super) const PATH_MAX: usize = 4_000;

/// Links that containerd follows in one name before it gives up (continuity's `fs.RootPath`).
const LINKS_MAX: usize = 255;

/// The name without `.`, `..` and doubled slashes, relative to the root; the root itself is empty. As
/// containerd does it, `..` at the root stays at the root and an absolute name begins there.
pub(super) fn clean(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|c| *c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => path.truncate(parent(&path).len()),
            part => push(&mut path, part),
        }
    }
    path
}

/// Appends a component.
pub(super) fn push(path: &mut Vec<u8>, part: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(part);
}

/// Everything before the last component; empty for what lies at the root.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

/// Parent and last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Follows every symbolic link of `path`, the last component's too, without leaving `root`. What does
/// not exist is no link. `path` need not be clean. Gives the clean path and whether a link was met.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Result<(Vec<u8>, bool), Errno> {
    let mut todo: VecDeque<Vec<u8>> = parts(path).collect();
    let mut done = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            done.truncate(parent(&done).len());
            continue;
        }
        let length = done.len();
        push(&mut done, &part);
        if done.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let stat = match statat(root, done.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(root, done.as_slice(), Vec::new())?.into_bytes();
        done.truncate(if target.starts_with(b"/") { 0 } else { length });
        for part in tidied(&target).into_iter().rev() {
            todo.push_front(part);
        }
    }
    Ok((done, links > 0))
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|c| *c == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

/// A link's target with `x/..` taken out by its letters alone: containerd does it before it looks at
/// what `x` is, unlike the kernel.
fn tidied(target: &[u8]) -> Vec<Vec<u8>> {
    let mut tidy: Vec<Vec<u8>> = Vec::new();
    for part in parts(target) {
        if part == b".." && tidy.last().is_some_and(|last| last != b"..") {
            tidy.pop();
        } else {
            tidy.push(part);
        }
    }
    tidy
}

/// For people: at most 300 bytes of a name, control characters escaped.
pub(super) fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(300)];
    cut.escape_ascii().to_string()
}
