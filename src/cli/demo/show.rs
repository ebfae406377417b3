//! The demo's progress while it plays: two live lines on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::demo::ledger::Ledger;
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
pub async fn watch(runs: Vec<Watched>, clock: Arc<dyn Clock>, start: Timestamp, end: Timestamp) {
    if std::io::stderr().is_terminal() {
        on_terminal(&runs, &*clock, start, end).await;
    } else {
        in_lines(&runs, &*clock, start, end).await;
    }
}

async fn on_terminal(runs: &[Watched], clock: &dyn Clock, start: Timestamp, end: Timestamp) {
    let screen = MultiProgress::new();
    let style = ProgressStyle::with_template("{prefix:>9} {bar:28} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = end.since(start).as_secs();
    let bars: Vec<ProgressBar> = runs
        .iter()
        .map(|run| {
            let bar = screen.add(ProgressBar::new(length).with_style(style.clone()));
            bar.set_prefix(run.name);
            bar
        })
        .collect();
    while clock.now() < end {
        let now = clock.now();
        for (run, bar) in runs.iter().zip(&bars) {
            bar.set_position(now.since(start).as_secs());
            bar.set_message(line(run, start, now));
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for bar in bars {
        bar.finish();
    }
}

async fn in_lines(runs: &[Watched], clock: &dyn Clock, start: Timestamp, end: Timestamp) {
    let mut next = start + Duration::from_secs_f64(PLAIN_EVERY_S);
    while next < end {
        clock.sleep_until(next).await;
        for run in runs {
            eprintln!("{:>9}  {}", run.name, line(run, start, clock.now()));
        }
        next = next + Duration::from_secs_f64(PLAIN_EVERY_S);
    }
    clock.sleep_until(end).await;
}

fn line(run: &Watched, start: Timestamp, now: Timestamp) -> String {
    let ledger = run.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || ledger.nodes().values().filter(|node| node.new);
    let moved: u64 = new()
        .flat_map(|node| &node.landed)
        .map(|landed| landed.bytes)
        .sum();
    let waited: f64 = ledger.scored().map(|pod| pod.wait_s()).sum();
    format!(
        "+{:>3.0} s  nodes joined {:>2} (ready {:>2})  layers in {:>9}  pods started {:>3}  waited {:>5.0} s",
        now.secs_since(start),
        new().count(),
        new().filter(|node| node.ready.is_some()).count(),
        ByteSize(moved).to_string(),
        ledger.started().len(),
        waited,
    )
}
