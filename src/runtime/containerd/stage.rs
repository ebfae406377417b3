//! Where layers are unpacked before containerd takes them, and what a crash left there.
//!
//! | path | what |
//! | --- | --- |
//! | `layers/<hex>/tree` | a layer's files, in overlayfs's own form |
//! | `layers/<hex>/done` | written when the tree is whole and both digests are right |
//! | `layers/<hex>/apply` | instead: containerd has to unpack this one itself |
//! | `trash/<n>` | on its way out; emptied by a thread |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::port::RuntimeError;
use crate::runtime::layer::{Unpacked, Unsettled, remove_tree};

/// Changes with each boot of the machine (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A directory on the mount of the snapshotter's root.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
    boot: String,
    ready: Mutex<BTreeMap<Digest, Ready>>,
    trashed: AtomicU64,
    /// Threads that empty the trash; the ended ones go when the next begins.
    emptying: Mutex<Vec<JoinHandle<()>>>,
}

/// A layer that waits for its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Of the unpacked stream, compared with the image's word.
    pub(super) diff_id: Digest,
    /// Bytes on the disk.
    pub(super) disk: ByteSize,
    /// Files, directories and all else.
    pub(super) inodes: u64,
    /// What only the layers below can tell.
    pub(super) rest: Unsettled,
    /// Whether it was unpacked to have nothing below it.
    pub(super) is_bottom: bool,
    /// The machine's boot in which it was written: the page cache does not outlive it.
    boot: String,
}

// === impl Stage ===

impl Stage {
    /// Opens or makes the directory. Trees that were not finished, or were finished before the
    /// machine's last start, are thrown away.
    pub(super) fn open(root: &Path) -> Result<Self, RuntimeError> {
        for part in ["layers", "trash"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|e| failed("create", &path, &e))?;
        }
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let stage = Self {
            root: root.to_owned(),
            boot: boot.trim().to_owned(),
            ready: Mutex::default(),
            trashed: AtomicU64::new(0),
            emptying: Mutex::default(),
        };
        let old = entries(&root.join("trash"))?;
        for entry in entries(&root.join("layers"))? {
            stage.recover(&entry)?;
        }
        for path in old {
            stage.empty(path);
        }
        Ok(stage)
    }

    fn recover(&self, folder: &Path) -> Result<(), RuntimeError> {
        let name = folder.file_name().and_then(|name| name.to_str());
        let digest = name.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let ready = fs::read(folder.join("done")).ok();
        let ready = ready.and_then(|text| serde_json::from_slice::<Ready>(&text).ok());
        match (digest, ready) {
            (Some(digest), Some(ready))
                if ready.boot == self.boot && folder.join("tree").exists() =>
            {
                self.ready().insert(digest, ready);
            }
            (Some(_), _) if folder.join("apply").exists() => {}
            _ => self.discard(folder)?,
        }
        Ok(())
    }

    /// An empty place for a layer; whatever was there is thrown away.
    pub(super) fn clear(&self, layer: &Digest) -> Result<PathBuf, RuntimeError> {
        self.drop_layer(layer)?;
        let folder = self.folder(layer);
        fs::create_dir_all(&folder).map_err(|e| failed("create", &folder, &e))?;
        Ok(folder.join("tree"))
    }

    /// A tree is whole: it outlives a crash of ours from now on.
    pub(super) fn finish(
        &self,
        layer: &Digest,
        unpacked: Unpacked,
        is_bottom: bool,
    ) -> Result<(), RuntimeError> {
        let ready = Ready {
            diff_id: unpacked.diff_id,
            disk: unpacked.disk,
            inodes: unpacked.inodes,
            rest: unpacked.rest,
            is_bottom,
            boot: self.boot.clone(),
        };
        let text = serde_json::to_vec(&ready)
            .map_err(|e| RuntimeError::Io(format!("cannot note that {layer} is whole: {e}")))?;
        let folder = self.folder(layer);
        let (new, done) = (folder.join("done.new"), folder.join("done"));
        fs::write(&new, text).map_err(|e| failed("write", &new, &e))?;
        fs::rename(&new, &done).map_err(|e| failed("rename into", &done, &e))?;
        self.ready().insert(layer.clone(), ready);
        Ok(())
    }

    /// Leaves this layer to containerd: its bytes are kept as they come from now on.
    pub(super) fn leave(&self, layer: &Digest) -> Result<(), RuntimeError> {
        let tree = self.clear(layer)?;
        let mark = tree.with_file_name("apply");
        fs::write(&mark, b"").map_err(|e| failed("write", &mark, &e))
    }

    /// Whether containerd has to unpack it.
    pub(super) fn is_left(&self, layer: &Digest) -> bool {
        self.folder(layer).join("apply").exists()
    }

    pub(super) fn get(&self, layer: &Digest) -> Option<Ready> {
        self.ready().get(layer).cloned()
    }

    pub(super) fn layers(&self) -> Vec<Digest> {
        self.ready().keys().cloned().collect()
    }

    pub(super) fn tree(&self, layer: &Digest) -> PathBuf {
        self.folder(layer).join("tree")
    }

    /// Throws a layer away, whole or not.
    pub(super) fn drop_layer(&self, layer: &Digest) -> Result<(), RuntimeError> {
        self.ready().remove(layer);
        let folder = self.folder(layer);
        if folder.exists() {
            self.discard(&folder)?;
        }
        Ok(())
    }

    /// Out of sight at once; a large tree takes a second to remove.
    fn discard(&self, folder: &Path) -> Result<(), RuntimeError> {
        // In a container every agent is process 1, and an earlier one may have left its trash.
        let to = loop {
            let number = self.trashed.fetch_add(1, Ordering::Relaxed);
            let to = self.root.join("trash").join(number.to_string());
            if !to.exists() {
                break to;
            }
        };
        fs::rename(folder, &to).map_err(|e| failed("move away", folder, &e))?;
        self.empty(to);
        Ok(())
    }

    /// Removes on a thread of its own; what stays is tried again at the next start.
    fn empty(&self, path: PathBuf) {
        let mut emptying = self.emptying();
        emptying.retain(|thread| !thread.is_finished());
        emptying.push(thread::spawn(move || {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove");
            }
        }));
    }

    /// Waits until the trash is empty.
    pub(super) fn settle(&self) {
        let emptying = std::mem::take(&mut *self.emptying());
        for thread in emptying {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }

    fn emptying(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.emptying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, layer: &Digest) -> PathBuf {
        self.root.join("layers").join(layer.hex())
    }

    fn ready(&self) -> MutexGuard<'_, BTreeMap<Digest, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    let read = fs::read_dir(folder).map_err(|e| failed("list", folder, &e))?;
    let paths: Result<Vec<PathBuf>, _> = read.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(|e: io::Error| failed("list", folder, &e))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io(format!("cannot {what} {}: {error}", path.display()))
}
