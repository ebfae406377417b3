//! Moves one manifest or blob from a source into the runtime, verified, resumed where it was cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::agent::measure::Measures;
use crate::agent::pace::Pace;
use crate::agent::show::{ShowError, Shower};
use crate::agent::whole;
use crate::domain::image::{Digest, ImageManifest, ImageRef, Platform};
use crate::domain::manifest::{ImageParts, MANIFEST_MAX, Manifest, ManifestError, Part};
use crate::domain::plan::Priority;
use crate::domain::quantity::ByteSize;
use crate::port::{BlobSource, BlobWanted, BlobWriter, ContainerRuntime, FetchError, RuntimeError};

/// Attempts of one transfer that are made at once, without the engine's back-off: after a cut that
/// left more bytes than before, or after wrong bytes when somebody else can be asked.
const TRIES: u32 = 8;

/// Endpoints that are remembered to have sent wrong bytes: caches and origin are a handful.
const AVOID_MAX: usize = 8;

/// Everything that tasks share.
#[derive(Clone)]
pub(super) struct Puller {
    pub(super) runtime: Arc<dyn ContainerRuntime>,
    pub(super) source: Arc<dyn BlobSource>,
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) measures: Measures,
}

/// A blob to move.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) image: ImageRef,
    pub(super) digest: Digest,
    pub(super) size: ByteSize,
    pub(super) priority: Priority,
    /// The node's, where it matters to whoever brings it.
    pub(super) platform: Option<Platform>,
}

/// What a transfer did, whether or not it succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes that travelled.
    pub(super) bytes: u64,
    /// Where the last of them came from.
    pub(super) from: Option<&'static str>,
}

/// One try of one transfer.
struct Attempt<'a> {
    order: &'a Order,
    avoid: Vec<String>,
    moved: &'a mut Moved,
    /// Who answered.
    endpoint: Option<String>,
    stop: &'a CancellationToken,
}

/// Why there is no blob or manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// The source.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What came is of no use.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The digest leads to an index, a plan's has to lead to one platform's manifest.
    #[error("{0} is an index, not one platform's manifest")]
    Index(Digest),
    /// The config is larger than any.
    #[error("config {0} has {1}")]
    Config(Digest, ByteSize),
    /// It is whole, and must not be recorded now.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// It was stopped; the partial blob is kept.
    #[error("stopped")]
    Stopped,
}

impl PullError {
    /// Whether trying again is no use.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_lasting(),
            Self::Manifest(_) | Self::Index(_) | Self::Config(..) => true,
            Self::Show(error) => error.is_lasting(),
            Self::Runtime(_) | Self::Stopped => false,
        }
    }

    /// A word for the metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(FetchError::NotFound(_)) => "not-found",
            Self::Fetch(FetchError::Denied(_)) => "denied",
            Self::Fetch(FetchError::Broken(_)) => "broken",
            Self::Fetch(FetchError::Unavailable(_)) => "unavailable",
            Self::Runtime(RuntimeError::WrongDigest { .. }) => "wrong-digest",
            Self::Runtime(RuntimeError::WrongSize { .. }) => "wrong-size",
            Self::Runtime(RuntimeError::Busy(_)) => "busy",
            Self::Runtime(RuntimeError::Full(_)) => "disk-full",
            Self::Runtime(_) => "runtime",
            Self::Manifest(_) | Self::Index(_) | Self::Config(..) => "manifest",
            Self::Show(error) => error.reason(),
            Self::Stopped => "stopped",
        }
    }
}

impl Puller {
    /// The manifest with its config, both in the runtime, both verified; and its layers that have to
    /// be brought.
    pub(super) async fn manifest(
        &self,
        image: &ImageRef,
        digest: &Digest,
    ) -> Result<(ImageManifest, Vec<Digest>), PullError> {
        let bytes = if let Some(bytes) = self.runtime.read(digest).await? {
            bytes
        } else {
            let raw = self.source.manifest(image, digest).await?;
            self.store(digest, raw.bytes.clone()).await?;
            raw.bytes
        };
        let parts = match Manifest::parse(&bytes)? {
            Manifest::Image(parts) => parts,
            Manifest::Index(_) => return Err(PullError::Index(digest.clone())),
        };
        let config = self.config(image, &parts).await?;
        let manifest =
            self.counted(parts.to_manifest(digest.clone(), Platform::of_config(&config)?));
        let lacking = self.runtime.lacking(&manifest).await?;
        Ok((manifest, lacking))
    }

    /// A manifest that an earlier run recorded: everything of it is in the runtime.
    pub(super) async fn kept(&self, digest: &Digest) -> Result<ImageManifest, PullError> {
        let read = async |digest: &Digest| {
            let bytes = self.runtime.read(digest).await?;
            bytes.ok_or_else(|| PullError::from(FetchError::NotFound(digest.clone())))
        };
        let parts = match Manifest::parse(&read(digest).await?)? {
            Manifest::Image(parts) => parts,
            Manifest::Index(_) => return Err(PullError::Index(digest.clone())),
        };
        let config = read(&parts.config.digest).await?;
        Ok(self.counted(parts.to_manifest(digest.clone(), Platform::of_config(&config)?)))
    }

    /// The image in the parts in which it comes.
    fn counted(&self, manifest: ImageManifest) -> ImageManifest {
        if self.runtime.brings_images() {
            return whole::as_one(manifest);
        }
        manifest
    }

