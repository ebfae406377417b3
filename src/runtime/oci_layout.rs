//! An OCI image layout in which an image is listed only when all of it is there.
//!
//! The runtime that needs no root: a directory that skopeo, podman or `ctr import` read as it is.
//! Other programs may list images in the same `index.json`; entries without our annotation are
//! never changed, and neither is any blob that they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::manifest::{MANIFEST_MAX, Manifest, OCI_INDEX};
use crate::domain::quantity::ByteSize;
use crate::port::{BlobStore, BlobWriter, ContainerRuntime, RuntimeError, Show, Whole};

#[cfg(test)]
mod tests;

/// Under which annotation the specification keeps an image's name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Marks entries that Forelay made.
const MANAGED: &str = "dev.forelay.managed";

/// Indexes inside indexes that are followed to find what an entry needs.
const DEPTH_MAX: u32 = 4;

/// A layout over a store whose root is the same directory. Cheap to clone.
#[derive(Clone)]
pub struct OciLayout {
    root: PathBuf,
    store: Arc<dyn BlobStore>,
    /// One change of `index.json` at a time.
    turn: Arc<Mutex<()>>,
}

/// `index.json`; members that we do not know are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

// === impl OciLayout ===

impl OciLayout {
    /// Opens the layout in `root`, which is also the root of `store`; makes it where there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when the directory cannot be used or holds something else.
    pub fn open(root: &Path, store: Arc<dyn BlobStore>) -> Result<Self, RuntimeError> {
        let marker = root.join("oci-layout");
        if !marker.exists() {
            let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
            replace(&marker, version, store.is_durable())?;
        }
        let index = root.join("index.json");
        if !index.exists() {
            let empty = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
            replace(&index, empty.to_string().as_bytes(), store.is_durable())?;
        }
        read_index(&index)?;
        Ok(Self {
            root: root.to_owned(),
            store,
            turn: Arc::default(),
        })
    }

    /// Names and manifests that Forelay has listed.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when `index.json` cannot be read.
    pub async fn listed(&self) -> Result<Vec<(ImageRef, Digest)>, RuntimeError> {
        let index = self.index().await?;
        let ours = index.manifests.into_iter().filter(Entry::is_ours);
        let named = ours.filter_map(|entry| {
            let name = entry.annotations.get(REF_NAME)?.parse().ok()?;
            Some((name, entry.digest.parse().ok()?))
        });
        Ok(named.collect())
    }

    /// Every manifest that the index lists, whoever listed it.
    async fn stored(&self) -> Result<Vec<StoredImage>, RuntimeError> {
        let mut stored = Vec::new();
        for entry in self.index().await?.manifests {
            let Ok(digest) = entry.digest.parse::<Digest>() else {
                continue;
            };
            // Others may write a tag alone, by which no pod asks.
            let name = entry.annotations.get(REF_NAME);
            let name =
                name.and_then(|text| text.parse().ok().filter(|n: &ImageRef| n.as_str() == text));
            let (planned, names) = name.into_iter().partition(|_| entry.is_ours());
            let bytes = self.bytes(&digest).await?;
            stored.push(StoredImage {
                digest,
                names,
                planned,
                bytes,
            });
        }
        Ok(stored)
    }

    /// Bytes of a manifest's layers, where it is one image's.
    async fn bytes(&self, manifest: &Digest) -> Result<Option<ByteSize>, RuntimeError> {
        if self.is_large(manifest) {
            return Ok(None);
        }
        let bytes = self.store.read(manifest).await?;
        Ok(match bytes.map(|bytes| Manifest::parse(&bytes)) {
            Some(Ok(Manifest::Image(parts))) => {
                Some(parts.layers.iter().map(|layer| layer.size).sum())
            }
            _ => None,
        })
    }

    async fn list(&self, image: &ImageRef, digest: &Digest) -> Result<(), RuntimeError> {
        // A release between this look and the entry could take a shared layer away.
        let _turn = self.turn.lock().await;
        let (size, media_type) = self.whole(image, digest).await?;
        let mut index = self.index().await?;
        let named = |entry: &Entry| {
            entry
                .annotations
                .get(REF_NAME)
                .is_some_and(|n| n == image.as_str())
        };
        if let Some(taken) = index.manifests.iter().find(|e| named(e) && !e.is_ours()) {
            if taken.digest == digest.as_str() {
                return Ok(());
            }
            return Err(RuntimeError::Io(format!(
                "{image} is listed by somebody else as {}: left as it is",
                taken.digest
            )));
        }
        index.manifests.retain(|entry| !named(entry));
        index
            .manifests
            .push(Entry::ours(image, digest, size, &media_type));
        self.save(index).await
    }

    /// Size and type of a manifest of which every part is there.
    async fn whole(
        &self,
        image: &ImageRef,
        digest: &Digest,
    ) -> Result<(ByteSize, String), RuntimeError> {
        let missing = |part: &Digest| RuntimeError::Incomplete {
            image: image.clone(),
            missing: part.clone(),
        };
        let bytes = self.store.read(digest).await?;
        let bytes = bytes.ok_or_else(|| missing(digest))?;
        let manifest = Manifest::parse(&bytes);
        let manifest = manifest.map_err(|e| RuntimeError::Io(format!("{digest}: {e}")))?;
        if let Some(part) = manifest
            .parts()
            .iter()
            .find(|part| self.store.size(part).is_none())
        {
            return Err(missing(part));
        }
        Ok((ByteSize(bytes.len() as u64), Manifest::media_type(&bytes)))
    }

