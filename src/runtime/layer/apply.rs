//! Puts the entries of a layer into its tree, oddities as containerd's `archive.Apply` has them.
//!
//! Read in containerd v1.6.20 (`archive/tar.go`); up to v2.3.4 nothing of it changed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, RawMode, SeekFrom, Stat, XattrFlags, chmodat, fchmod,
    fchown, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, seek, setxattr,
    symlinkat,
};
use rustix::io::{Errno, write};

use crate::runtime::layer::Limits;
use crate::runtime::layer::attrs::{
    DEFAULT_LIST, below, chown, ids, owners, touch, xattr_at, xattr_file,
};
use crate::runtime::layer::dirs::{Dirs, Times};
use crate::runtime::layer::entry::{Entries, Entry, kind};
use crate::runtime::layer::error::LayerError;
use crate::runtime::layer::header::{Header, Moment};
use crate::runtime::layer::path::{clean, push, resolve, shown, split};
use crate::runtime::layer::rest::Unsettled;
use crate::runtime::layer::tree::{Folder, Tree, is_dir};

/// What hides a lower layer's file of the name that follows (OCI image specification, layer.md).
const WHITEOUT: &[u8] = b".wh.";

/// What hides everything that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Links up to this length lie in the inode itself (ext4, XFS does about the same).
const SHORT_LINK: usize = 59;

/// A layer being written.
pub(super) struct Apply {
    tree: Tree,
    entries: Entries,
    limits: Limits,
    is_bottom: bool,
    dirs: Dirs,
    counted: u64,
    inodes: u64,
    disk: u64,
}

/// A layer that is written.
pub(super) struct Applied {
    pub(super) inodes: u64,
    pub(super) disk: u64,
    pub(super) rest: Unsettled,
}

/// Where an entry goes.
struct Place<'a> {
    folder: Arc<Folder>,
    base: &'a [u8],
    /// Of the entry, for errors.
    name: &'a [u8],
}

impl Apply {
    pub(super) fn new(tree: Tree, entries: Entries, limits: Limits, is_bottom: bool) -> Self {
        Self {
            tree,
            entries,
            limits,
            is_bottom,
            dirs: Dirs::default(),
            counted: 0,
            inodes: 1,
            disk: 0,
        }
    }

