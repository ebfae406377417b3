//! Manifests by digest, and what tags meant when they were last asked.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::cache::measure::Measures;
use crate::cache::tags::{self, TAGS_MAX, Tag};
use crate::cache::{CacheError, Options};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::Manifest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::{Clock, RuntimeError};
use crate::registry::{Registry, RegistryError};
use crate::store::Store;

/// Manifests that are kept; 4 KB each as a rule, so about 80 MB.
const MANIFESTS_MAX: usize = 20_000;

/// References that are being asked for before abandoned questions are swept out.
const ASKING_MAX: usize = 4096;

/// How long a registry that did not answer is not asked again about the same tag.
const DOWN_PAUSE: Duration = Duration::from_secs(5);

/// A manifest to answer with.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size: ByteSize,
    /// Seconds since the registry was last asked, where it no longer answers.
    pub(super) stale_s: Option<u64>,
}

/// All of them.
pub(super) struct Manifests {
    store: Store,
    tags: PathBuf,
    known: Mutex<Known>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    fresh: Duration,
    measures: Measures,
}

#[derive(Default)]
struct Known {
    tags: HashMap<ImageRef, Tag>,
    /// Registries that did not answer for a tag, and until when they are not asked again.
    down: HashMap<ImageRef, Timestamp>,
    /// One question at a time per reference: many nodes ask for the same tag at once.
    asking: HashMap<ImageRef, Arc<tokio::sync::Mutex<()>>>,
}

impl Manifests {
    pub(super) fn open(
        options: &Options,
        registry: Arc<Registry>,
        measures: Measures,
    ) -> Result<Self, CacheError> {
        let now = options.clock.now();
        let (store, _) = Store::open_with(
            &options.directory.join("manifests"),
            now,
            options.durability,
        )?;
        let tags = options.directory.join("tags");
        fs::create_dir_all(&tags)
            .map_err(|e| RuntimeError::Io(format!("cannot create {}: {e}", tags.display())))?;
        let known = Known {
            tags: tags::load(&tags),
            ..Known::default()
        };
        Ok(Self {
            store,
            tags,
            known: Mutex::new(known),
            registry,
            clock: options.clock.clone(),
            fresh: options.fresh,
            measures,
        })
    }

    /// What a tag means: from memory while fresh, else after asking the registry; what it last
    /// meant where the registry does not answer. `None` when it is not to be had here.
    pub(super) async fn by_tag(&self, image: &ImageRef) -> Option<Found> {
        if let Some(found) = self.fresh(image) {
            return Some(found);
        }
        let turn = self.turn(image);
        let held = turn.lock().await;
        let found = match self.fresh(image) {
            Some(found) => Some(found),
            None => self.ask(image).await,
        };
        drop(held);
        self.end_turn(image, &turn);
        found
    }

    /// A manifest by digest, from disk or from the registry.
    pub(super) async fn by_digest(&self, image: &ImageRef, digest: &Digest) -> Option<Found> {
        let bytes = self.body(image, digest).await?;
        Some(Found {
            digest: digest.clone(),
            media_type: Manifest::media_type(&bytes),
            size: ByteSize(bytes.len() as u64),
            stale_s: None,
        })
    }

    /// Its bytes: from disk, or from the registry where it is not, or no longer, there.
    pub(super) async fn body(&self, image: &ImageRef, digest: &Digest) -> Option<Bytes> {
        match self.bytes(digest).await {
            Some(bytes) => Some(bytes),
            None => self.fetch_once(image, digest).await,
        }
    }

    async fn fetch_once(&self, image: &ImageRef, digest: &Digest) -> Option<Bytes> {
        let turn = self.turn(image);
        let held = turn.lock().await;
        let bytes = match self.bytes(digest).await {
            Some(bytes) => Some(bytes),
            None => self.fetch(image, digest.as_str()).await.ok().map(|f| f.1),
        };
        drop(held);
        self.end_turn(image, &turn);
        bytes
    }

