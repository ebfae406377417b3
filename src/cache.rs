//! L5: the pull-through cache: one upstream fetch per digest, however many nodes ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cache::desk::Desk;
use crate::cache::manifests::Manifests;
use crate::cache::measure::Measures;
use crate::domain::quantity::ByteSize;
use crate::engine::blobs::Limits;
use crate::port::RuntimeError;
use crate::registry::{Options as RegistryOptions, Registry, RegistryError};
use crate::store::Store;
use crate::telemetry::metric::Metrics;

mod body;
mod desk;
mod fetch;
mod manifests;
mod measure;
mod options;
mod routes;
mod tags;

pub use options::Options;

/// A cache that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory.
    #[error(transparent)]
    Store(#[from] RuntimeError),
    /// The upstreams.
    #[error(transparent)]
    Upstream(#[from] RegistryError),
    /// The listener.
    #[error("serving ended: {0}")]
    Serve(#[from] std::io::Error),
}

/// An open cache. Cheap to clone; the directory is its own until the last clone is gone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    upstreams: BTreeMap<String, String>,
    desk: Arc<Desk>,
    manifests: Manifests,
    registry: Arc<Registry>,
    measures: Measures,
    requests: Arc<Semaphore>,
}

impl Cache {
    /// Opens the directory and lists what is there; nothing is asked of upstreams yet. Has to be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// When the directory or the upstreams cannot be used.
    pub fn open(options: Options, metrics: &mut Metrics) -> Result<Self, CacheError> {
        let now = options.clock.now();
        let (store, recovery) = Store::open_with(&options.directory, now, options.durability)?;
        tracing::info!(directory = %options.directory.display(), ?recovery, "cache opened");
        let registry = Arc::new(Registry::new(RegistryOptions {
            mirrors: Vec::new(),
            origins: options.upstreams.clone(),
            use_origins: true,
            ..options.client.clone()
        })?);
        let measures = Measures::new(metrics);
        let manifests = Manifests::open(&options, registry.clone(), measures.clone())?;
        let desk = Desk::open(
            store,
            registry.clone(),
            &options,
            Limits {
                quota: options.quota,
                back_off: options.back_off,
            },
            measures.clone(),
        );
        Ok(Self {
            shared: Arc::new(Shared {
                upstreams: options.upstreams,
                desk,
                manifests,
                registry,
                measures,
                requests: Arc::new(Semaphore::new(options.requests)),
            }),
        })
    }

    /// Bytes of blobs and manifests that came from upstreams.
    pub fn origin_bytes(&self) -> ByteSize {
        ByteSize(self.shared.measures.upstream_bytes.get())
    }

    /// Bytes of blobs and manifests sent to clients.
    pub fn served_bytes(&self) -> ByteSize {
        ByteSize(self.shared.measures.served_bytes.get())
    }

    /// Blob fetches begun at upstreams.
    pub fn upstream_fetches(&self) -> u64 {
        self.shared.measures.begun.get()
    }

    /// The verified blobs, for a check of what is stored.
    pub fn store(&self) -> &Store {
        self.shared.desk.store()
    }

    /// Serves until `shutdown`, then lets open answers end and keeps partial blobs for a resume.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), CacheError> {
        let served = axum::serve(listener, routes::router(self.shared.clone()))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        self.shared.desk.close().await;
        Ok(served?)
    }
}

/// Opens a cache and serves it until `shutdown`.
///
/// # Errors
/// As [`Cache::open`] and [`Cache::serve`].
pub async fn serve(
    listener: TcpListener,
    options: Options,
    metrics: &mut Metrics,
    shutdown: CancellationToken,
) -> Result<(), CacheError> {
    Cache::open(options, metrics)?
        .serve(listener, shutdown)
        .await
}
