//! The async side of one partial blob.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::port::{BlobWriter, RuntimeError};
use crate::store::ingest::Partial;
use crate::store::{Store, run};

/// Bytes gathered before a thread is asked to hash and write them: network chunks are 8 to 64 KiB,
/// a hop to the blocking pool costs about 10 us, hashing 256 KiB about 150 us.
const FLUSH_AT: usize = 256 << 10;

/// Takes a blob's bytes in order. Dropping it keeps what was flushed for a resume.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    digest: Digest,
    /// Away while a thread works on it; gone for good when such work was abandoned.
    partial: Option<Partial>,
    gathered: Vec<Bytes>,
    gathered_len: usize,
    flushed: u64,
}

impl Writer {
    pub(super) fn new(store: Store, partial: Partial) -> Self {
        Self {
            store,
            digest: partial.digest().clone(),
            flushed: partial.len(),
            partial: Some(partial),
            gathered: Vec::new(),
            gathered_len: 0,
        }
    }

    /// Bytes taken so far, earlier attempts included.
    pub fn position(&self) -> u64 {
        self.flushed + self.gathered_len as u64
    }

    /// Bytes that a reader of the partial file can see.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Appends.
    ///
    /// # Errors
    /// [`RuntimeError::WrongSize`] when there are more bytes than the blob has, [`RuntimeError::Io`].
    pub async fn append(&mut self, chunk: Bytes) -> Result<(), RuntimeError> {
        self.gathered_len += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_len >= FLUSH_AT {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands everything to the file.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub async fn flush(&mut self) -> Result<(), RuntimeError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.gathered);
        self.gathered_len = 0;
        self.with_partial(move |partial| partial.append(&chunks))
            .await
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// [`RuntimeError::Io`].
    pub async fn restart(&mut self) -> Result<(), RuntimeError> {
        self.gathered.clear();
        self.gathered_len = 0;
        if self.flushed == 0 {
            return Ok(());
        }
        self.with_partial(Partial::restart).await
    }

    /// Verifies the digest and makes the blob visible; wrong bytes are discarded.
    ///
    /// # Errors
    /// [`RuntimeError::WrongDigest`], [`RuntimeError::WrongSize`], [`RuntimeError::Io`].
    pub async fn finish(mut self) -> Result<(), RuntimeError> {
        self.flush().await?;
        let partial = self.partial.take().ok_or_else(|| self.abandoned())?;
        let to = self.store.blob_path(&self.digest);
        let store = self.store.clone();
        let digest = self.digest.clone();
        run(move || {
            let size = partial.finish(&to)?;
            store.remember(&digest, ByteSize(size));
            Ok(())
        })
        .await
    }

    async fn with_partial(
        &mut self,
        work: impl FnOnce(&mut Partial) -> Result<(), RuntimeError> + Send + 'static,
    ) -> Result<(), RuntimeError> {
        let mut partial = self.partial.take().ok_or_else(|| self.abandoned())?;
        let (partial, result) = run(move || {
            let result = work(&mut partial);
            Ok((partial, result))
        })
        .await?;
        self.flushed = partial.len();
        self.partial = Some(partial);
        result
    }

    fn abandoned(&self) -> RuntimeError {
        RuntimeError::Io(format!("an earlier write of {} was abandoned", self.digest))
    }
}

impl BlobWriter for Writer {
    fn offset(&self) -> u64 {
        self.position()
    }

    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(self.append(chunk))
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(Writer::restart(self))
    }

    fn suspend(mut self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(async move { self.flush().await })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(self.finish())
    }
}