    /// Bytes of a manifest that is here.
    async fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.store.touch(digest, self.clock.now());
        match self.store.read(digest).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot read a stored manifest");
                None
            }
        }
    }

    /// Asks the registry with HEAD; fetches only what changed.
    async fn ask(&self, image: &ImageRef) -> Option<Found> {
        let tag = image.tag().unwrap_or("latest");
        let old = self.known().tags.get(image).cloned();
        let answer = match self.registry.head_manifest(image, tag).await {
            Ok(head) if self.store.size(&head.digest).is_some() => {
                self.measures.upstream.of("revalidated").inc();
                let bytes = self.bytes(&head.digest).await;
                bytes.ok_or_else(|| RegistryError::Broken("manifest is gone".into()))
            }
            Ok(head) => self.fetch(image, head.digest.as_str()).await.map(|f| f.1),
            Err(error) => Err(error),
        };
        match answer {
            Ok(bytes) => Some(self.learn(image, &bytes)),
            Err(RegistryError::NotFound(_) | RegistryError::Denied(_)) => {
                self.forget(image);
                None
            }
            Err(error) => {
                tracing::warn!(%image, %error, "registry does not answer");
                let now = self.clock.now();
                let mut known = self.known();
                known.down.retain(|_, until| now < *until);
                known.down.insert(image.clone(), now + DOWN_PAUSE);
                drop(known);
                old.map(|tag| self.stale(&tag, now))
            }
        }
    }

    async fn fetch(
        &self,
        image: &ImageRef,
        reference: &str,
    ) -> Result<(Digest, Bytes), RegistryError> {
        let raw = self.registry.fetch_manifest(image, reference).await?;
        self.measures.upstream_bytes.inc_by(raw.bytes.len() as u64);
        if let Err(error) = self.store.put(&raw.digest, raw.bytes.clone()).await {
            tracing::warn!(digest = %raw.digest, %error, "cannot store a manifest");
        }
        self.store.touch(&raw.digest, self.clock.now());
        self.trim().await;
        Ok((raw.digest, raw.bytes))
    }

    fn fresh(&self, image: &ImageRef) -> Option<Found> {
        let now = self.clock.now();
        let known = self.known();
        let tag = known.tags.get(image)?;
        if now.since(tag.checked) < self.fresh {
            return Some(tag.found(None));
        }
        let down = known.down.get(image).is_some_and(|until| now < *until);
        let tag = down.then(|| tag.clone())?;
        drop(known);
        Some(self.stale(&tag, now))
    }

    fn stale(&self, tag: &Tag, now: Timestamp) -> Found {
        self.measures.upstream.of("stale").inc();
        tag.found(Some(now.since(tag.checked).as_secs()))
    }

    fn learn(&self, image: &ImageRef, bytes: &Bytes) -> Found {
        let tag = Tag {
            image: image.clone(),
            digest: Digest::from_sha256(digest(&SHA256, bytes).as_ref()),
            size: ByteSize(bytes.len() as u64),
            media_type: Manifest::media_type(bytes),
            checked: self.clock.now(),
        };
        let found = tag.found(None);
        let mut known = self.known();
        known.down.remove(image);
        let changed = known
            .tags
            .get(image)
            .is_none_or(|old| old.digest != tag.digest);
        known.tags.insert(image.clone(), tag.clone());
        let surplus = if known.tags.len() > TAGS_MAX {
            known.oldest()
        } else {
            None
        };
        if let Some(surplus) = &surplus {
            known.tags.remove(surplus);
        }
        drop(known);
        // Written only when the meaning changed: an older `checked` after a restart costs one HEAD.
        if changed {
            let path = tags::path(&self.tags, image);
            spawn_blocking(move || tags::save(&path, &tag));
        }
        if let Some(surplus) = surplus {
            self.forget(&surplus);
        }
        found
    }

    fn forget(&self, image: &ImageRef) {
        let mut known = self.known();
        known.tags.remove(image);
        known.down.remove(image);
        drop(known);
        let path = tags::path(&self.tags, image);
        spawn_blocking(move || fs::remove_file(path));
    }

    /// Drops the manifests that were not asked for the longest, a tenth at once.
    async fn trim(&self) {
        let mut entries = self.store.entries();
        if entries.len() <= MANIFESTS_MAX {
            return;
        }
        entries.sort_by_key(|(_, entry)| entry.used);
        for (digest, _) in entries.into_iter().take(MANIFESTS_MAX / 10) {
            if let Err(error) = self.store.remove(&digest).await {
                tracing::warn!(%digest, %error, "cannot drop a manifest");
            }
        }
    }

    fn turn(&self, image: &ImageRef) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.known();
        if known.asking.len() >= ASKING_MAX {
            // Left by clients that went away before their answer.
            known.asking.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        known.asking.entry(image.clone()).or_default().clone()
    }

    fn end_turn(&self, image: &ImageRef, turn: &Arc<tokio::sync::Mutex<()>>) {
        let mut known = self.known();
        // Two owners are the caller and the map: nobody waits.
        if Arc::strong_count(turn) == 2 {
            known.asking.remove(image);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change under the lock is one insertion or removal.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn oldest(&self) -> Option<ImageRef> {
        let oldest = self.tags.values().min_by_key(|tag| tag.checked);
        oldest.map(|tag| tag.image.clone())
    }
}
