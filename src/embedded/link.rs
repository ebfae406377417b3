//! A TCP relay that gives a link a rate: several connections share it as they would share a wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Bytes read at once. A chunk is the unit in which connections take turns, so it is small enough
/// for several layers to advance side by side at the demo's slowest link (about 2 MB/s: 4 ms each).
const CHUNK: usize = 8 * 1024;

/// How far behind its schedule a rate may catch up: timers wake up to a millisecond late.
const CATCH_UP: Duration = Duration::from_millis(5);

/// A rate that any number of streams share, first come first served by chunks.
#[derive(Debug)]
pub struct Rate {
    bytes_per_s: f64,
    free_at: Mutex<Option<Instant>>,
    passed: AtomicU64,
}

impl Rate {
    /// A shared rate in bytes per second.
    #[must_use]
    pub fn new(bytes_per_s: f64) -> Arc<Self> {
        Arc::new(Self {
            bytes_per_s,
            free_at: Mutex::new(None),
            passed: AtomicU64::new(0),
        })
    }

    /// Returns when `bytes` have had the time that the rate gives them.
    pub async fn pass(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let done = {
            let mut free_at = self.free_at.lock().await;
            let now = Instant::now();
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            let done = free_at.map_or(now, |free| free.max(earliest)) + takes;
            *free_at = Some(done);
            done
        };
        sleep_until(done).await;
    }

    /// Bytes that have passed so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// A listening relay; dropping it ends all its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Link {
    /// Listens on a free loopback port and relays to `upstream`. What comes back passes every rate
    /// in turn; requests are too small to matter and pass freely.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub async fn open(upstream: SocketAddr, rates: Vec<Arc<Rate>>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            upstream,
            rates,
            stop.clone(),
        )));
        Ok(Self { address, stop })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    rates: Vec<Arc<Rate>>,
    stop: CancellationToken,
) {
    while let Ok((client, _)) = listener.accept().await {
        let rates = rates.clone();
        let connection = async move {
            let Ok(server) = TcpStream::connect(upstream).await else {
                return;
            };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                () = paced(&mut from_server, &mut to_client, &rates) => {}
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn paced<R, W>(from: &mut R, to: &mut W, rates: &[Arc<Rate>])
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        for rate in rates {
            rate.pass(read).await;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends `size` bytes to everyone who connects.
    async fn sender(size: usize) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { stream.write_all(&vec![7; size]).await });
            }
        });
        address
    }

    #[tokio::test]
    async fn every_byte_arrives_and_is_counted_by_every_rate() {
        let (node, uplink) = (Rate::new(1e9), Rate::new(1e9));
        let size = 3 * CHUNK + 1;
        let link = Link::open(sender(size).await, vec![node.clone(), uplink.clone()])
            .await
            .unwrap();
        let mut got = Vec::new();
        TcpStream::connect(link.address())
            .await
            .unwrap()
            .read_to_end(&mut got)
            .await
            .unwrap();
        assert_eq!(
            (got.len(), node.passed(), uplink.passed()),
            (size, size as u64, size as u64)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn two_streams_on_one_rate_take_as_long_as_their_sum() {
        let rate = Rate::new(1000.0);
        let begin = Instant::now();
        tokio::join!(rate.pass(1000), rate.pass(3000));
        assert_eq!(begin.elapsed().as_secs(), 4);
    }
}
