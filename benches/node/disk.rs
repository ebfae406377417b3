//! A fresh ext4 on a loop device on a tmpfs: a new node's disk, without a past and without a slow device.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

/// Room for the largest image twice over; only what is written takes memory.
const SIZE: u64 = 6 << 30;

/// Mounted until dropped.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    pub fn fresh() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("fnb").tempdir()?;
        let disk = Self { folder };
        let (ram, file) = (disk.ram(), disk.ram().join("disk"));
        fs::create_dir(&ram)?;
        fs::create_dir(disk.path())?;
        run(&["mount", "-t", "tmpfs", "-o", "size=7g", "tmpfs"], &[&ram])?;
        File::create(&file)?.set_len(SIZE)?;
        run(
            &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1"],
            &[&file],
        )?;
        run(&["mount", "-o", "loop"], &[&file, &disk.path()])?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    fn ram(&self) -> PathBuf {
        self.folder.path().join("ram")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is not mounted fails, and that is no matter.
        for place in [self.path(), self.ram()] {
            let _ = Command::new("umount").arg("-q").arg(place).status();
        }
    }
}

/// Runs a program of root's to its end.
pub fn run(words: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let (program, rest) = words.split_first().context("a program")?;
    let output = Command::new(program).args(rest).args(paths).output();
    let output = output.with_context(|| (*program).to_owned())?;
    anyhow::ensure!(
        output.status.success(),
        "{}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
