//! TLS connections in bounded number, each with a bounded time to greet.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::poll_fn;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::source::health::Health;
use crate::telemetry::metric::Counters;

/// Connections at the same time: an autoscaler holds one, its standbys none.
const CONNECTIONS: usize = 16;

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);

/// Pause when there is nothing left to accept with (file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, and its place among those that may be.
pub struct Secure {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// Counts what is refused.
#[derive(Clone)]
pub struct Porter {
    /// How to greet.
    pub tls: Arc<ServerConfig>,
    /// Refused greetings are failures of the source.
    pub health: Arc<Health>,
    /// By outcome.
    pub calls: Counters,
}

impl Porter {
    /// Greeted connections, for as long as somebody takes them.
    pub fn open(self, listener: TcpListener) -> impl Stream<Item = io::Result<Secure>> {
        let (greeted, mut taken) = mpsc::channel(1);
        tokio::spawn(self.accept(listener, greeted));
        poll_fn(move |context| taken.poll_recv(context).map(|next| next.map(Ok)))
    }

    async fn accept(self, listener: TcpListener, greeted: mpsc::Sender<Secure>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = greeted.closed() => return,
            };
            let Ok((stream, from)) = accepted else {
                sleep(PAUSE).await;
                continue;
            };
            // Whoever comes when all places are taken is hung up on, not kept waiting.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.calls.of("too_many_connections").inc();
                continue;
            };
            tokio::spawn(self.clone().greet(stream, from, place, greeted.clone()));
        }
    }

    async fn greet(
        self,
        stream: TcpStream,
        from: SocketAddr,
        place: OwnedSemaphorePermit,
        greeted: mpsc::Sender<Secure>,
    ) {
        // The answer is one small frame: it must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let greeting = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream);
        let reason = match timeout(GREETING, greeting).await {
            Ok(Ok(stream)) => {
                let _ = greeted
                    .send(Secure {
                        stream,
                        _place: place,
                    })
                    .await;
                return;
            }
            Ok(Err(reason)) => reason.to_string(),
            Err(_) => "no TLS greeting in time".to_owned(),
        };
        self.calls.of("no_tls").inc();
        if let Some(count) = self.health.failed() {
            tracing::warn!(%from, count, reason, "a connection to the expander was refused");
        }
    }
}

impl Connected for Secure {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
