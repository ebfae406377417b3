//! A TCP relay that gives a link a rate: several connections share it as they would share a wire.

use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Bytes read at once. A chunk is the unit in which connections take turns, so it is small enough
/// for several layers to advance side by side at the demo's slowest link (about 2 MB/s: 4 ms each).
const CHUNK: usize = 8 * 1024;

/// A sender that was silent for less than this was late, not idle: a busy scheduler's turn or two. It is
/// less than half a second of the recording at the demo's pace, and the time of a request is within it.
const LATE: Duration = Duration::from_millis(50);

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

    /// Returns when `bytes` that stood ready since `ready` have had the time that the rate gives
    /// them: the instant at which they have.
    ///
    /// `ready` may have passed, and what returns may have. A wire does not stop when a machine is too
    /// busy to look at it: whoever is woken late goes on from where its bytes would have been.
    pub async fn pass(&self, bytes: usize, ready: Instant) -> Instant {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let done = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let done = free_at.map_or(ready, |free| free.max(ready)) + takes;
            *free_at = Some(done);
            done
        };
        sleep_until(done).await;
        done
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
    pub async fn open(upstream: SocketAddr, rates: Vec<Arc<Rate>>) -> Result<Self> {
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
                _ = paced(&mut from_server, &mut to_client, &rates) => {}
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn paced(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    rates: &[Arc<Rate>],
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    // When the last chunk was through: what the sender had waiting then was ready then.
    let mut through: Option<Instant> = None;
    let mut starved = false;
    loop {
        let (read, now) = match from.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => (read, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                from.readable().await?;
                starved = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        let ready = match through {
            Some(at) if !starved || now.saturating_duration_since(at) < LATE => at,
            _ => now,
        };
        starved = false;
        let mut at = ready;
        for rate in rates {
            at = rate.pass(read, at).await;
        }
        through = Some(at);
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    to.writable().await?;
                    // The receiver was in the way: that time is not the link's.
                    through = None;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        tokio::join!(rate.pass(1000, begin), rate.pass(3000, begin));
        assert_eq!(begin.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_woken_late_has_lost_nothing_and_an_idle_one_gains_nothing() {
        let rate = Rate::new(1000.0);
        let begin = Instant::now();
        let late = Duration::from_millis(700);
        let mut at = begin;
        for _ in 0..5 {
            at = rate.pass(1000, at).await;
            tokio::time::sleep(late).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(5) + late);
        // Ten seconds without anything to send do not make the next second shorter.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let again = Instant::now();
        rate.pass(1000, again).await;
        assert_eq!(again.elapsed(), Duration::from_secs(1));
    }
}
