//! How long a search of parameters over the pack takes.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use forelay::domain::scenario::Header;
use forelay::domain::signal::Signal;
use forelay::forecast::model::Model;
use forelay::sim::tune::{self, Halves, Options, Step};
use serde::Serialize;

use crate::files::{out, scenario, specs};
use crate::say;

/// Trials that are made: the start, then two batches.
const TRIALS: usize = 9;

/// Trials of a whole search.
const WHOLE: f64 = 200.0;

/// The issue counts on two cores.
const THREADS: usize = 2;

/// Wall clock of a search on two cores.
#[derive(Debug, Serialize)]
pub struct Tuning {
    /// Trials that were timed.
    trials: usize,
    threads: usize,
    /// What trials are compared with, played once.
    prepare_s: f64,
    per_trial_s: f64,
    trials_per_minute: f64,
    /// Values that do not matter go back, then the card is written; as long after this short search,
    /// which changes as many values.
    settle_s: f64,
    /// Prepare, 200 trials, settle.
    pub seconds_per_200_trials: f64,
}

/// Searches a little.
pub fn measure(folder: &Path) -> anyhow::Result<Tuning> {
    let read = |path: &std::path::PathBuf| -> anyhow::Result<(Header, Vec<Signal>)> {
        let scenario = scenario(path)?;
        Ok((scenario.header, scenario.signals))
    };
    let paths = specs(folder)?;
    let scenarios = paths.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options {
        seed: 1,
        trials: TRIALS,
        patience: TRIALS,
        threads: THREADS,
        start: Model::untuned(),
        journal: out()?.join("replay-tune.jsonl"),
        fresh: true,
        date: None,
    };
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let told = |name: &str| say(&format!("tuning: prepared {name}"));
    let (training, validation) = tune::split(scenarios);
    let mut halves = Halves {
        training: tune::prepare(training, &options, &stop, told)?,
        validation: tune::prepare(validation, &options, &stop, told)?,
    };
    // As `forelay tune` orders them.
    let wait_s = |course: &tune::course::Course| course.reactive.wait_s;
    halves
        .training
        .sort_by(|a, b| wait_s(b).total_cmp(&wait_s(a)));
    let prepare = began.elapsed();
    let mut laps: Vec<(usize, Duration)> = Vec::new();
    tune::tune(&halves, &options, &stop, |step: Step| {
        say(&format!("tuning: {} trials", step.trials));
        laps.push((step.trials, began.elapsed()));
    })?;
    let all = began.elapsed();
    let (from, to) = (laps[0], laps[laps.len() - 1]);
    let per_trial_s = to.1.saturating_sub(from.1).as_secs_f64() / (to.0 - from.0) as f64;
    let (prepare_s, settle_s) = (
        prepare.as_secs_f64(),
        all.saturating_sub(to.1).as_secs_f64(),
    );
    Ok(Tuning {
        trials: to.0 - from.0,
        threads: THREADS,
        prepare_s,
        per_trial_s,
        trials_per_minute: 60.0 / per_trial_s,
        settle_s,
        seconds_per_200_trials: prepare_s + WHOLE * per_trial_s + settle_s,
    })
}