    async fn config(&self, image: &ImageRef, parts: &ImageParts) -> Result<Bytes, PullError> {
        let Part { digest, size, .. } = &parts.config;
        if size.0 > MANIFEST_MAX {
            return Err(PullError::Config(digest.clone(), *size));
        }
        if self.runtime.read(digest).await?.is_none() {
            let order = Order {
                image: image.clone(),
                digest: digest.clone(),
                size: *size,
                priority: Priority::Pending,
                platform: None,
            };
            let mut moved = Moved::default();
            match self
                .blob(&order, &mut moved, &CancellationToken::new())
                .await
            {
                // Two images with one config: the other one's fetch has brought it by now, or will
                // before the engine asks again.
                Ok(()) | Err(PullError::Runtime(RuntimeError::Busy(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let found = self.runtime.read(digest).await?;
        found.ok_or_else(|| RuntimeError::Busy(digest.clone()).into())
    }

    async fn store(&self, digest: &Digest, bytes: Bytes) -> Result<(), PullError> {
        let size = ByteSize(bytes.len() as u64);
        let mut writer = self.runtime.open(digest, Some(size)).await?;
        writer.restart().await?;
        writer.write(bytes).await?;
        Ok(writer.commit().await?)
    }

    /// Has a blob come, or an image that is one.
    pub(super) async fn fetch(
        &self,
        order: &Order,
        shower: &Shower,
        stop: &CancellationToken,
    ) -> (Moved, Result<(), PullError>) {
        if !self.runtime.brings_images() {
            let mut moved = Moved::default();
            let came = self.blob(order, &mut moved, stop).await;
            return (moved, came);
        }
        let (moved, came) = whole::bring(&*self.runtime, shower, order, stop).await;
        if let Some(from) = moved.from {
            self.measures.fetched_bytes.of(from).inc_by(moved.bytes);
            let total = &self.measures.moved;
            total.fetch_add(moved.bytes, Ordering::Relaxed);
        }
        (moved, came)
    }

    /// Streams a blob into the runtime. What travelled is told in `moved` even when it fails.
    pub(super) async fn blob(
        &self,
        order: &Order,
        moved: &mut Moved,
        stop: &CancellationToken,
    ) -> Result<(), PullError> {
        let mut avoid: Vec<String> = Vec::new();
        let mut wrong = None;
        let mut tries = 1;
        loop {
            // Layers wait for their turn there.
            let mut writer = tokio::select! {
                opened = self.runtime.open(&order.digest, Some(order.size)) => opened?,
                () = stop.cancelled() => return Err(PullError::Stopped),
            };
            let before = writer.offset();
            let mut attempt = Attempt {
                order,
                avoid: avoid.clone(),
                moved: &mut *moved,
                endpoint: None,
                stop,
            };
            let streamed = self.stream(&mut writer, &mut attempt).await;
            let endpoint = attempt.endpoint;
            let error = match streamed {
                Ok(()) => match writer.commit().await {
                    Ok(()) => return Ok(()),
                    Err(error) => error.into(),
                },
                Err(error) => {
                    let further = writer.offset() > before;
                    writer.suspend().await?;
                    if !further && !is_wrong(&error) {
                        // That nobody is left to ask is less than why.
                        return Err(wrong.unwrap_or(error));
                    }
                    error
                }
            };
            let again = match &error {
                PullError::Fetch(_) => true,
                // Bytes that an earlier attempt left may be the wrong ones: only who sent all of
                // them is blamed.
                error if is_wrong(error) => {
                    avoid.extend(endpoint.filter(|_| before == 0));
                    avoid.len() <= AVOID_MAX
                }
                _ => false,
            };
            if !again || tries >= TRIES {
                return Err(error);
            }
            self.measures.failed.of(error.reason()).inc();
            tracing::debug!(digest = %order.digest, %error, "trying again");
            tries += 1;
            if is_wrong(&error) {
                wrong = Some(error);
            }
        }
    }

    async fn stream(
        &self,
        writer: &mut Box<dyn BlobWriter>,
        attempt: &mut Attempt<'_>,
    ) -> Result<(), PullError> {
        let (order, stop) = (attempt.order, attempt.stop);
        let wanted = BlobWanted {
            image: order.image.clone(),
            digest: order.digest.clone(),
            offset: writer.offset(),
            avoid: std::mem::take(&mut attempt.avoid),
        };
        if wanted.offset == order.size.0 {
            // A crash came between the last byte and the rename.
            return Ok(());
        }
        let opened = tokio::select! {
            opened = self.source.blob(&wanted) => opened,
            () = stop.cancelled() => return Err(PullError::Stopped),
        };
        let mut blob = opened?;
        attempt.endpoint = Some(blob.endpoint.clone());
        attempt.moved.from = Some(blob.from);
        if blob.offset != wanted.offset {
            writer.restart().await?;
        }
        let received = self.measures.fetched_bytes.of(blob.from);
        let pace = self
            .pace
            .as_ref()
            .filter(|_| order.priority != Priority::Pending);
        loop {
            let next = tokio::select! {
                next = blob.chunks.next() => next,
                () = stop.cancelled() => return Err(PullError::Stopped),
            };
            let Some(chunk) = next else {
                return Ok(());
            };
            let chunk = chunk?;
            attempt.moved.bytes += chunk.len() as u64;
            received.inc_by(chunk.len() as u64);
            let moved = &self.measures.moved;
            moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if let Some(pace) = pace {
                pace.pass(chunk.len()).await;
            }
            writer.write(chunk).await?;
        }
    }
}

fn is_wrong(error: &PullError) -> bool {
    let PullError::Runtime(error) = error else {
        return false;
    };
    matches!(
        error,
        RuntimeError::WrongDigest { .. } | RuntimeError::WrongSize { .. }
    )
}