    async fn withdraw_names(
        &self,
        digest: &Digest,
        name: Option<&ImageRef>,
    ) -> Result<(), RuntimeError> {
        let _turn = self.turn.lock().await;
        self.unlist(digest, name).await.map(drop)
    }

    /// Takes our entry of one name of a manifest, or those of all, out of the index; the manifests that
    /// are still listed.
    async fn unlist(
        &self,
        digest: &Digest,
        name: Option<&ImageRef>,
    ) -> Result<Vec<Digest>, RuntimeError> {
        let mut index = self.index().await?;
        let before = index.manifests.len();
        let goes = |entry: &Entry| {
            let named = entry.annotations.get(REF_NAME);
            let meant = name.is_none_or(|name| named.is_some_and(|named| named == name.as_str()));
            entry.digest == digest.as_str() && entry.is_ours() && meant
        };
        index.manifests.retain(|entry| !goes(entry));
        let kept = index.manifests.iter();
        let kept = kept.filter_map(|entry| entry.digest.parse().ok()).collect();
        if index.manifests.len() != before {
            self.save(index).await?;
        }
        Ok(kept)
    }

    async fn give_up(&self, digest: &Digest) -> Result<(), RuntimeError> {
        let _turn = self.turn.lock().await;
        let kept = self.unlist(digest, None).await?;
        let mut needed = BTreeSet::new();
        for root in kept {
            self.closure(root, &mut needed).await?;
        }
        let mut ours = BTreeSet::new();
        self.closure(digest.clone(), &mut ours).await?;
        for blob in ours.difference(&needed) {
            match self.store.remove(blob).await {
                // Somebody writes it just now: it is wanted again.
                Err(RuntimeError::Busy(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds a manifest and everything below it.
    async fn closure(&self, root: Digest, into: &mut BTreeSet<Digest>) -> Result<(), RuntimeError> {
        let mut level = vec![root];
        for _ in 0..DEPTH_MAX {
            let mut below = Vec::new();
            for digest in level {
                if !into.insert(digest.clone()) || self.is_large(&digest) {
                    continue;
                }
                let bytes = self.store.read(&digest).await?;
                if let Some(manifest) = bytes.and_then(|bytes| Manifest::parse(&bytes).ok()) {
                    match manifest {
                        Manifest::Index(_) => below.extend(manifest.parts()),
                        Manifest::Image(_) => into.extend(manifest.parts()),
                    }
                }
            }
            level = below;
        }
        Ok(())
    }

    fn is_large(&self, digest: &Digest) -> bool {
        let size = self.store.size(digest).unwrap_or_default();
        size.0 > MANIFEST_MAX
    }

    async fn index(&self) -> Result<Index, RuntimeError> {
        let path = self.root.join("index.json");
        blocking(move || read_index(&path)).await
    }

    async fn save(&self, index: Index) -> Result<(), RuntimeError> {
        let path = self.root.join("index.json");
        let text = serde_json::to_vec(&index).expect("an index is plain data");
        let durable = self.store.is_durable();
        blocking(move || replace(&path, &text, durable)).await
    }
}

impl ContainerRuntime for OciLayout {
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        let listed = self.store.list().into_iter();
        let digests = listed.map(|(digest, _)| digest).collect();
        Box::pin(async move { Ok(digests) })
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        self.store.read(digest)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        self.store.open(digest, size)
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            match whole.show {
                Show::Record => self.list(&whole.image, &whole.digest).await,
                // Nobody asks a registry who may read a directory: unlisted is as held as it gets.
                Show::Warm => self.whole(&whole.image, &whole.digest).await.map(drop),
            }
        })
    }

    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.withdraw_names(digest, name))
    }

    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.give_up(digest))
    }

    fn images(&self) -> BoxFuture<'_, Result<Option<Vec<StoredImage>>, RuntimeError>> {
        Box::pin(async move { self.stored().await.map(Some) })
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(async move {
            let images = self.listed().await?;
            Ok(images.into_iter().map(|(_, digest)| digest).collect())
        })
    }
}

// === impl Entry ===

impl Entry {
    fn ours(image: &ImageRef, digest: &Digest, size: ByteSize, media_type: &str) -> Self {
        let annotations = [(REF_NAME, image.as_str()), (MANAGED, "true")];
        let mut rest = Map::new();
        rest.insert("mediaType".to_owned(), media_type.into());
        rest.insert("size".to_owned(), size.0.into());
        Self {
            digest: digest.to_string(),
            annotations: annotations
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            rest,
        }
    }

    fn is_ours(&self) -> bool {
        self.annotations.contains_key(MANAGED)
    }
}

fn read_index(path: &Path) -> Result<Index, RuntimeError> {
    let text = fs::read(path).map_err(|e| io_error("read", path, &e))?;
    serde_json::from_slice(&text)
        .map_err(|e| RuntimeError::Io(format!("{} is no OCI index: {e}", path.display())))
}

/// Writes a file as a whole: a crash leaves the old one or the new one.
fn replace(path: &Path, text: &[u8], durable: bool) -> Result<(), RuntimeError> {
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(|e| io_error("create", &new, &e))?;
    let written = file.write_all(text);
    written.map_err(|e| io_error("write", &new, &e))?;
    if durable {
        file.sync_all().map_err(|e| io_error("sync", &new, &e))?;
    }
    let renamed = fs::rename(&new, path);
    renamed.map_err(|e| io_error("rename into", path, &e))?;
    if !durable {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|e| io_error("sync", parent, &e))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(RuntimeError::Io(format!("file work was ended: {e}"))))
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io(format!("cannot {what} {}: {error}", path.display()))
}
