//! L3: the traits through which engines' drivers see the outside.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// The only source of time outside the engines.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Completes when `now()` has reached `at`.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}

/// Finds out what references mean.
pub trait ImageResolver: Send + Sync + 'static {
    /// One manifest per platform, attestations and other non-images left out.
    fn resolve<'a>(
        &'a self,
        image: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Vec<ImageManifest>, ResolveError>>;
}

/// Hands out manifests and blobs, from wherever they can be had first.
pub trait BlobSource: Send + Sync + 'static {
    /// The exact, verified bytes of the manifest with this digest.
    fn manifest<'a>(
        &'a self,
        image: &'a ImageRef,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<RawManifest, FetchError>>;

    /// A stream of the blob; its bytes are NOT verified yet, that is the writer's.
    fn blob<'a>(&'a self, wanted: &'a BlobWanted) -> BoxFuture<'a, Result<BlobStream, FetchError>>;
}

/// Says what references mean now, to somebody who is nobody: no credentials, no cache.
pub trait Tags: Send + Sync + 'static {
    /// Digest of the manifest or index that the reference leads to; [`ResolveError::Denied`] where
    /// only those may know who have credentials.
    fn meaning<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Digest, ResolveError>>;
}

/// Longest time for which something is pinned at once: so long an agent that is gone for good keeps the kubelet
/// from it. As long as an unused byte has to prove itself in the scores (design section 7).
pub const PIN_LONGEST: Duration = Duration::from_hours(1);

/// What a node's containers run from: takes blobs, then records images.
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Whether images only come whole, brought by the runtime itself when `record` asks for them. Then
    /// `inventory` and `lacking` name images by their manifests, and only manifests and configs are written.
    fn brings_images(&self) -> bool {
        false
    }

    /// Blobs that are whole and verified, whoever brought them.
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>>;

    /// Layers of this image, its manifest and config being there, that have to be brought before it
    /// can be recorded. A layer that another image has may be among them: a runtime that keeps layers
    /// unpacked keeps them by what lies below.
    fn lacking<'a>(
        &'a self,
        manifest: &'a ImageManifest,
    ) -> BoxFuture<'a, Result<Vec<Digest>, RuntimeError>> {
        async {
            let present = self.inventory().await?;
            let layers = manifest.layers.iter().map(|layer| layer.digest.clone());
            Ok(layers.filter(|layer| !present.contains(layer)).collect())
        }
        .boxed()
    }

    /// A small blob (manifest, config) that is there; `None` when it is not.
    fn read<'a>(&'a self, digest: &'a Digest)
    -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>>;

    /// A writer that stands where an earlier attempt at this blob ended.
    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>>;

    /// Does everything for a record that may take long, and shows nothing yet: layers into their places,
    /// onto the disk. [`RuntimeError::Incomplete`] where a part is missing. Nothing to do where
    /// recording is as quick as a question to a registry.
    fn prepare<'a>(
        &'a self,
        _image: &'a ImageRef,
        _digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async { Ok(()) }.boxed()
    }

    /// Shows an image that `prepare` was called for to pods: manifest, config and every layer have to be
    /// there. Asked again, it shows it in the other way. Milliseconds: what the image's registry said just
    /// before must still hold.
    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Takes away what `record` made for this manifest by this name, or by all; its blobs stay.
    /// [`RuntimeError::InUse`] where a container was started by it: that record stays.
    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Keeps the kubelet's collector from what `record` made for this manifest, until then: a later call
    /// moves the end. Ends with `withdraw` and `release` too, and by itself when the agent is gone for good;
    /// a runtime that cannot promise that does not pin.
    fn pin<'a>(
        &'a self,
        _digest: &'a Digest,
        _until: Timestamp,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async { Ok(()) }.boxed()
    }

    /// Gives up what `record` made for this manifest and the blobs that only it needs;
    /// images that others made are never touched.
    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Manifests that `record` was called for and `release` was not, earlier runs included; empty
    /// where the runtime does not keep them.
    fn recorded(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    /// Every image that it has, whoever brought it; `None` where it cannot tell.
    fn images(&self) -> BoxFuture<'_, Result<Option<Vec<StoredImage>>, RuntimeError>> {
        async { Ok(None) }.boxed()
    }

    /// Bytes that may be added to its disk before the kubelet begins to remove images; `None` where
    /// that is nobody's business.
    fn room(&self) -> BoxFuture<'_, Result<Option<ByteSize>, RuntimeError>> {
        async { Ok(None) }.boxed()
    }

    /// Waits for what still goes on in the background: whoever ends then leaves nothing half done.
    fn settle(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    /// What others do to the runtime, as it happens; silent where the runtime cannot tell.
    fn changes(&self) -> BoxStream<'static, RuntimeChange> {
        stream::pending().boxed()
    }
}

/// An image of which every part is there, and how pods come by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// As pods name it.
    pub image: ImageRef,
    /// The manifest of the node's platform.
    pub digest: Digest,
    /// What the name means at its registry, where that is an index which lists the manifest.
    pub index: Option<RawManifest>,
    /// How.
    pub show: Show,
}

/// How pods come by an image that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// By a record: at once, without a word to the registry.
    Record,
    /// Unpacked and held, but not recorded: the kubelet asks the registry what the name means and who
    /// may have it, and moves no layer.
    Warm,
}

