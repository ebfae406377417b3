//! A relay in front of containerd's socket that stops at the calls it is told, however long.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use forelay::runtime::socket;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tower::ServiceExt;

/// On which side of the daemon a call is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It has not heard of it.
    Before,
    /// It has done it, and its answer has not come.
    After,
}

/// A call to stop at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// `Snapshots/Commit`
    pub method: &'static str,
    /// The first of them is 1.
    pub number: usize,
    pub side: Side,
}

/// The relay; ends when dropped, with the calls that it stopped.
pub struct Between {
    shared: Arc<Shared>,
    folder: TempDir,
    _end: DropGuard,
}

struct Shared {
    daemon: Channel,
    stop: Option<Stop>,
    calls: Mutex<Vec<String>>,
    stopped: watch::Sender<bool>,
    goes_on: watch::Sender<bool>,
}

impl Between {
    /// Listens in a folder of its own, in front of the daemon on `socket`.
    pub async fn start(daemon: &Path, stop: Option<Stop>) -> Self {
        let folder = tempfile::Builder::new().prefix("btw").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("b.sock")).unwrap();
        let shared = Arc::new(Shared {
            daemon: socket::connect(daemon).await.unwrap(),
            stop,
            calls: Mutex::default(),
            stopped: watch::Sender::new(false),
            goes_on: watch::Sender::new(false),
        });
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        let app = Router::new().fallback(pass).with_state(shared.clone());
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.unwrap(),
                () = ended => {}
            }
        });
        Self {
            shared,
            folder,
            _end: end.drop_guard(),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("b.sock")
    }

    /// Waits until the call has come at which it stops.
    pub async fn stopped(&self) {
        let mut stopped = self.shared.stopped.subscribe();
        stopped.wait_for(|stopped| *stopped).await.unwrap();
    }

    pub fn has_stopped(&self) -> bool {
        *self.shared.stopped.borrow()
    }

    /// Lets the call go its way.
    pub fn go_on(&self) {
        self.shared.goes_on.send_replace(true);
    }

    /// How many calls of a method have come.
    pub fn count(&self, method: &str) -> usize {
        let calls = self.shared.calls.lock().unwrap();
        calls.iter().filter(|call| *call == method).count()
    }
}

impl Shared {
    /// The side on which this call is stopped, if it is.
    fn note(&self, path: &str) -> Option<Side> {
        // /containerd.services.snapshots.v1.Snapshots/Commit
        let (_, method) = path.rsplit_once('.').unwrap_or_default();
        let mut calls = self.calls.lock().unwrap();
        calls.push(method.to_owned());
        let number = calls.iter().filter(|call| *call == method).count();
        let stop = self.stop.as_ref()?;
        (stop.method == method && stop.number == number).then_some(stop.side)
    }

    async fn wait(&self) {
        self.stopped.send_replace(true);
        let mut goes_on = self.goes_on.subscribe();
        // The relay ends before it lets go.
        let _ = goes_on.wait_for(|goes_on| *goes_on).await;
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let side = shared.note(request.uri().path());
    if side == Some(Side::Before) {
        shared.wait().await;
    }
    let answer = shared
        .daemon
        .clone()
        .oneshot(request.map(tonic::body::Body::new))
        .await;
    if side == Some(Side::After) {
        shared.wait().await;
    }
    match answer {
        Ok(answer) => answer.map(Body::new),
        // gRPC's `Unavailable`, as a daemon that has gone leads to.
        Err(_) => Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "14")
            .header("grpc-message", "the daemon has gone")
            .body(Body::empty())
            .unwrap(),
    }
}
