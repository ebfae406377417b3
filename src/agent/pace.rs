//! A cap on bytes per second that all background streams of one agent share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::time::Timestamp;
use crate::port::Clock;

/// How far behind its schedule a stream may catch up, so that a late timer costs no rate.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Takes turns by chunks, first come first served.
pub(super) struct Pace {
    rate: Bandwidth,
    clock: Arc<dyn Clock>,
    free_at: Mutex<Timestamp>,
}

impl Pace {
    pub(super) fn new(rate: Bandwidth, clock: Arc<dyn Clock>) -> Self {
        Self {
            rate,
            clock,
            free_at: Mutex::new(Timestamp::ZERO),
        }
    }

    /// Returns when `bytes` have had the time that the rate gives them.
    pub(super) async fn pass(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(self.rate.secs_for(ByteSize(bytes as u64)));
        let done = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = self.clock.now() - CATCH_UP;
            *free_at = (*free_at).max(earliest) + takes;
            *free_at
        };
        self.clock.sleep_until(done).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::clock::ScaledClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_streams_share_the_rate() {
        let clock = Arc::new(ScaledClock::starting_at(Timestamp::from_secs_f64(1e9), 1.0));
        let pace = Pace::new(Bandwidth(1_000_000.0), clock.clone());
        let begun = clock.now();
        let stream = || async {
            for _ in 0..10 {
                pace.pass(100_000).await;
            }
        };
        tokio::join!(stream(), stream());
        let took = clock.now().secs_since(begun);
        assert!((took - 2.0).abs() < 0.1, "2 MB at 1 MB/s took {took} s");
    }
}
