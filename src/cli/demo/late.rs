//! How late a machine is that plays by a clock faster than its own.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::port::Clock;

/// Mean lateness from which a reader is told. A calm machine's timers fire within two milliseconds: 0.01 s at
/// the demo's pace, where waits are 2 % too long. With 0.06 s they were a quarter too long, with 0.22 s twice.
const WORTH_TELLING_S: f64 = 0.03;

/// Lateness of timers, in seconds of the clock that is played by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Late {
    /// Of a timer that is due at any moment.
    pub mean: f64,
    /// The worst.
    pub max: f64,
}

/// Sleeps for `every` on the clock again and again until `ended`, and notes how late it was woken.
pub(super) async fn measure(
    clock: Arc<dyn Clock>,
    every: Duration,
    ended: CancellationToken,
) -> Late {
    let (mut sum, mut max, mut ticks) = (0.0, 0.0_f64, 0_u32);
    // Ticks that passed while nothing ran count too, or a machine that stood still were never late.
    let mut due = clock.now() + every;
    while ended
        .run_until_cancelled(clock.sleep_until(due))
        .await
        .is_some()
    {
        let late = clock.now().secs_since(due);
        (sum, max, ticks) = (sum + late, max.max(late), ticks + 1);
        due = due + every;
    }
    let milli = |seconds: f64| (seconds * 1e3).round() / 1e3;
    Late {
        mean: milli(sum / f64::from(ticks.max(1))),
        max: milli(max),
    }
}

impl Late {
    /// What a reader has to know before the figures are believed, if anything.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        (self.mean >= WORTH_TELLING_S).then(|| {
            format!(
                "This machine was too busy to keep the played clock: what was due came {:.2} s late on \
                 average and up to {:.1} s, of the recording's time. All waits are too long by many such \
                 steps; a lower --speed brings them nearer.",
                self.mean, self.max
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::telemetry::clock::ScaledClock;

    /// Tokio's paused clock jumps to the next timer: nothing is late but by its millisecond.
    #[tokio::test(start_paused = true)]
    async fn a_machine_that_does_nothing_else_is_not_late() {
        let clock = Arc::new(ScaledClock::starting_at(Timestamp::from_secs_f64(1e9), 9.0));
        let ended = CancellationToken::new();
        let measured = tokio::spawn(measure(clock, Duration::from_millis(500), ended.clone()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        ended.cancel();
        let late = measured.await.unwrap();
        // Two milliseconds of tokio's rounding, nine times as long on this clock.
        assert!(late.max <= 0.018 && late.mean <= late.max, "{late:?}");
        assert_eq!(late.sentence(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_that_passed_while_the_machine_stood_still_are_all_late() {
        let clock = Arc::new(ScaledClock::starting_at(Timestamp::from_secs_f64(1e9), 1.0));
        let ended = CancellationToken::new();
        let measured = tokio::spawn(measure(clock, Duration::from_secs(1), ended.clone()));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
        ended.cancel();
        let late = measured.await.unwrap();
        // Due after 1, 2 .. 10 s, all seen after 10.
        assert_eq!((late.mean, late.max), (4.5, 9.0));
        let told = late.sentence().unwrap();
        assert!(
            told.contains("4.50 s late on average and up to 9.0 s"),
            "{told}"
        );
    }
}
