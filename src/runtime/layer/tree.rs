//! The directory that a layer is unpacked into: folders by name, and no way out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, chmodat, fstat, fstatvfs,
    mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::path::{self, PATH_MAX};
use crate::runtime::layer::remove::remove_at;
use crate::runtime::layer::rest::Unsettled;

/// Open folders that are kept: an archive goes up and down a few levels at a time.
const FOLDERS_KEPT: usize = 8;

/// Bytes of the names of implied directories: one entry can imply 2 000 of them. Images have some hundred.
const IMPLIED_MAX: u64 = 8 << 20;

/// Mode of a directory that nobody listed.
pub(super) const IMPLIED_MODE: RawMode = 0o755;

/// The root of a layer.
pub(super) struct Tree {
    root: OwnedFd,
    /// Bits that new files do not get from the mode they are created with.
    umask: RawMode,
    /// Whom new files belong to.
    owner: (u32, u32),
    /// Bytes of a block of this disk.
    pub(super) block: u64,
    /// No path that was ever used here went through a link, and nothing was removed: each listed
    /// directory still stands where its name says.
    is_plain: bool,
    /// A directory here may pass its group on to what is created in it.
    has_setgid: bool,
    /// A directory here may pass an access control list on, and new files then have another mode.
    has_list: bool,
    folders: Vec<Arc<Folder>>,
    pub(super) rest: Unsettled,
    /// Directories that were made because something lies in them.
    pub(super) implied: u64,
    implied_bytes: u64,
}

/// An open folder.
pub(super) struct Folder {
    /// As the archive names it, cleaned.
    name: Vec<u8>,
    /// Where it is, links followed.
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
    /// What is created in it takes its group.
    pub(super) is_setgid: bool,
}

impl Folder {
    /// One that is not looked for again.
    pub(super) fn at(path: Vec<u8>, fd: OwnedFd) -> Self {
        Self {
            name: Vec::new(),
            path,
            fd,
            is_setgid: false,
        }
    }
}