/// Something that somebody else did to a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeChange {
    /// A blob is there now.
    Present(Digest),
    /// Somebody took a record away that was made here.
    Gone {
        /// its name
        image: ImageRef,
        /// the manifest that it led to
        digest: Digest,
    },
    /// Images have come, gone or got other names: [`ContainerRuntime::images`] says something else now.
    Images,
    /// Something may have happened unseen: what is there has to be listed anew.
    Unseen,
    /// The kubelet began (`active`) or ended to fetch or unpack something itself.
    Foreground {
        /// the blob that it fetches, or the chain of layers whose topmost it unpacks
        digest: Digest,
        /// began or ended
        active: bool,
    },
}

/// Content-addressed blobs: what is visible is verified.
pub trait BlobStore: Send + Sync + 'static {
    /// Blobs that are whole, with their bytes.
    fn list(&self) -> Vec<(Digest, ByteSize)>;

    /// Size of a blob that is whole.
    fn size(&self, digest: &Digest) -> Option<ByteSize>;

    /// A small blob (manifest, config) that is there; `None` when it is not.
    fn read<'a>(&'a self, digest: &'a Digest)
    -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>>;

    /// A writer that stands where an earlier attempt at this blob ended.
    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>>;

    /// The file of a blob that is whole, where blobs are files.
    fn file(&self, digest: &Digest) -> Option<PathBuf>;

    /// Whether what is visible survives a power cut.
    fn is_durable(&self) -> bool;

    /// Drops a blob, whole or partial; no error when there is none.
    fn remove<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>>;
}

/// One blob on its way into a runtime or store: invisible until `commit` has verified it.
pub trait BlobWriter: Send {
    /// Bytes that are there already: the next chunk has to begin here.
    fn offset(&self) -> u64;

    /// Appends. More bytes than the blob has are refused.
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Throws away what is there: the sender cannot resume.
    fn restart(&mut self) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Keeps what is there for a later resume.
    fn suspend(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>>;

    /// Compares the digest and makes the blob visible; wrong bytes are discarded.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>>;
}

/// A manifest as it was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// Of `bytes`.
    pub digest: Digest,
    /// As the server named it.
    pub media_type: String,
    /// Exact bytes.
    pub bytes: Bytes,
}

/// Which blob, from which byte on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobWanted {
    /// An image that needs it: tells registry and repository.
    pub image: ImageRef,
    /// Blob.
    pub digest: Digest,
    /// First byte that is missing.
    pub offset: u64,
    /// Endpoints (as [`BlobStream::endpoint`] named them) that sent wrong bytes before.
    pub avoid: Vec<String>,
}

/// A blob on its way.
pub struct BlobStream {
    /// `cache`, `peer` or `origin`.
    pub from: &'static str,
    /// Which endpoint it is, for `avoid`.
    pub endpoint: String,
    /// Where the stream begins: the offset asked for, or 0 where the server cannot resume.
    pub offset: u64,
    /// Bytes of the whole blob, where told.
    pub size: Option<ByteSize>,
    /// The bytes; ends with an error when cut.
    pub chunks: BoxStream<'static, Result<Bytes, FetchError>>,
}

/// A reference that cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such repository, tag or digest.
    #[error("{image} does not exist at its registry")]
    NotFound {
        /// what was asked
        image: ImageRef,
    },
    /// Credentials are missing or not enough.
    #[error("{image}: the registry refuses access: {reason}")]
    Denied {
        /// what was asked
        image: ImageRef,
        /// the registry's words
        reason: String,
    },
    /// What came is no usable manifest.
    #[error("{image}: {reason}")]
    Broken {
        /// what was asked
        image: ImageRef,
        /// what is wrong with it
        reason: String,
    },
    /// Nobody answered: trying again later may help.
    #[error("{image}: no answer: {reason}")]
    Unavailable {
        /// what was asked
        image: ImageRef,
        /// the last failure
        reason: String,
    },
}

/// A manifest or blob that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody has it: trying again is no use.
    #[error("{0} does not exist where it was looked for")]
    NotFound(Digest),
    /// Credentials are missing or not enough: trying again is no use.
    #[error("access refused: {0}")]
    Denied(String),
    /// Bytes that do not match their digest, or are no manifest.
    #[error("{0}")]
    Broken(String),
    /// Cut, stalled, refused or out of order: trying again may help.
    #[error("{0}")]
    Unavailable(String),
}

/// A runtime or store that cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The bytes are not the blob's: they are discarded.
    #[error("bytes for {expected} have digest {found}: discarded")]
    WrongDigest {
        /// what was wanted
        expected: Digest,
        /// what came
        found: Digest,
    },
    /// More or fewer bytes than the blob has: they are discarded.
    #[error("{digest} has {expected} bytes, not {found}: discarded")]
    WrongSize {
        /// blob
        digest: Digest,
        /// bytes it should have
        expected: u64,
        /// bytes that came (at least)
        found: u64,
    },
    /// A container was started from this image, by this name: it cannot be taken away.
    #[error("{0} is used by a container")]
    InUse(Digest),
    /// The disk is full: less has to be wanted.
    #[error("{0}")]
    Full(String),
    /// Somebody else is writing this blob now.
    #[error("{0} is being written already")]
    Busy(Digest),
    /// A record was asked for while parts are missing.
    #[error("{image} is not whole: {missing} is missing")]
    Incomplete {
        /// image
        image: ImageRef,
        /// the first part that is missing
        missing: Digest,
    },
    /// Disk full, permission, ...: what was done, and the system's words.
    #[error("{0}")]
    Io(String),
}

impl FetchError {
    /// Whether trying again is no use.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Denied(_))
    }
}
