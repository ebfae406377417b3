//! One blob from its upstream to the disk, resumed where it was cut.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use crate::cache::desk::Desk;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::engine::blobs::Input;
use crate::port::{BlobStream, BlobWanted, FetchError, RuntimeError};
use crate::registry::RegistryError;
use crate::store::Writer;

/// Bytes at the end of a blob that no reader gets before the digest is verified: a reader of a
/// wrong blob can never take it for whole.
const HELD_BACK: u64 = 4 << 10;

/// Cuts of one fetch that are resumed as long as each attempt brought something.
const RESUMES: u32 = 8;

/// Pause before a resume; doubles.
const RESUME_PAUSE: Duration = Duration::from_millis(100);

/// Chunks that are written at once when the network is ahead of the disk.
const BATCH: usize = 32;

/// Times that a blob which is just being evicted is waited for, 20 ms each.
const BUSY_TRIES: u32 = 50;

/// Why a fetch ended without a blob.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Upstream(#[from] RegistryError),
    #[error(transparent)]
    Cut(#[from] FetchError),
    #[error(transparent)]
    Store(#[from] RuntimeError),
    #[error("the upstream sends more than the {0} that it announced")]
    TooLong(ByteSize),
    #[error("{0} is more than this cache may hold")]
    TooLarge(ByteSize),
    #[error("the upstream cannot resume, and readers have seen the beginning")]
    NoResume,
    #[error("the cache is closing")]
    Closing,
}

impl Ended {
    /// Whether asking again is no use. A blob that is missing or refused today may be pushed or
    /// allowed tomorrow: such failures only rest.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLarge(_))
    }
}

/// How far one attempt came.
enum Attempt {
    Complete,
    Cut(FetchError),
}

impl Desk {
    /// Runs one fetch to its end and tells the engine.
    pub(super) async fn fetch(self: Arc<Self>, image: ImageRef, digest: Digest) {
        let fetched = tokio::select! {
            fetched = self.bring(&image, &digest) => fetched,
            () = self.stop.cancelled() => Err(Ended::Closing),
        };
        match fetched {
            Ok(size) => {
                self.measures.upstream.of("whole").inc();
                self.store.touch(&digest, self.clock.now());
                self.tell(Input::Finished { digest, size });
            }
            Err(error) => {
                self.measures.upstream.of("failed").inc();
                tracing::warn!(%image, %digest, %error, "upstream did not give a blob");
                let lasting = error.is_lasting();
                self.tell(Input::Failed { digest, lasting });
            }
        }
    }

    async fn bring(self: &Arc<Self>, image: &ImageRef, digest: &Digest) -> Result<ByteSize, Ended> {
        let _slot = self.slots.acquire().await.map_err(|_| Ended::Closing)?;
        let mut writer = self.writer(digest).await?;
        let mut started = false;
        let mut pause = RESUME_PAUSE;
        let mut resumes = 0;
        loop {
            let before = writer.position();
            let wanted = BlobWanted {
                image: image.clone(),
                digest: digest.clone(),
                offset: before,
                avoid: Vec::new(),
            };
            let stream = self.registry.open_blob(&wanted).await?;
            if stream.offset != before {
                if started {
                    writer.restart().await?;
                    return Err(Ended::NoResume);
                }
                writer.restart().await?;
            }
            if let Some(size) = stream.size.filter(|_| !started) {
                self.announce(digest, size, &writer)?;
                started = true;
            }
            match self.take(digest, stream, &mut writer).await? {
                Attempt::Complete => break,
                Attempt::Cut(error) if writer.position() <= before || resumes >= RESUMES => {
                    return Err(error.into());
                }
                Attempt::Cut(error) => {
                    tracing::debug!(%digest, %error, at = writer.position(), "resuming");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    resumes += 1;
                }
            }
        }
        let size = ByteSize(writer.position());
        writer.finish().await?;
        Ok(size)
    }

    /// Readers may begin; a partial blob of an earlier run is readable at once.
    fn announce(
        self: &Arc<Self>,
        digest: &Digest,
        size: ByteSize,
        writer: &Writer,
    ) -> Result<(), Ended> {
        if size > self.blob_max {
            return Err(Ended::TooLarge(size));
        }
        self.tell(Input::Started {
            digest: digest.clone(),
            size,
        });
        self.progress(digest, Some(size), writer);
        Ok(())
    }

    async fn take(
        self: &Arc<Self>,
        digest: &Digest,
        stream: BlobStream,
        writer: &mut Writer,
    ) -> Result<Attempt, Ended> {
        let size = stream.size;
        let limit = size.unwrap_or(self.blob_max);
        let mut batches = stream.chunks.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            for chunk in batch {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        writer.flush().await?;
                        return Ok(Attempt::Cut(error));
                    }
                };
                if writer.position() + chunk.len() as u64 > limit.0 {
                    writer.restart().await?;
                    return Err(Ended::TooLong(limit));
                }
                self.measures.upstream_bytes.inc_by(chunk.len() as u64);
                writer.append(chunk).await?;
            }
            writer.flush().await?;
            self.progress(digest, size, writer);
        }
        // hyper ends a body that is shorter than announced with an error; a connection that ends
        // one of unknown length early shows in the digest only.
        Ok(Attempt::Complete)
    }

    fn progress(self: &Arc<Self>, digest: &Digest, size: Option<ByteSize>, writer: &Writer) {
        let open = size.map_or(0, |size| size.0.saturating_sub(HELD_BACK));
        self.tell(Input::Progress {
            digest: digest.clone(),
            have: ByteSize(writer.flushed().min(open)),
        });
    }

    async fn writer(&self, digest: &Digest) -> Result<Writer, RuntimeError> {
        for _ in 0..BUSY_TRIES {
            match self.store.writer(digest, None).await {
                Err(RuntimeError::Busy(_)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                result => return result,
            }
        }
        Err(RuntimeError::Busy(digest.clone()))
    }
}
