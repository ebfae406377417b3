//! An embedded Kubernetes API server, good for the verbs and paths that Forelay sends.
//!
//! Its behaviour was taken from transcripts of Kubernetes 1.36 and is held against them by
//! `tests/apiserver_transcripts`. Not there, because Forelay never asks: authentication, other
//! subresources than status, strategic merge, protobuf, Tables, OpenAPI, admission and defaulting
//! of built-in kinds beyond what their own rules need.
//!
//! Start reading at `machine.rs`: requests and the time in, objects and refusals out. `http.rs` and
//! `stream.rs` are the sockets around it, `handle.rs` the way in without one.

mod accept;
mod apply;
mod builtin;
mod cel;
mod collect;
mod commit;
mod crd;
mod decode;
mod delete;
mod discovery;
mod events;
mod fields;
mod handle;
mod http;
mod kinds;
mod machine;
mod managed;
mod metadata;
mod object_ref;
mod owners;
mod played;
mod prune;
mod read;
mod request;
mod resource;
mod route;
mod schema;
mod selector;
mod shared;
mod status;
mod store;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod token;
mod validate;
mod watch;
mod write;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

pub use self::handle::Handle;
pub use self::object_ref::ObjectRef;
use self::shared::Shared;
pub use self::status::{ApiError, Cause};
use crate::port::Clock;

/// How often work that real controllers do in their own time is looked for.
const COLLECT_EVERY: Duration = Duration::from_millis(200);

/// How the server is set up.
#[derive(Clone)]
pub struct Options {
    /// Time for metadata and for the collector; not for the cadence of watches.
    pub clock: Arc<dyn Clock>,
    /// Seed of uids and generated names.
    pub seed: u64,
    /// Time between bookmarks of an idle watch.
    pub bookmark_interval: Duration,
    /// Changes remembered per collection; older versions are expired.
    pub history_max: usize,
    /// Objects stored at most, of all kinds together.
    pub objects_max: usize,
    /// Watches open at the same time at most.
    pub watches_max: usize,
}

impl Options {
    /// Upstream's minute between bookmarks, and bounds wide enough for a cluster of 5,000 nodes.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seed: 0,
            bookmark_interval: Duration::from_mins(1),
            history_max: 4096,
            objects_max: 400_000,
            watches_max: 4096,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("seed", &self.seed)
            .field("bookmark_interval", &self.bookmark_interval)
            .field("history_max", &self.history_max)
            .field("objects_max", &self.objects_max)
            .field("watches_max", &self.watches_max)
            .finish_non_exhaustive()
    }
}

/// The server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

impl ApiServer {
    /// A server with the built-in kinds and the namespaces every cluster has.
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::new(Shared::new(options)),
        }
    }

    /// The routes, to be mounted at the root.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.shared))
    }

    /// A way in without a socket.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Serves plain HTTP on `listener` until `shutdown`; open watches then end cleanly.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let closing = async move {
            shutdown.await;
            shared.paused.send_replace(false);
            shared.closing.send_replace(true);
        };
        // Watch events are single small writes: waiting to fill a segment delays each of them.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let serving = axum::serve(listener, self.router()).with_graceful_shutdown(closing);
        tokio::select! {
            served = async { serving.await } => served,
            () = self.collect() => Ok(()),
        }
    }

    /// Does the due work of the collector, for ever.
    async fn collect(&self) {
        let mut ticks = interval(COLLECT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            drop(self.shared.with(|_, _| Ok(())));
        }
    }
}
