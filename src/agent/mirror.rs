//! The node's mirror on loopback: manifests that the agent brought, for pulls that ask again.
//!
//! A pod with `imagePullPolicy: Always`, or an image that is held without a record, makes containerd ask for
//! the manifest. The mirror is asked first. It answers what the agent knows ([`Book`]) to who may have it (the
//! origin says so), and 404 at once to all else: containerd then asks the registry itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::agent::mirror::desk::Desk;
use crate::agent::mirror::hosts::{HostsError, Placed};
use crate::agent::mirror::listen::Bounded;
use crate::agent::mirror::origin::Doorman;
use crate::port::{BlobSource, Clock, ContainerRuntime};
use crate::registry::Registry;
use crate::telemetry::metric::Metrics;
use crate::telemetry::metric::name::Name;

mod book;
mod desk;
mod hosts;
mod known;
mod listen;
mod origin;
mod routes;
#[cfg(test)]
mod tests;

pub use book::Book;
pub use hosts::{Outlook, look, sweep};

/// How long answers under way may take at the end: they are a few kilobytes.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Between two attempts to listen: doubled from the first to the last, because what holds a port is mostly an agent
/// that is about to end, and at times a stranger that stays.
const BIND_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What a mirror is made of.
pub struct Options {
    /// Where it listens: on loopback.
    pub listen: SocketAddr,
    /// What the agent knows; the agent's own options hold the same one.
    pub book: Book,
    /// What the agent has.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Where it gets indexes from.
    pub source: Arc<dyn BlobSource>,
    /// Origins, without caches and without credentials.
    pub origins: Arc<Registry>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A mirror that does not listen yet.
pub struct Mirror {
    listen: SocketAddr,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
}

/// One that listens, and that nobody is led to yet.
pub struct Listening {
    listener: TcpListener,
    desk: Arc<Desk>,
}

// === impl Mirror ===

impl Mirror {
    /// Registers its metrics; nothing is asked of anybody yet.
    pub fn new(options: Options, metrics: &mut Metrics) -> Self {
        let book = options.book;
        let clock = options.clock;
        let doorman = Doorman::new(options.origins, book.clone(), clock.clone());
        let counted = metrics.counters(Name::MirrorRequests);
        let desk = Desk::new((book, doorman), options.runtime, options.source, counted);
        Self {
            listen: options.listen,
            desk: Arc::new(desk),
            clock,
        }
    }

    /// Listens.
    ///
    /// # Errors
    /// When the port is taken, or not ours to take.
    pub async fn bind(&self) -> std::io::Result<Listening> {
        Ok(Listening {
            listener: TcpListener::bind(self.listen).await?,
            desk: self.desk.clone(),
        })
    }

    /// Serves until `shutdown`, and leads containerd here by a `hosts.toml` in one of its folders. What keeps
    /// it from that is logged once, and tried again: an agent does its work without a mirror meanwhile.
    pub async fn run(self, folders: Vec<PathBuf>, shutdown: CancellationToken) {
        // Nobody must be led to a port that may be a stranger's by now.
        let left = folders.clone();
        let _ = spawn_blocking(move || hosts::sweep(&left)).await;
        let bound = tokio::select! {
            bound = self.bound() => bound,
            () = shutdown.cancelled() => return,
        };
        bound.serve(folders, shutdown).await;
    }

    /// Listens, as soon as it can be.
    async fn bound(&self) -> Listening {
        let (mut pause, longest) = BIND_AGAIN;
        let mut said = None;
        loop {
            let error = match self.bind().await {
                Ok(listening) => return listening,
                Err(error) => error.to_string(),
            };
            if said.as_ref() != Some(&error) {
                tracing::warn!(address = %self.listen, error, "no mirror yet: cannot listen");
                said = Some(error);
            }
            self.clock.sleep_until(self.clock.now() + pause).await;
            pause = longest.min(pause * 2);
        }
    }
}

// === impl Listening ===

impl Listening {
    /// Where.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; the file that leads here is there meanwhile, and gone before the end.
    pub async fn serve(self, folders: Vec<PathBuf>, shutdown: CancellationToken) {
        let address = self.listener.local_addr();
        let end = CancellationToken::new();
        let listener = Bounded::new(self.listener);
        let served = axum::serve(listener, routes::router(self.desk))
            .with_graceful_shutdown(end.clone().cancelled_owned());
        let serving = tokio::spawn(async move { served.await });
        let placed = match address {
            Ok(address) => spawn_blocking(move || lead(&folders, address)).await,
            Err(_) => Ok(None),
        };
        shutdown.cancelled().await;
        drop(placed);
        end.cancel();
        // A connection that does not end by itself is nobody's reason to stay.
        let _ = timeout(LAST_ANSWERS, serving).await;
    }
}

/// Leads containerd to the mirror; says what came of it.
fn lead(folders: &[PathBuf], address: SocketAddr) -> Option<Placed> {
    let apart = look(folders).apart;
    match hosts::place(folders, address) {
        Ok(placed) => {
            tracing::info!(%address, file = %placed.file().display(), ?apart, "mirror");
            Some(placed)
        }
        Err(HostsError::Obstacle(why)) => {
            tracing::info!(%address, why, "containerd is not led to the mirror");
            None
        }
        Err(error) => {
            tracing::warn!(%address, %error, "containerd cannot be led to the mirror");
            None
        }
    }
}
