//! The demo's progress while it plays: two live lines on a terminal, plain lines elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::demo::ledger::Ledger;
use crate::cli::render::Progress;
use crate::domain::outcome::PodOutcome;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::Clock;

/// Recorded seconds between two plain lines.
const PLAIN_EVERY_S: f64 = 60.0;

/// One run as the watcher sees it.
pub struct Watched {
    /// `reactive` or `forelay`
    pub name: &'static str,
    /// Its ledger, while it is written.
    pub ledger: Arc<Mutex<Ledger>>,
}

/// Shows the runs until `end` (scenario time) has come; to standard error, so that standard output
/// stays the result's.
pub async fn watch(
    runs: Vec<Watched>,
    progress: Progress,
    clock: Arc<dyn Clock>,
    (start, end): (Timestamp, Timestamp),
) {
    if progress.is_live() {
        live(&runs, &progress, &*clock, (start, end)).await;
    } else {
        in_lines(&runs, &progress, &*clock, (start, end)).await;
    }
}

async fn live(
    runs: &[Watched],
    progress: &Progress,
    clock: &dyn Clock,
    (start, end): (Timestamp, Timestamp),
) {
    let length = end.since(start).as_secs();
    let bars: Vec<ProgressBar> = runs
        .iter()
        .map(|run| progress.story(run.name, length))
        .collect();
    while clock.now() < end {
        let now = clock.now();
        for (run, bar) in runs.iter().zip(&bars) {
            bar.set_position(now.since(start).as_secs());
            bar.set_message(Glance::of(run).short(now.secs_since(start)));
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for bar in bars {
        bar.finish();
    }
}

async fn in_lines(
    runs: &[Watched],
    progress: &Progress,
    clock: &dyn Clock,
    (start, end): (Timestamp, Timestamp),
) {
    let mut next = start + Duration::from_secs_f64(PLAIN_EVERY_S);
    while next < end {
        clock.sleep_until(next).await;
        for run in runs {
            let told = Glance::of(run).long(clock.now().secs_since(start));
            progress.line(&format!("{:>9}  {told}", run.name));
        }
        next = next + Duration::from_secs_f64(PLAIN_EVERY_S);
    }
    clock.sleep_until(end).await;
}

/// How far a run is.
struct Glance {
    joined: usize,
    ready: usize,
    moved: ByteSize,
    started: usize,
    waited_s: f64,
}

impl Glance {
    fn of(run: &Watched) -> Self {
        let ledger = run.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || ledger.nodes().values().filter(|node| node.new);
        let moved = new().flat_map(|node| &node.landed).map(|l| l.bytes).sum();
        Self {
            joined: new().count(),
            ready: new().filter(|node| node.ready.is_some()).count(),
            moved: ByteSize(moved),
            started: ledger.started().len(),
            // `+ 0.0`: an empty sum is -0.
            waited_s: ledger.scored().map(PodOutcome::wait_s).sum::<f64>() + 0.0,
        }
    }

    fn short(&self, second: f64) -> String {
        let moved = self.moved.to_string();
        format!(
            "+{second:>3.0} s {:>3} nodes {moved:>10} in {:>4} pods waited {:>5.0} s",
            self.joined, self.started, self.waited_s
        )
    }

    fn long(&self, second: f64) -> String {
        let moved = self.moved.to_string();
        format!(
            "+{second:>3.0} s  nodes joined {:>2} (ready {:>2})  layers in {moved:>9}  pods started {:>3}  \
             waited {:>5.0} s",
            self.joined, self.ready, self.started, self.waited_s
        )
    }
}
