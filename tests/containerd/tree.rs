//! Two trees, and every difference between them that a container could see.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use forelay::domain::image::Digest;
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, setxattr, utimensat,
};

use crate::registry::sha256;

/// One inode under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    /// Of a file its digest, of a symbolic link where it leads, of a device its number.
    content: String,
    mode: u32,
    owner: (u32, u32),
    /// Nanoseconds since the epoch.
    modified: i128,
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// All names of this inode in the tree.
    names: BTreeSet<PathBuf>,
}

/// Every difference between two trees, as lines; none when they are equal. Of their roots all but the time:
/// containerd passes over a layer's entry for its root (`archive/tar.go`: "resolved to root").
pub fn differences(left: &Path, right: &Path) -> Vec<String> {
    let (left, right) = (read(left), read(right));
    let paths: BTreeSet<&PathBuf> = left.keys().chain(right.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (left.get(path), right.get(path)) {
            (Some(left), Some(right)) => found.extend(left.differences(path, right)),
            (Some(left), None) => found.push(format!("{}: only left: {left:?}", path.display())),
            (None, right) => found.push(format!("{}: only right: {right:?}", path.display())),
        }
    }
    found
}

/// How many names a tree has, its root included.
pub fn count(root: &Path) -> usize {
    read(root).len()
}

impl Node {
    fn differences(&self, path: &Path, other: &Self) -> Vec<String> {
        let pairs = [
            ("type", self.kind.to_owned(), other.kind.to_owned()),
            ("content", self.content.clone(), other.content.clone()),
            (
                "mode",
                format!("{:o}", self.mode),
                format!("{:o}", other.mode),
            ),
            (
                "owner",
                format!("{:?}", self.owner),
                format!("{:?}", other.owner),
            ),
            (
                "time",
                self.modified.to_string(),
                other.modified.to_string(),
            ),
            (
                "attributes",
                format!("{:?}", self.attributes),
                format!("{:?}", other.attributes),
            ),
            (
                "names",
                format!("{:?}", self.names),
                format!("{:?}", other.names),
            ),
        ];
        let is_root = path.as_os_str().is_empty();
        let different = pairs
            .into_iter()
            .filter(|(what, left, right)| left != right && !(is_root && *what == "time"));
        different
            .map(|(what, left, right)| format!("{}: {what}: {left} | {right}", path.display()))
            .collect()
    }
}

fn read(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes = BTreeMap::new();
    let mut inodes: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = root.join(&path);
        let about = fs::symlink_metadata(&full).unwrap();
        if about.is_dir() {
            let entries = fs::read_dir(&full).unwrap();
            waiting.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        } else {
            inodes.entry(about.ino()).or_default().insert(path.clone());
        }
        nodes.insert(path, (about.ino(), node(&full, &about)));
    }
    let named = nodes.into_iter().map(|(path, (inode, node))| {
        let names = inodes.get(&inode).cloned().unwrap_or_default();
        (path, Node { names, ..node })
    });
    named.collect()
}

fn node(path: &Path, about: &fs::Metadata) -> Node {
    let kind = about.file_type();
    let (kind, content) = if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).unwrap().display().to_string())
    } else if kind.is_file() {
        let bytes = fs::read(path).unwrap();
        let digest: Digest = sha256(&bytes);
        ("file", format!("{} bytes, {digest}", bytes.len()))
    } else if kind.is_char_device() {
        ("character device", about.rdev().to_string())
    } else if kind.is_block_device() {
        ("block device", about.rdev().to_string())
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else {
        ("socket", String::new())
    };
    Node {
        kind,
        content,
        mode: about.mode() & 0o7777,
        owner: (about.uid(), about.gid()),
        modified: i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec()),
        attributes: attributes(path),
        names: BTreeSet::new(),
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    // A name and a value have at most 64 KiB (xattr(7)).
    let mut names = vec![0; 64 << 10];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect()
}

/// What a change is found as, and the change.
type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 9] = [
    ("f: content", |root| {
        fs::write(root.join("f"), "more").unwrap();
    }),
    ("f: mode", |root| {
        let mode = PermissionsExt::from_mode(0o4755);
        fs::set_permissions(root.join("f"), mode).unwrap();
    }),
    ("f: owner", |root| {
        lchown(root.join("f"), Some(7), None).unwrap();
    }),
    ("d: time", |root| {
        let file = fs::File::open(root.join("d")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    }),
    ("f: attributes", |root| {
        setxattr(root.join("f"), "trusted.x", b"1", XattrFlags::empty()).unwrap();
    }),
    ("f: names", |root| {
        fs::hard_link(root.join("f"), root.join("d/again")).unwrap();
    }),
    ("l: content", |root| {
        fs::remove_file(root.join("l")).unwrap();
        symlink("d", root.join("l")).unwrap();
    }),
    ("l: time", |root| set_link_time(&root.join("l"), 2)),
    ("new: only right", |root| {
        fs::create_dir(root.join("new")).unwrap();
    }),
];

#[test]
fn a_difference_of_any_kind_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let root = folder.path().join(name);
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("f"), "text").unwrap();
        symlink("f", root.join("l")).unwrap();
        let time = UNIX_EPOCH + Duration::from_nanos(1_500_000_000_000_000_001);
        for path in ["f", "d"] {
            let file = fs::File::open(root.join(path)).unwrap();
            file.set_modified(time).unwrap();
        }
        set_link_time(&root.join("l"), 1);
        root
    };
    let left = make("left");
    assert_eq!(differences(&left, &make("same")), [""; 0]);
    assert_eq!(count(&left), 4);
    for (i, (expected, change)) in CHANGES.iter().enumerate() {
        let right = make(&format!("right{i}"));
        change(&right);
        let found = differences(&left, &right);
        let told = found.iter().any(|line| line.starts_with(expected));
        assert!(told, "{expected}: {found:?}");
    }
}

/// No standard function sets the time of a link itself.
fn set_link_time(path: &Path, seconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
