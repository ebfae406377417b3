//! A layer on its way into the staging area, taken up where a pause left it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::image::Digest;
use crate::port::{BlobWriter, RuntimeError};
use crate::runtime::containerd::chain::Link;
use crate::runtime::containerd::delivery::{Shared, blocking};
use crate::runtime::containerd::spool::Tee;
use crate::runtime::containerd::stage::Stage;
use crate::runtime::layer::{Advice, LayerError};

/// One layer being unpacked.
pub(super) struct LayerWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    /// Gone once it failed, or ended.
    pub(super) work: Option<Tee>,
    /// One of the few layers that are unpacked at once.
    pub(super) _turn: OwnedSemaphorePermit,
    /// Goes with the work when it is parked.
    pub(super) claim: Option<Claim>,
}

/// A layer that is there already, with its bytes.
pub(super) struct There(pub(super) u64);

/// Keeps a second writer away from a layer until dropped.
pub(super) struct Claim {
    writing: Arc<Mutex<BTreeSet<Digest>>>,
    layer: Digest,
}

// === impl LayerWriter ===

impl LayerWriter {
    /// Ends the threads and throws away what they wrote.
    async fn give_up(&mut self) -> Result<(), RuntimeError> {
        if let Some(work) = self.work.take() {
            work.abandon().await;
            self.clear(Stage::drop_layer).await?;
        }
        Ok(())
    }

    /// What an error leads to, in the words of the port.
    async fn fail(&self, error: LayerError) -> RuntimeError {
        let cleared = match error.advice() {
            // Its bytes are right: they come again, and are kept for it.
            Advice::AskContainerd => self.clear(Stage::leave).await,
            _ => self.clear(Stage::drop_layer).await,
        };
        match cleared {
            Ok(()) => told(&self.link, error),
            Err(worse) => worse,
        }
    }

    async fn clear(
        &self,
        how: fn(&Stage, &Digest) -> Result<(), RuntimeError>,
    ) -> Result<(), RuntimeError> {
        let (shared, layer) = (self.shared.clone(), self.link.layer.clone());
        blocking(move || how(&shared.stage, &layer)).await
    }
}

impl BlobWriter for LayerWriter {
    fn offset(&self) -> u64 {
        self.work.as_ref().map_or(0, Tee::offset)
    }

    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async move {
            let Some(work) = &mut self.work else {
                return Err(over(&self.link.layer));
            };
            let written = work.write(chunk).await;
            match written {
                Ok(()) => Ok(()),
                Err(error) => {
                    if let Some(work) = self.work.take() {
                        work.abandon().await;
                    }
                    Err(self.fail(error).await)
                }
            }
        })
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async move {
            if self.work.as_ref().is_some_and(|work| work.offset() == 0) {
                return Ok(());
            }
            self.give_up().await?;
            self.work = Some(self.shared.unpacking(&self.link).await?);
            Ok(())
        })
    }

    fn suspend(mut self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Ok(());
            };
            if work.offset() == 0 {
                work.abandon().await;
                return self.clear(Stage::drop_layer).await;
            }
            let claim = self.claim.take().expect("only this takes it");
            let Some((claim, work)) = self.shared.park(claim, work) else {
                return Ok(());
            };
            // Until its tree is gone nobody begins it anew.
            work.abandon().await;
            let (shared, layer) = (self.shared.clone(), claim.layer().clone());
            let dropped = blocking(move || shared.stage.drop_layer(&layer)).await;
            drop(claim);
            dropped
        })
    }

    fn commit(mut self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Err(over(&self.link.layer));
            };
            let (shared, layer) = (self.shared.clone(), self.link.layer.clone());
            let unpacked = match work.finish().await {
                Ok(unpacked) => unpacked,
                Err(error) => return Err(self.fail(error).await),
            };
            let (done, of) = (shared.clone(), layer.clone());
            let is_bottom = self.link.is_bottom;
            blocking(move || done.stage.finish(&of, unpacked, is_bottom)).await?;
            drop(self);
            shared.place_soon(&layer);
            Ok(())
        })
    }
}

impl BlobWriter for There {
    fn offset(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }

    fn suspend(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }
}

// === impl Claim ===

impl Claim {
    /// Whose it is.
    pub(super) fn layer(&self) -> &Digest {
        &self.layer
    }

    pub(super) fn new(
        writing: &Arc<Mutex<BTreeSet<Digest>>>,
        layer: &Digest,
    ) -> Result<Self, RuntimeError> {
        let mut layers = writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !layers.insert(layer.clone()) {
            return Err(RuntimeError::Busy(layer.clone()));
        }
        Ok(Self {
            writing: writing.clone(),
            layer: layer.clone(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let layers = self.writing.lock();
        let mut layers = layers.unwrap_or_else(PoisonError::into_inner);
        layers.remove(&self.layer);
    }
}

fn over(layer: &Digest) -> RuntimeError {
    RuntimeError::Io(format!("{layer}: its unpacking is over"))
}

/// In the words of the port.
fn told(link: &Link, error: LayerError) -> RuntimeError {
    match error {
        LayerError::WrongBlob { expected, found } | LayerError::WrongDiff { expected, found } => {
            RuntimeError::WrongDigest { expected, found }
        }
        LayerError::WrongSize { expected, found } => RuntimeError::WrongSize {
            digest: link.layer.clone(),
            expected,
            found,
        },
        LayerError::NoSpace(_) => RuntimeError::Full(format!("{}: {error}", link.layer)),
        other if other.advice() == Advice::AskContainerd => RuntimeError::Io(format!(
            "{}: {other}; containerd unpacks it itself",
            link.layer
        )),
        other => RuntimeError::Io(format!("{}: {other}", link.layer)),
    }
}
