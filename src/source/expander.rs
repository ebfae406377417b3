//! cluster-autoscaler's gRPC expander: says yes to all at once, and learns from the question.
//!
//! The autoscaler asks before each scale-up which of the groups that could grow are best, and sends the pods that wait and
//! a sample node of every group (`--expander=grpc,...`). Forelay chooses nothing: it gives all ids back, so that the
//! next expander decides as if it had not been asked, and only then decodes. That it cannot change a decision, however
//! broken it is, follows from the autoscaler's code and is argued in docs/sidecar.md.

mod answer;
pub mod ask;
pub mod certificate;
pub mod decode;
mod listen;
pub mod parts;
mod queue;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::config;
use crate::port::Clock;
use crate::source::expander::answer::Answering;
use crate::source::expander::certificate::{Certificate, CertificatePaths};
use crate::source::expander::listen::Porter;
use crate::source::expander::queue::Queue;
use crate::source::health::Health;
use crate::source::kubernetes::offers::Offer;
use crate::telemetry::metric::Counters;

/// Time between two looks at the certificate's files: what renews certificates does so days before they end.
const LOOK: Duration = Duration::from_secs(10);

/// A call is decoded so long after its answer was handed over: on a machine with one core the answer would otherwise
/// wait for the decoding.
const BREATH: Duration = Duration::from_millis(5);

/// What a sender may send unasked: over a link of 1 ms this is no brake (HTTP/2's own default of 64 KiB is).
const WINDOW: u32 = 8 << 20;

/// Streams of one connection: more than [`answer`] receives at once, so that it can say so.
const STREAMS: u32 = 8;

/// Time between two questions whether the other side still lives.
const ALIVE: Duration = Duration::from_secs(30);

/// How long open calls may take at the end.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// How it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpanderSettings {
    /// The server's certificate.
    pub paths: CertificatePaths,
    /// Time between two looks at its files.
    pub look: Duration,
}

impl ExpanderSettings {
    /// From the configuration.
    #[must_use]
    pub fn new(expander: &config::Expander) -> Self {
        Self {
            paths: CertificatePaths {
                certificate: expander.certificate.clone(),
                key: expander.key.clone(),
            },
            look: LOOK,
        }
    }
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct ExpanderCounters {
    /// Calls and connections, by outcome.
    pub calls: Counters,
    /// Objects that could not be decoded, by kind.
    pub skipped: Counters,
}

/// Serves the expander call.
pub struct ExpanderSource {
    certificate: Arc<Certificate>,
    look: Duration,
    clock: Arc<dyn Clock>,
    counters: ExpanderCounters,
    health: Arc<Health>,
}

/// A server that cannot start, or that ended.
#[derive(Debug, thiserror::Error)]
pub enum ExpanderError {
    /// TLS cannot be set up.
    #[error("expander: {0}")]
    Tls(#[from] rustls::Error),
    /// The server ended.
    #[error("expander: {0}")]
    Server(#[from] tonic::transport::Error),
}

impl ExpanderSource {
    /// Nothing is read or served before `run`.
    #[must_use]
    pub fn new(
        settings: ExpanderSettings,
        clock: Arc<dyn Clock>,
        counters: ExpanderCounters,
    ) -> Self {
        Self {
            certificate: Certificate::new(settings.paths),
            look: settings.look,
            clock,
            counters,
            health: Arc::default(),
        }
    }

    /// Its counts and state, readable while it runs.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Serves until `stop`; what calls tell goes to `out`. Without a usable certificate connections are refused until
    /// there is one.
    pub async fn run(
        self,
        listener: TcpListener,
        out: mpsc::Sender<Offer>,
        stop: CancellationToken,
    ) -> Result<(), ExpanderError> {
        let told = self.look(None);
        let queue = Arc::<Queue>::default();
        let calls = self.counters.calls.clone();
        let answering = Answering::new(Arc::clone(&queue), self.clock.clone(), calls.clone());
        let porter = Porter {
            tls: self.certificate.server()?,
            health: Arc::clone(&self.health),
            calls,
        };
        let server = Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(ALIVE))
            .serve_with_incoming_shutdown(answering, porter.open(listener), stop.cancelled());
        let leave = async {
            stop.cancelled().await;
            sleep(LAST_CALLS).await;
        };
        tokio::select! {
            ended = server => Ok(ended?),
            () = leave => Ok(()),
            () = self.decode(&queue, &out) => Ok(()),
            () = self.keep_looking(told) => Ok(()),
        }
    }

    /// Ends when nobody receives any more.
    async fn decode(&self, queue: &Queue, out: &mpsc::Sender<Offer>) {
        loop {
            let call = queue.pop().await;
            self.health.set_lag(queue.len() as u64);
            sleep(BREATH).await;
            let decoded = spawn_blocking(move || ask::offer(&call.request, call.at)).await;
            let Ok((offer, left_out)) = decoded else {
                warn!("decoding an expander call failed: a defect");
                continue;
            };
            for (kind, count) in [("pods", left_out.pods), ("nodes", left_out.nodes)] {
                if count > 0 {
                    self.counters.skipped.of(kind).inc_by(count);
                }
            }
            if left_out.beyond > 0 {
                self.counters.calls.of("cut").inc();
            }
            if out.send(offer).await.is_err() {
                return;
            }
        }
    }

    async fn keep_looking(&self, mut told: Option<String>) {
        loop {
            sleep(self.look).await;
            told = self.look(told);
        }
    }

    /// What is wrong with the certificate, said when it is not what was `told` last.
    fn look(&self, told: Option<String>) -> Option<String> {
        let wrong = match self.certificate.look() {
            Ok(true) => {
                info!("the expander has a certificate");
                None
            }
            Ok(false) => told.clone(),
            Err(reason) => Some(reason.to_string()),
        };
        let there = self.certificate.is_there();
        if let Some(reason) = wrong.as_ref().filter(|_| wrong != told) {
            let state = if there {
                "the one before is used"
            } else {
                "connections are refused until there is one"
            };
            warn!(reason, "no certificate for the expander: {state}");
        }
        if there {
            self.health.answered();
        }
        wrong
    }
}
