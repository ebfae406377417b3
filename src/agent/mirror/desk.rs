//! Which answer a request gets: from the book, the runtime, and the origin's word.

use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::agent::mirror::book::Book;
use crate::agent::mirror::known::{Access, Document, Name};
use crate::agent::mirror::origin::{Doorman, Word};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::Manifest;
use crate::port::{BlobSource, ContainerRuntime};
use crate::registry::wire::{Asked, Kind};
use crate::telemetry::metric::Counters;

/// Requests that are looked into at the same time; what comes beyond is told to ask elsewhere.
const REQUESTS: usize = 64;

/// Everything that answers are made of.
pub(super) struct Desk {
    book: Book,
    doorman: Doorman,
    runtime: Arc<dyn ContainerRuntime>,
    source: Arc<dyn BlobSource>,
    requests: Semaphore,
    counted: Counters,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A manifest, index or config.
    Document {
        bytes: Bytes,
        media_type: String,
        digest: Digest,
        /// `served`, or `remembered` where the origin did not answer.
        how: &'static str,
    },
    /// A token is needed; where the origin says that one is to be had.
    Challenge(HeaderValue),
    /// Nothing; why, in one word.
    Nothing(&'static str),
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(
        (book, doorman): (Book, Doorman),
        runtime: Arc<dyn ContainerRuntime>,
        source: Arc<dyn BlobSource>,
        counted: Counters,
    ) -> Self {
        Self {
            book,
            doorman,
            runtime,
            source,
            requests: Semaphore::new(REQUESTS),
            counted,
        }
    }

    /// Counts an answer, by its word.
    pub(super) fn count(&self, reply: &Reply) {
        let word = match reply {
            Reply::Document { how, .. } => how,
            Reply::Challenge(_) => "challenged",
            Reply::Nothing(why) => why,
        };
        self.counted.of(word).inc();
    }

    /// The answer to a question about `registry`.
    pub(super) async fn reply(
        &self,
        asked: &Asked,
        registry: &str,
        caller: Option<&HeaderValue>,
    ) -> Reply {
        let Ok(_place) = self.requests.try_acquire() else {
            return Reply::Nothing("busy");
        };
        // Most requests are for what others pull: these names are not even parsed, which the first time takes
        // a regular expression to be built.
        let known = self.book.has(registry, &asked.repository);
        let image = known.then(|| asked.image(registry)).flatten();
        let Some(image) = image else {
            return Reply::Nothing("unknown");
        };
        match (asked.kind, image.digest(), self.book.name(&image)) {
            (Kind::Blob, Some(digest), _) => self.config(&image, digest).await,
            (Kind::Manifest, Some(digest), name) => {
                self.by_digest(&image, &digest, name, caller).await
            }
            (Kind::Manifest, None, Some(name)) => self.by_tag(&image, name, caller).await,
            (_, None, _) => Reply::Nothing("unknown"),
        }
    }

    async fn by_tag(&self, image: &ImageRef, name: Name, caller: Option<&HeaderValue>) -> Reply {
        let (means, how) = match self.doorman.ask(image, name.access, caller).await {
            Word::Means(means) => (means, "served"),
            Word::Remembered(means) => (means, "remembered"),
            Word::Challenge(challenge) => return Reply::Challenge(challenge),
            Word::No(why) => return Reply::Nothing(why),
        };
        self.meaning(image, &name, means, how).await
    }

    /// A digest means what it means: only who may have it is the origin's to say, unless it said so before.
    async fn by_digest(
        &self,
        image: &ImageRef,
        digest: &Digest,
        name: Option<Name>,
        caller: Option<&HeaderValue>,
    ) -> Reply {
        let document = self.book.document(image, digest);
        let access = match (&document, &name) {
            (Some((_, access)), _) => *access,
            (None, Some(name)) => name.access,
            (None, None) => return Reply::Nothing("unknown"),
        };
        if access != Access::Everybody {
            match self.doorman.ask(image, access, caller).await {
                Word::Means(means) | Word::Remembered(means) if means == *digest => {}
                Word::Means(_) | Word::Remembered(_) => return Reply::Nothing("away"),
                Word::Challenge(challenge) => return Reply::Challenge(challenge),
                Word::No(why) => return Reply::Nothing(why),
            }
        }
        match (document, name) {
            (Some((document, _)), _) => self.serve(document, "served").await,
            (None, Some(name)) => self.meaning(image, &name, digest.clone(), "served").await,
            (None, None) => Reply::Nothing("unknown"),
        }
    }

    /// What the reference means, if that leads to the manifest that was brought for it.
    async fn meaning(
        &self,
        image: &ImageRef,
        name: &Name,
        means: Digest,
        how: &'static str,
    ) -> Reply {
        if let Some(document) = name.document(&means) {
            return self.serve(document, how).await;
        }
        if name.moved.as_ref() == Some(&means) {
            return Reply::Nothing("moved");
        }
        let Ok(raw) = self.source.manifest(image, &means).await else {
            return Reply::Nothing("away");
        };
        let leads = Manifest::parse(&raw.bytes).is_ok_and(|parsed| match parsed {
            Manifest::Index(_) => parsed.parts().contains(&name.manifest),
            Manifest::Image(_) => false,
        });
        if !leads {
            self.book.moved(image, &means);
            return Reply::Nothing("moved");
        }
        self.book.indexed(image, &raw);
        self.serve(Document::Index(raw), how).await
    }

    async fn serve(&self, document: Document, how: &'static str) -> Reply {
        match document {
            Document::Index(raw) => Reply::Document {
                bytes: raw.bytes,
                media_type: raw.media_type,
                digest: raw.digest,
                how,
            },
            Document::Manifest(digest) => match self.read(&digest).await {
                Some(bytes) => Reply::Document {
                    media_type: Manifest::media_type(&bytes),
                    bytes,
                    digest,
                    how,
                },
                None => Reply::Nothing("gone"),
            },
        }
    }

    /// The config of an image that everybody may read; layers are kept unpacked, not as blobs.
    async fn config(&self, image: &ImageRef, digest: Digest) -> Reply {
        for manifest in self.book.open_manifests(image) {
            let Some(bytes) = self.read(&manifest).await else {
                continue;
            };
            let parsed = Manifest::parse(&bytes);
            if let Ok(Manifest::Image(parts)) = parsed
                && parts.config.digest == digest
                && let Some(bytes) = self.read(&digest).await
            {
                let media_type = parts.config.media_type;
                return Reply::Document {
                    bytes,
                    media_type,
                    digest,
                    how: "served",
                };
            }
        }
        Reply::Nothing("unknown")
    }

    async fn read(&self, digest: &Digest) -> Option<Bytes> {
        let found = self.runtime.read(digest).await;
        let failed = |error| tracing::warn!(%digest, %error, "cannot read a manifest");
        found.map_err(failed).ok().flatten()
    }
}