    /// All of them, then the directories' times, then what follows the archive.
    pub(super) fn run(mut self) -> Result<Applied, LayerError> {
        while let Some(entry) = self.entries.next()? {
            self.counted += 1;
            if self.counted > self.limits.entries {
                return Err(LayerError::TooMuch {
                    what: "entries",
                    limit: self.limits.entries,
                });
            }
            self.entry(&entry)?;
        }
        let dirs = std::mem::take(&mut self.dirs);
        dirs.each(|name, times| date(&mut self.tree, name, times))?;
        self.entries.drain()?;
        let rest = if self.is_bottom {
            Unsettled::default()
        } else {
            self.tree.rest
        };
        Ok(Applied {
            inodes: self.inodes + self.tree.implied,
            disk: self.disk + self.tree.implied * self.tree.block,
            rest,
        })
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let header = &entry.header;
        let path = clean(&header.name);
        if path.is_empty() {
            // The root is the snapshotter's.
            return Ok(());
        }
        let (parent, base) = split(&path);
        let place = Place {
            folder: self.tree.folder(parent, &header.name)?,
            base,
            name: &header.name,
        };
        if base == OPAQUE {
            return self.opaque(&place);
        }
        if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            return self.whiteout(&place, hidden, ids(header));
        }
        match header.kind {
            kind::FILE => self.file(&place, entry),
            kind::DIR => self.dir(&place, entry, &path),
            kind::SYMLINK => self.symlink(&place, entry),
            kind::LINK => self.link(&place, entry),
            kind::CHAR => self.node(&place, entry, FileType::CharacterDevice),
            kind::BLOCK => self.node(&place, entry, FileType::BlockDevice),
            kind::FIFO => self.node(&place, entry, FileType::Fifo),
            kind::GLOBAL => self.make_way(&place),
            other => Err(place.odd(format!(
                "containerd takes no entry of type `{}`",
                other.escape_ascii()
            ))),
        }
    }

    fn file(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
        let header = &entry.header;
        let size = u64::try_from(header.size).unwrap_or_default();
        self.limits.check_raw(size)?;
        let mode = bits(header);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.create(place, "create it", |folder, base| {
            openat(folder, base, flags, Mode::from_raw_mode(mode))
        })?;
        match &entry.sparse {
            None => self.fill(&file, size, place)?,
            Some(sparse) => {
                let mut end = 0;
                for (from, length) in &sparse.parts {
                    seek(&file, SeekFrom::Start(*from)).map_err(|e| place.failed("write it", e))?;
                    self.fill(&file, *length, place)?;
                    end = from + length;
                }
                if end < size {
                    ftruncate(&file, size).map_err(|e| place.failed("write it", e))?;
                }
            }
        }
        let held: u64 = entry.sparse.as_ref().map_or(size, |sparse| {
            sparse.parts.iter().map(|(_, length)| length).sum()
        });
        self.disk += held.next_multiple_of(self.tree.block);
        let (uid, gid) = ids(header);
        if self.tree.owns_otherwise(&place.folder, uid, gid) {
            let (uid, gid) = owners((uid, gid));
            fchown(&file, uid, gid).map_err(|e| place.failed("set the owner of it", e))?;
        }
        let xattrs = &entry.pax.xattrs;
        xattr_file(&file, xattrs).map_err(|e| place.failed("set attributes of it", e))?;
        // An access control list is an attribute, and the mode counts over it.
        if self.tree.changes(mode) || !xattrs.is_empty() {
            let mode = Mode::from_raw_mode(mode);
            fchmod(&file, mode).map_err(|e| place.failed("set the mode of it", e))?;
        }
        let stamps = Times::of(header).stamps();
        futimens(&file, &stamps).map_err(|e| place.failed("set the times of it", e))
    }

    /// Copies the next `length` bytes of the entry into its file.
    fn fill(&mut self, file: &OwnedFd, length: u64, place: &Place<'_>) -> Result<(), LayerError> {
        let mut left = length;
        while left > 0 {
            let mut some = self.entries.data(left)?;
            if some.is_empty() {
                return Err(place.odd("it has fewer bytes than it claims"));
            }
            left -= some.len() as u64;
            while !some.is_empty() {
                match write(file, some) {
                    Ok(done) => some = &some[done..],
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(place.failed("write it", errno)),
                }
            }
        }
        Ok(())
    }

    fn dir(&mut self, place: &Place<'_>, entry: &Entry, name: &[u8]) -> Result<(), LayerError> {
        let mode = bits(&entry.header);
        let folder = place.folder.fd.as_fd();
        let made = Mode::from_raw_mode(mode & 0o1777);
        let is_new = match mkdirat(folder, place.base, made) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let stat = Tree::stat(&place.folder, place.base);
                let stat = stat.map_err(|e| place.failed("look at it", e))?;
                // A directory is taken over with what is in it.
                let is_new = !stat.is_some_and(|stat| is_dir(&stat));
                if is_new {
                    self.tree.remove(&place.folder, place.base, place.name)?;
                    mkdirat(folder, place.base, made).map_err(|e| place.failed("create it", e))?;
                } else {
                    self.tree.rest.list(&place.path());
                }
                is_new
            }
            Err(errno) => return Err(place.failed("create it", errno)),
        };
        if is_new {
            self.inodes += 1;
            self.disk += self.tree.block;
        }
        let (uid, gid) = ids(&entry.header);
        if !is_new || self.tree.owns_otherwise(&place.folder, uid, gid) {
            place.chown((uid, gid))?;
        }
        place.xattrs(entry, true)?;
        let is_changed = self.tree.changes(mode) || place.folder.is_setgid;
        if !is_new || is_changed || !entry.pax.xattrs.is_empty() {
            place.chmod(mode)?;
        }
        self.tree.note_mode(mode, is_new);
        if entry.pax.xattrs.contains_key(DEFAULT_LIST) {
            self.tree.note_list();
        }
        self.dirs.push(name, Times::of(&entry.header))
    }

    fn symlink(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
        let target = entry.header.link.as_slice();
        self.create(place, "create the link", |folder, base| {
            symlinkat(target, folder, base)
        })?;
        if target.len() > SHORT_LINK {
            self.disk += self.tree.block;
        }
        self.finish(place, entry, false)
    }

    fn node(&mut self, place: &Place<'_>, entry: &Entry, of: FileType) -> Result<(), LayerError> {
        let mode = bits(&entry.header);
        let (major, minor) = entry.header.device;
        let device = match of {
            FileType::Fifo => 0,
            _ => makedev(major as u32, minor as u32),
        };
        self.create(place, "create the device", |folder, base| {
            mknodat(folder, base, of, Mode::from_raw_mode(mode), device)
        })?;
        self.finish(place, entry, true)
    }

    /// What a new link or device needs besides itself.
    fn finish(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        has_mode: bool,
    ) -> Result<(), LayerError> {
        let (uid, gid) = ids(&entry.header);
        if self.tree.owns_otherwise(&place.folder, uid, gid) {
            place.chown((uid, gid))?;
        }
        place.xattrs(entry, false)?;
        let mode = bits(&entry.header);
        if has_mode && (self.tree.changes(mode) || !entry.pax.xattrs.is_empty()) {
            place.chmod(mode)?;
        }
        place.touch(entry)
    }

    /// A second name, and the attributes that its own header gives to the file of both.
    fn link(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
        let header = &entry.header;
        let (parent, target) = split(&header.link);
        let failed = |errno| place.unlinked(&header.link, errno);
        if matches!(target, b"" | b"." | b"..") {
            return Err(failed(Errno::ISDIR));
        }
        let link = |tree: &Tree| {
            let (_, from) = tree.existing(parent)?;
            let folder = place.folder.fd.as_fd();
            linkat(from, target, folder, place.base, AtFlags::empty())
        };
        match link(&self.tree) {
            Err(Errno::EXIST) => {
                self.tree.remove(&place.folder, place.base, place.name)?;
                link(&self.tree).map_err(failed)?;
            }
            done => done.map_err(failed)?,
        }
        let stat = Tree::stat(&place.folder, place.base).map_err(failed)?;
        let stat = stat.ok_or_else(|| failed(Errno::NOENT))?;
        // Even where nothing changes: it takes capabilities away, at containerd too.
        place.chown(ids(header))?;
        let of = FileType::from_raw_mode(stat.st_mode);
        place.xattrs(entry, of == FileType::RegularFile)?;
        let mode = bits(header);
        let is_same = stat.st_mode & 0o7777 == mode && mode & 0o6000 == 0;
        if of != FileType::Symlink && !(is_same && entry.pax.xattrs.is_empty()) {
            place.chmod(mode)?;
        }
        if has_times(&stat, Times::of(header)) {
            return Ok(());
        }
        place.touch(entry)
    }

    fn whiteout(
        &mut self,
        place: &Place<'_>,
        hidden: &[u8],
        ids: (u32, u32),
    ) -> Result<(), LayerError> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(place.odd("it hides nothing that has a name"));
        }
        if self.is_bottom {
            // Nothing lies below: containerd removes what this layer itself has of that name.
            return match Tree::stat(&place.folder, hidden) {
                Ok(None) => Ok(()),
                Ok(Some(_)) => self.tree.remove(&place.folder, hidden, place.name),
                Err(errno) => Err(place.failed("look at what it hides", errno)),
            };
        }
        let folder = place.folder.fd.as_fd();
        let nothing: Dev = 0;
        let made = mknodat(
            folder,
            hidden,
            FileType::CharacterDevice,
            Mode::empty(),
            nothing,
        );
        made.map_err(|errno| match errno {
            Errno::EXIST => place.odd("it hides what the layer has itself"),
            errno => place.failed("create it", errno),
        })?;
        self.inodes += 1;
        if self.tree.owns_otherwise(&place.folder, ids.0, ids.1) {
            chown(folder, hidden, ids).map_err(|e| place.failed("set the owner of it", e))?;
        }
        Ok(())
    }

    fn opaque(&mut self, place: &Place<'_>) -> Result<(), LayerError> {
        if !self.is_bottom {
            let at = below(place.folder.fd.as_fd(), b"");
            let flags = XattrFlags::empty();
            return setxattr(at, "trusted.overlay.opaque", b"y", flags)
                .map_err(|e| place.failed("hide what lies below it", e));
        }
        // Nothing lies below: containerd removes what is there and was not listed.
        for path in self.tree.rest.implied_below(&place.folder.path) {
            let (parent, base) = split(&path);
            match self.tree.existing(parent) {
                Ok((path, fd)) => {
                    let folder = Folder::at(path, fd);
                    self.tree.remove(&folder, base, place.name)?;
                }
                // It went with its parent.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(place.failed("look at what it hides", errno)),
            }
        }
        Ok(())
    }

    /// A global header is no file, but at containerd what has its name goes.
    fn make_way(&mut self, place: &Place<'_>) -> Result<(), LayerError> {
        match Tree::stat(&place.folder, place.base) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => self.tree.remove(&place.folder, place.base, place.name),
            Err(errno) => Err(place.failed("look at what it replaces", errno)),
        }
    }

    /// Creates something, in place of what stands there.
    fn create<T>(
        &mut self,
        place: &Place<'_>,
        what: &str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let made = match make(&place.folder.fd, place.base) {
            Err(Errno::EXIST) => {
                self.tree.remove(&place.folder, place.base, place.name)?;
                make(&place.folder.fd, place.base)
            }
            made => made,
        };
        self.inodes += 1;
        made.map_err(|errno| place.failed(what, errno))
    }
}

