//! A file system of a few megabytes, in memory.

use std::ffi::CString;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// Unmounted when dropped; what is on it has to be ended before.
pub struct Small {
    pub path: PathBuf,
    _folder: TempDir,
}

impl Small {
    pub fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small");
        std::fs::create_dir(&path).unwrap();
        let options = CString::new(format!("size={size}")).unwrap();
        mount(
            "tmpfs",
            &path,
            "tmpfs",
            MountFlags::empty(),
            Some(&*options),
        )
        .unwrap();
        Self {
            path,
            _folder: folder,
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