impl Tree {
    /// Makes the directory.
    pub(super) fn create(at: &Path) -> Result<Self, LayerError> {
        let io = |what, errno| LayerError::at(at, what, errno);
        mkdirat(CWD, at, Mode::from_raw_mode(0o777)).map_err(|e| io("create", e))?;
        let root = open_folder(at).map_err(|e| io("open", e))?;
        let stat = fstat(&root).map_err(|e| io("look at", e))?;
        let disk = fstatvfs(&root).map_err(|e| io("look at the disk of", e))?;
        // As containerd's snapshotter makes them.
        let mode = Mode::from_raw_mode(0o755);
        chmodat(&root, ".", mode, AtFlags::empty()).map_err(|e| io("set the mode of", e))?;
        Ok(Self {
            root,
            umask: !stat.st_mode & 0o777,
            owner: (stat.st_uid, stat.st_gid),
            block: disk.f_frsize.max(512),
            is_plain: true,
            has_setgid: false,
            has_list: false,
            folders: Vec::new(),
            rest: Unsettled::default(),
            implied: 0,
            implied_bytes: 0,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// See the field.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether a file that is created with this mode has another one then.
    pub(super) fn changes(&self, mode: RawMode) -> bool {
        self.has_list || mode & (self.umask | 0o7000) != 0
    }

    /// Whether a file that is created in `folder` belongs to somebody else than these.
    pub(super) fn owns_otherwise(&self, folder: &Folder, uid: u32, gid: u32) -> bool {
        folder.is_setgid || self.owner != (uid, gid)
    }

    /// A directory got this mode: new files may inherit its group from now on, or no longer.
    pub(super) fn note_mode(&mut self, mode: RawMode, is_new: bool) {
        let passes_on = mode & 0o2000 != 0;
        if passes_on || (self.has_setgid && !is_new) {
            self.has_setgid = true;
            self.folders.clear();
        }
    }

    /// A directory got an access control list for what is created in it.
    pub(super) fn note_list(&mut self) {
        self.has_list = true;
    }

    /// The folder of this clean name: links are followed as containerd does, missing ones are made.
    pub(super) fn folder(&mut self, name: &[u8], entry: &[u8]) -> Result<Arc<Folder>, LayerError> {
        if let Some(at) = self.folders.iter().position(|f| f.name == name) {
            self.folders[..=at].rotate_right(1);
            return Ok(self.folders[0].clone());
        }
        let call = |errno| LayerError::call(entry, "find its directory", errno);
        let (path, fd) = match self.open(name) {
            Ok(fd) => (name.to_vec(), fd),
            // Only the links say whether these are errors.
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => {
                let (path, linked) = path::resolve(self.root.as_fd(), name).map_err(call)?;
                self.is_plain &= !linked;
                self.make(&path, entry)?;
                let fd = self.open(&path).map_err(call)?;
                (path, fd)
            }
            Err(errno) => return Err(call(errno)),
        };
        let mut is_setgid = false;
        if self.has_setgid {
            is_setgid = fstat(&fd).map_err(call)?.st_mode & 0o2000 != 0;
        }
        let folder = Arc::new(Folder {
            name: name.to_vec(),
            path,
            fd,
            is_setgid,
        });
        self.folders.truncate(FOLDERS_KEPT - 1);
        self.folders.insert(0, folder.clone());
        Ok(folder)
    }

    /// The folder of a hard link's target, or of a directory whose times are due: nothing is made.
    pub(super) fn existing(&self, name: &[u8]) -> Result<(Vec<u8>, OwnedFd), Errno> {
        let (path, _) = path::resolve(self.root.as_fd(), name)?;
        let fd = self.open(&path)?;
        Ok((path, fd))
    }

    /// Makes room for an entry: what stands there goes, with all that is in it.
    pub(super) fn remove(
        &mut self,
        folder: &Folder,
        base: &[u8],
        entry: &[u8],
    ) -> Result<(), LayerError> {
        self.is_plain = false;
        self.folders.clear();
        let mut path = folder.path.clone();
        path::push(&mut path, base);
        self.rest.forget(&path);
        remove_at(folder.fd.as_fd(), base)
            .map_err(|errno| LayerError::call(entry, "remove what it replaces", errno))
    }

    /// What stands at `base`.
    pub(super) fn stat(folder: &Folder, base: &[u8]) -> Result<Option<Stat>, Errno> {
        match statat(&folder.fd, base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes the directories of a resolved path that are missing.
    fn make(&mut self, path: &[u8], entry: &[u8]) -> Result<(), LayerError> {
        let ends = path.iter().enumerate().filter(|(_, c)| **c == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([path.len()]).collect();
        // From the end: a deep path mostly has its upper part.
        let is_there = |end: &usize| self.open(&path[..*end]).map(drop);
        let mut missing = Vec::new();
        for end in ends.iter().rev() {
            match is_there(end) {
                Ok(()) => break,
                Err(Errno::NOENT) => missing.push(*end),
                Err(errno) => return Err(LayerError::call(entry, "find its directory", errno)),
            }
        }
        for end in missing.into_iter().rev() {
            let (parent, base) = path::split(&path[..end]);
            let call = |errno| LayerError::call(entry, "make its directory", errno);
            let parent = self.open(parent).map_err(call)?;
            let mode = Mode::from_raw_mode(IMPLIED_MODE);
            mkdirat(&parent, base, mode).map_err(call)?;
            if self.changes(IMPLIED_MODE) || self.has_setgid {
                chmodat(&parent, base, mode, AtFlags::empty()).map_err(call)?;
            }
            self.implied += 1;
            self.implied_bytes += end as u64;
            if self.implied_bytes > IMPLIED_MAX {
                return Err(LayerError::TooMuch {
                    what: "bytes of names of directories that are not listed",
                    limit: IMPLIED_MAX,
                });
            }
            self.rest.imply(&path[..end]);
        }
        Ok(())
    }

    /// Opens a folder below the root; a link on the way is an error.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        open_below(self.root.as_fd(), path)
    }
}

/// Opens a folder below another one; a link on the way is an error, and so is anything outside.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Opens the root of a tree.
pub(super) fn open_folder(at: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, at, flags, Mode::empty())
}

/// Whether a file of this mode is a directory.
pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