impl Place<'_> {
    /// Where it is, links followed.
    fn path(&self) -> Vec<u8> {
        let mut path = self.folder.path.clone();
        push(&mut path, self.base);
        path
    }

    fn chown(&self, ids: (u32, u32)) -> Result<(), LayerError> {
        chown(&self.folder.fd, self.base, ids).map_err(|e| self.failed("set the owner of it", e))
    }

    /// Not for links: it follows them.
    fn chmod(&self, mode: RawMode) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(mode);
        let done = chmodat(&self.folder.fd, self.base, mode, AtFlags::empty());
        done.map_err(|e| self.failed("set the mode of it", e))
    }

    fn xattrs(&self, entry: &Entry, holds_user: bool) -> Result<(), LayerError> {
        let folder = self.folder.fd.as_fd();
        let done = xattr_at(folder, self.base, &entry.pax.xattrs, holds_user);
        done.map_err(|e| self.failed("set attributes of it", e))
    }

    fn touch(&self, entry: &Entry) -> Result<(), LayerError> {
        let times = Times::of(&entry.header);
        touch(&self.folder.fd, self.base, times).map_err(|e| self.failed("set the times of it", e))
    }

    fn odd(&self, reason: impl Into<String>) -> LayerError {
        LayerError::entry(self.name, reason)
    }

    fn failed(&self, what: &str, errno: Errno) -> LayerError {
        LayerError::call(self.name, what, errno)
    }

    /// Containerd looks for the file that a hard link names in the layer itself, never in lower ones.
    fn unlinked(&self, link: &[u8], errno: Errno) -> LayerError {
        match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS => self.failed("link it", errno),
            errno => self.odd(format!(
                "cannot link it to `{}` of the same layer: {errno}",
                shown(link)
            )),
        }
    }
}

/// Sets the times of a listed directory, or of what stands there in the end.
fn date(tree: &mut Tree, name: &[u8], times: Times) -> Result<(), LayerError> {
    let failed = |errno| LayerError::call(name, "set the times of the directory", errno);
    if tree.is_plain() {
        return touch(tree.root(), name, times).map_err(failed);
    }
    let (path, _) = resolve(tree.root(), name).map_err(failed)?;
    tree.rest.date(&path);
    let (parent, base) = split(&path);
    if base.is_empty() {
        return futimens(tree.root(), &times.stamps()).map_err(failed);
    }
    let (_, folder) = tree.existing(parent).map_err(failed)?;
    touch(folder, base, times).map_err(failed)
}

/// Permissions and the three bits above them.
fn bits(header: &Header) -> RawMode {
    header.mode as RawMode & 0o7777
}

fn has_times(stat: &Stat, times: Times) -> bool {
    let is = |secs: i64, nanos: u64, moment: Moment| {
        secs == moment.secs && nanos == u64::from(moment.nanos)
    };
    is(stat.st_atime, stat.st_atime_nsec, times.accessed)
        && is(stat.st_mtime, stat.st_mtime_nsec, times.modified)
}
