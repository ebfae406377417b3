//! The clocks: the system's, and one that runs at a multiple of it.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::domain::time::Timestamp;
use crate::port::Clock;

/// The longest single sleep. The system's clock may be set while one sleeps: an instant that this
/// brings nearer is noticed at most so much late.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The clock of a process in production.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that starts at a given instant and runs `scale` times as fast as the system's.
///
/// It counts tokio's monotonic time, so that it never goes back, and stands still where a test
/// pauses tokio.
#[derive(Clone, Copy, Debug)]
pub struct ScaledClock {
    start: Timestamp,
    started: Instant,
    scale: f64,
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the system's clock is read"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        async move {
            loop {
                let left = at.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        }
        .boxed()
    }
}

// === impl ScaledClock ===

impl ScaledClock {
    /// Begins now, showing `start`; `scale` seconds pass on it in each second. A scale that is not
    /// positive and finite is taken as 1.
    #[allow(clippy::disallowed_methods, reason = "a clock has to read one")]
    pub fn starting_at(start: Timestamp, scale: f64) -> Self {
        let scale = if scale.is_finite() && scale > 0.0 {
            scale
        } else {
            1.0
        };
        Self {
            start,
            started: Instant::now(),
            scale,
        }
    }

    /// Seconds on this clock per second.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// How long a span of this clock takes in real time.
    pub fn real(&self, span: Duration) -> Duration {
        Duration::try_from_secs_f64(span.as_secs_f64() / self.scale).unwrap_or(Duration::MAX)
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        let passed = self.started.elapsed().as_secs_f64() * self.scale;
        self.start + Duration::try_from_secs_f64(passed).unwrap_or(Duration::MAX)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        async move {
            loop {
                let left = at.since(clock.now());
                if left.is_zero() {
                    return;
                }
                // Rounded up to tokio's own millisecond, or the last step would spin.
                tokio::time::sleep(clock.real(left).max(Duration::from_millis(1))).await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scaled_clock_wakes_when_it_shows_the_instant_and_not_before() {
        let start = Timestamp::from_secs_f64(1_000.0);
        let clock = ScaledClock::starting_at(start, 10_000.0);
        clock.sleep_until(start + Duration::from_mins(1)).await;
        assert!(clock.now() >= start + Duration::from_mins(1));
        assert_eq!(
            clock.real(Duration::from_secs(100)),
            Duration::from_millis(10)
        );
    }

    #[tokio::test]
    async fn an_instant_that_has_passed_is_not_waited_for() {
        let clock = ScaledClock::starting_at(Timestamp::from_secs_f64(5.0), f64::NAN);
        assert_eq!(clock.scale(), 1.0);
        clock.sleep_until(Timestamp::ZERO).await;
        SystemClock.sleep_until(Timestamp::ZERO).await;
    }

    #[test]
    fn the_system_clock_agrees_with_the_last_one_that_was_read() {
        let first = SystemClock.now();
        assert!(first > Timestamp::ZERO && SystemClock.now() >= first);
    }
}
