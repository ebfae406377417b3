//! What a snapshotter says about mounting a snapshot, and the directories of overlayfs in it.

use std::path::PathBuf;

use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::wire::types::Mount;

/// The mounts of one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Mounts {
    key: String,
    mounts: Vec<Mount>,
}

/// Where an active snapshot's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What the snapshot adds.
    pub upper: PathBuf,
    /// What lies below it, the nearest first; empty for the lowest layer.
    pub lowers: Vec<PathBuf>,
}

/// Options that say nothing about where files are or whose they are; `volatile` and `fsync=..` are about
/// power loss, the rest about how the kernel looks directories up.
const HARMLESS: [&str; 13] = [
    "rw",
    "rbind",
    "bind",
    "index=off",
    "index=on",
    "userxattr",
    "volatile",
    "redirect_dir=off",
    "redirect_dir=nofollow",
    "metacopy=off",
    "xino=off",
    "xino=auto",
    "xino=on",
];

// === impl Mounts ===

impl Mounts {
    pub(super) fn new(key: &str, mounts: Vec<Mount>) -> Self {
        let key = key.to_owned();
        Self { key, mounts }
    }

    /// As containerd told them.
    pub fn as_told(&self) -> &[Mount] {
        &self.mounts
    }

    /// The directories of a snapshot that may be filled with files directly.
    ///
    /// overlayfs' snapshotter (`snapshots/overlay/overlay.go`) answers with a read-write bind mount when nothing
    /// lies below, and otherwise with `upperdir` and the `lowerdir`s, nearest first.
    ///
    /// # Errors
    /// [`ContainerdError::NotOverlay`] for anything else, options that we do not know included: remapped owners
    /// (`uidmap=`) among them would be lost.
    pub fn overlay(&self) -> Result<Overlay, ContainerdError> {
        let refuse = |reason: String| ContainerdError::NotOverlay {
            key: self.key.clone(),
            reason,
        };
        let [mount] = &self.mounts[..] else {
            return Err(refuse(format!("it has {} mounts", self.mounts.len())));
        };
        let mut upper = None;
        let mut lowers = Vec::new();
        for option in &mount.options {
            match option.split_once('=') {
                Some(("upperdir", path)) => upper = Some(path.to_owned()),
                Some(("lowerdir", paths)) => lowers = paths.split(':').map(PathBuf::from).collect(),
                Some(("workdir" | "fsync", _)) => {}
                _ if HARMLESS.contains(&option.as_str()) => {}
                _ => return Err(refuse(format!("a mount with the option {option}"))),
            }
        }
        let upper = match mount.r#type.as_str() {
            "bind" if upper.is_none() && lowers.is_empty() => Some(mount.source.clone()),
            "overlay" => upper.filter(|_| !lowers.is_empty()),
            other => return Err(refuse(format!("a mount of type {other}"))),
        };
        let upper = upper.map(PathBuf::from).filter(|path| path.is_absolute());
        let upper = upper.ok_or_else(|| refuse("no directory to write to".to_owned()))?;
        if let Some(lower) = lowers.iter().find(|path| !path.is_absolute()) {
            return Err(refuse(format!("`{}` is no absolute path", lower.display())));
        }
        Ok(Overlay { upper, lowers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(kind: &str, source: &str, options: &[&str]) -> Result<Overlay, String> {
        let mount = Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            target: String::new(),
            options: options.iter().map(|&o| o.to_owned()).collect(),
        };
        let mounts = Mounts::new("k", vec![mount]);
        mounts.overlay().map_err(|e| e.to_string())
    }

    #[test]
    fn the_lowest_layer_is_a_bind_mount() {
        let found = overlay("bind", "/r/snapshots/1/fs", &["rw", "rbind"]).unwrap();
        assert_eq!(found.upper, PathBuf::from("/r/snapshots/1/fs"));
        assert!(found.lowers.is_empty());
    }

    #[test]
    fn lower_directories_come_nearest_first() {
        let options = [
            "index=off",
            "workdir=/r/3/work",
            "upperdir=/r/3/fs",
            "lowerdir=/r/2/fs:/r/1/fs",
        ];
        let found = overlay("overlay", "overlay", &options).unwrap();
        assert_eq!(found.upper, PathBuf::from("/r/3/fs"));
        assert_eq!(found.lowers, ["/r/2/fs", "/r/1/fs"].map(PathBuf::from));
    }

    #[test]
    fn what_is_not_plain_overlayfs_is_refused_in_words() {
        let up = "upperdir=/r/3/fs";
        let low = "lowerdir=/r/2/fs";
        for (kind, source, options, word) in [
            ("bind", "/r/1/fs", &["ro", "rbind"][..], "option ro"),
            ("bind", "r/1/fs", &["rw"], "no directory"),
            ("bind", "", &["rw"], "no directory"),
            ("overlay", "overlay", &[low], "no directory"),
            ("overlay", "overlay", &[up], "no directory"),
            (
                "overlay",
                "overlay",
                &[up, low, "uidmap=0:1000:65536"],
                "uidmap",
            ),
            ("overlay", "overlay", &[up, "lowerdir=/r/2/fs:"], "absolute"),
            ("fuse.nydus-overlayfs", "overlay", &[up, low], "nydus"),
            ("btrfs", "/dev/sda", &[], "btrfs"),
            ("erofs", "/dev/loop0", &["loop"], "loop"),
        ] {
            let said = overlay(kind, source, options).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        let none = Mounts::new("k", Vec::new());
        assert!(none.overlay().is_err());
    }
}
