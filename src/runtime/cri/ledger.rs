//! Which images the runtime pulled for us: a small file, so that a restart removes nobody else's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use crate::domain::image::Digest;
use crate::port::RuntimeError;

/// The file's name in the agent's state directory.
const FILE: &str = "pulled.json";

/// Largest file that is read: an entry has some 300 bytes, and a node some hundred images.
const FILE_MAX: u64 = 4 << 20;

/// Ownership by manifest. In memory it is what the file says, or newer where that could not be written.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    images: BTreeMap<Digest, Pulled>,
}

/// An image that was not there before we had it pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pulled {
    /// Digest of its config: what a runtime calls the image's ID.
    pub(super) config: Digest,
    /// The names that we had it pulled by.
    pub(super) names: Vec<String>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    images: BTreeMap<Digest, Pulled>,
}

// === impl Ledger ===

impl Ledger {
    /// Reads the ledger in this directory. One that cannot be understood owns nothing, which removes nothing.
    pub(super) fn open(folder: &Path) -> Result<Self, RuntimeError> {
        let path = folder.join(FILE);
        let failed =
            |e: &io::Error| RuntimeError::Io(format!("cannot read {}: {e}", path.display()));
        let images = match fs::metadata(&path) {
            Ok(meta) if meta.len() > FILE_MAX => {
                tracing::warn!(path = %path.display(), bytes = meta.len(), "too large to be ours: \
                    images that were pulled before are left to the kubelet");
                BTreeMap::new()
            }
            Ok(_) => {
                let bytes = fs::read(&path).map_err(|e| failed(&e))?;
                let file = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                    tracing::warn!(path = %path.display(), %error, "not understood: \
                        images that were pulled before are left to the kubelet");
                    Document::default()
                });
                file.images
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(&error)),
        };
        Ok(Self { path, images })
    }

    pub(super) fn get(&self, manifest: &Digest) -> Option<&Pulled> {
        self.images.get(manifest)
    }

    /// Everything that is ours.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Digest, &Pulled)> {
        self.images.iter()
    }

    /// Whether the image with this config is ours, whichever manifest led to it.
    pub(super) fn has_config(&self, is: impl Fn(&Digest) -> bool) -> bool {
        self.images.values().any(|pulled| is(&pulled.config))
    }

    /// Notes an image, or one more name of it.
    pub(super) async fn note(&mut self, manifest: &Digest, config: &Digest, name: &str) {
        let entry = self.images.entry(manifest.clone());
        let pulled = entry.or_insert_with(|| Pulled {
            config: config.clone(),
            names: Vec::new(),
        });
        if !pulled.names.iter().any(|known| known == name) {
            pulled.names.push(name.to_owned());
        }
        self.save().await;
    }

    /// What is struck is nobody's of ours any more.
    pub(super) async fn strike(&mut self, manifest: &Digest) -> Option<Pulled> {
        let struck = self.images.remove(manifest);
        if struck.is_some() {
            self.save().await;
        }
        struck
    }

    /// Takes back what was struck.
    pub(super) async fn restore(&mut self, manifest: &Digest, pulled: Pulled) {
        self.images.insert(manifest.clone(), pulled);
        self.save().await;
    }

    /// A ledger that cannot be written owns too little after the next start, never too much: what was struck
    /// and is still in it is not there any more, or has a container.
    async fn save(&self) {
        let file = Document {
            images: self.images.clone(),
        };
        let path = self.path.clone();
        let saved = spawn_blocking(move || replace(&path, &file)).await;
        if let Err(error) = saved.unwrap_or_else(|e| Err(io::Error::other(e))) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "which images were pulled for us may be forgotten at the next start");
        }
    }
}

fn replace(path: &Path, file: &Document) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, file)?;
    new.flush()?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(salt: u8) -> Digest {
        Digest::from_sha256(&[salt; 32])
    }

    #[tokio::test]
    async fn what_was_noted_is_there_at_the_next_start_and_what_was_struck_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.note(&digest(1), &digest(2), "r/web:1").await;
        ledger.note(&digest(1), &digest(2), "r/web:1").await;
        ledger.note(&digest(1), &digest(2), "r/web:2").await;
        ledger.note(&digest(3), &digest(4), "r/db:1").await;
        let struck = ledger.strike(&digest(3)).await;
        assert_eq!(struck.unwrap().names, ["r/db:1"]);
        let ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.all().count(), 1);
        let pulled = ledger.get(&digest(1)).unwrap();
        assert_eq!(pulled.names, ["r/web:1", "r/web:2"]);
        assert!(ledger.has_config(|config| *config == digest(2)));
        assert!(!ledger.has_config(|config| *config == digest(4)));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "no temporary file");
    }

    #[test]
    fn a_file_that_is_not_understood_owns_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "no JSON", r#"{"images": {"sha256:7": {}}}"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(Ledger::open(folder.path()).unwrap().all().count(), 0);
        }
        fs::remove_file(folder.path().join(FILE)).unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        assert!(Ledger::open(folder.path()).is_err());
    }
}
