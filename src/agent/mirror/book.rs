//! The one book of names that an agent writes in and its mirror answers from.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::agent::mirror::known::{Access, Document, Known, Name};
use crate::domain::image::{Digest, ImageRef};
use crate::port::{Clock, RawManifest};

/// Tags of which the move waits to be looked into; what is beyond is found by the agent's own recheck.
const MOVED_MAX: usize = 64;

/// What an agent knows of names, shared with its mirror. Cheap to clone.
#[derive(Clone)]
pub struct Book {
    shared: Arc<Shared>,
}

struct Shared {
    pages: Mutex<Pages>,
    fresh: Duration,
    clock: Arc<dyn Clock>,
    turned: Notify,
}

#[derive(Default)]
struct Pages {
    known: Known,
    moved: VecDeque<(ImageRef, Digest)>,
}

// === impl Book ===

impl Book {
    /// An empty one. What an origin said counts for `fresh` where it does not answer.
    pub fn new(fresh: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                pages: Mutex::default(),
                fresh,
                clock,
                turned: Notify::new(),
            }),
        }
    }

    pub(in crate::agent) fn hold(&self, image: &ImageRef, manifest: &Digest) {
        let now = self.shared.clock.now();
        self.pages().known.hold(image, manifest, now);
    }

    pub(in crate::agent) fn said(&self, image: &ImageRef, means: &Digest) {
        let now = self.shared.clock.now();
        self.pages().known.said(image, means, now);
    }

    pub(in crate::agent) fn closed(&self, image: &ImageRef) {
        self.pages().known.closed(image);
    }

    pub(in crate::agent) fn indexed(&self, image: &ImageRef, index: &RawManifest) {
        self.pages().known.indexed(image, index);
    }

    pub(in crate::agent) fn forget(&self, manifest: &Digest) {
        self.pages().known.forget(manifest);
    }

    /// The next tag that moved, with the manifest that it was brought for. One reader at a time.
    pub(in crate::agent) async fn next_moved(&self) -> (ImageRef, Digest) {
        loop {
            let next = self.pages().moved.pop_front();
            match next {
                Some(moved) => return moved,
                None => self.shared.turned.notified().await,
            }
        }
    }

    pub(super) fn moved(&self, image: &ImageRef, to: &Digest) {
        let mut pages = self.pages();
        let news = pages.known.moved(image, to) && pages.moved.len() < MOVED_MAX;
        let brought = pages.known.name(image).filter(|_| news);
        if let Some(manifest) = brought.map(|name| name.manifest.clone()) {
            pages.moved.push_back((image.clone(), manifest));
            self.shared.turned.notify_one();
        }
    }

    pub(super) fn has(&self, registry: &str, repository: &str) -> bool {
        self.pages().known.has(registry, repository)
    }

    pub(super) fn name(&self, image: &ImageRef) -> Option<Name> {
        self.pages().known.name(image).cloned()
    }

    pub(super) fn remembered(&self, image: &ImageRef) -> Option<Digest> {
        let now = self.shared.clock.now();
        self.pages().known.remembered(image, self.shared.fresh, now)
    }

    pub(super) fn document(&self, image: &ImageRef, digest: &Digest) -> Option<(Document, Access)> {
        self.pages().known.document(image, digest)
    }

    /// Manifests in the repository of `image` that everybody may read.
    pub(super) fn open_manifests(&self, image: &ImageRef) -> Vec<Digest> {
        let pages = self.pages();
        let siblings = pages.known.siblings(image);
        let open = siblings.filter(|(_, name)| name.access == Access::Everybody);
        let mut manifests: Vec<Digest> = open.map(|(_, name)| name.manifest.clone()).collect();
        manifests.sort();
        manifests.dedup();
        manifests
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Every change under the lock leaves it whole.
        let pages = self.shared.pages.lock();
        pages.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}
