//! Parameters searched by replay: seeded, resumable, judged by scenarios that were held back.
//!
//! The loop: [`search`] proposes values in batches of fixed size, [`course`] plays them on every
//! training scenario, [`objective`] makes one number of it, [`journal`] keeps it. Nothing depends on
//! the number of cores: the same seed, scenarios and start give the same model, byte for byte.

pub mod course;
mod crew;
pub mod journal;
pub mod objective;
pub mod search;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::forecast::model::{Card, Marks, Model, ModelFile};
use crate::sim::facts::FactsError;
use crate::sim::tune::course::Course;
use crate::sim::tune::journal::{Entry, Head, Journal, JournalError};
use crate::sim::tune::objective::{Run, best_seen, hope, marks};
use crate::sim::tune::search::{STARTUP, Search, Values};

/// Trials that are proposed before the first of them is known: enough for a few cores, few enough
/// that 200 trials still learn 50 times.
const BATCH: usize = 4;

/// What the objective may lose when values that do not matter go back to where they began.
const SETTLE_SLACK: f64 = 0.001;

/// How a search is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything random comes from.
    pub seed: u64,
    /// Sets of values to try, the start included; at least 1.
    pub trials: usize,
    /// Ends after so many trials without a better one.
    pub patience: usize,
    /// Scenarios played at once.
    pub threads: usize,
    /// Where the search begins, and the values of what is not tuned.
    pub start: Model,
    /// Where trials are kept.
    pub journal: PathBuf,
    /// Whether an earlier journal is thrown away.
    pub fresh: bool,
    /// The card's date; the last instant of the data when absent.
    pub date: Option<String>,
}

/// Scenarios to choose by, and scenarios to judge the choice by.
#[derive(Debug)]
pub struct Halves {
    /// Chosen by these.
    pub training: Vec<Course>,
    /// Judged by these.
    pub validation: Vec<Course>,
}

/// One trial more is known.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Trials known.
    pub trials: usize,
    /// The best objective so far.
    pub best: f64,
    /// The trial that has it.
    pub best_trial: usize,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All trials were made.
    Trials,
    /// Nothing had improved for long enough.
    Patience,
}

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The model and its card.
    pub file: ModelFile,
    /// Trials that were not ended early.
    pub whole: usize,
    /// Trials taken from the journal.
    pub resumed: usize,
    /// The best trial.
    pub best_trial: usize,
    /// Why it ended.
    pub ended: Ended,
    /// What differs from the start: key, before, after.
    pub changed: BTreeMap<String, (f64, f64)>,
}

/// A search that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Asked to stop: the journal has all trials that were finished.
    #[error("stopped after {0} trials")]
    Stopped(usize),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The same content twice.
    #[error("scenario {0} is given twice: what was tuned on cannot judge, nothing counts double")]
    Twice(String),
    /// A scenario cannot be replayed.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// All training scenarios are quiet.
    #[error("in no training scenario does a pod on a new node wait for an image: nothing to gain")]
    NothingToGain,
}

/// One search under way.
struct Tuning<'a> {
    halves: &'a Halves,
    options: &'a Options,
    stop: &'a AtomicBool,
    search: Search,
    entries: Vec<Entry>,
}

/// Splits what is sorted: every third, of two the second, judges.
#[must_use]
pub fn split<T>(sorted: Vec<T>) -> (Vec<T>, Vec<T>) {
    let few = sorted.len() == 2;
    let mut halves = (Vec::new(), Vec::new());
    for (at, one) in sorted.into_iter().enumerate() {
        if at % 3 == 2 || (few && at == 1) {
            halves.1.push(one);
        } else {
            halves.0.push(one);
        }
    }
    halves
}

/// Plays on all cores what trials are compared with; `told` hears the name of each that is ready.
pub fn prepare(
    scenarios: Vec<(Header, Vec<Signal>)>,
    options: &Options,
    stop: &AtomicBool,
    told: impl Fn(&str) + Sync,
) -> Result<Vec<Course>, TuneError> {
    let scenarios: Vec<_> = scenarios
        .into_iter()
        .map(|one| Mutex::new(Some(one)))
        .collect();
    let courses = crew::map(&scenarios, options.threads, stop, |scenario| {
        let mut scenario = scenario.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, signals) = scenario.take().expect("every item is worked on once");
        let course = Course::prepare(header, signals, &options.start)?;
        told(&course.source.name);
        Ok::<Course, FactsError>(course)
    });
    let courses = courses.ok_or(TuneError::Stopped(0))?.into_iter();
    Ok(courses.collect::<Result<Vec<_>, _>>()?)
}

/// Searches; `told` hears of every batch.
pub fn tune(
    halves: &Halves,
    options: &Options,
    stop: &AtomicBool,
    mut told: impl FnMut(Step),
) -> Result<Tuned, TuneError> {
    check(halves)?;
    let head = Head::new(options, halves);
    let (mut journal, known) = Journal::open(&options.journal, &head, options.fresh)?;
    let mut tuning = Tuning {
        halves,
        options,
        stop,
        search: Search::new(&options.start, options.seed),
        entries: Vec::new(),
    };
    let resumed = known.len().min(options.trials);
    let mut ended = Ended::Trials;
    while tuning.entries.len() < options.trials {
        tuning.batch(&known, &mut journal)?;
        let (best_trial, best) = tuning.best();
        let trials = tuning.entries.len();
        told(Step {
            trials,
            best,
            best_trial,
        });
        if trials >= STARTUP && trials - 1 - best_trial >= options.patience {
            ended = Ended::Patience;
            break;
        }
    }
    let (best_trial, best) = tuning.best();
    let chosen = tuning.entries[best_trial].values.clone();
    let chosen = tuning.settle(chosen, best)?;
    let card = tuning.card(&chosen)?;
    Ok(Tuned {
        changed: tuning.search.changed(&chosen),
        file: ModelFile {
            model: tuning.model(&chosen),
            card: Some(card),
        },
        whole: tuning.entries.iter().filter(|entry| !entry.pruned).count(),
        resumed,
        best_trial,
        ended,
    })
}

fn check(halves: &Halves) -> Result<(), TuneError> {
    let mut seen = BTreeSet::new();
    let mut all = halves.training.iter().chain(&halves.validation);
    if let Some(course) = all.find(|course| !seen.insert(&course.source.sha256)) {
        return Err(TuneError::Twice(course.source.name.clone()));
    }
    if halves.training.iter().all(Course::is_quiet) {
        return Err(TuneError::NothingToGain);
    }
    Ok(())
}

// === impl Tuning ===

impl Tuning<'_> {
    /// The next batch: what the journal knows of it is not played again. The start is a batch of its
    /// own, and batches begin at the same trials however many there are in all.
    fn batch(&mut self, known: &[Entry], journal: &mut Journal) -> Result<(), TuneError> {
        let first = self.entries.len();
        let size = if first == 0 { 1 } else { BATCH };
        let last = (first + size).min(self.options.trials);
        let asked: Vec<Values> = (first..last).map(|trial| self.search.ask(trial)).collect();
        let mut batch: Vec<Entry> = Vec::new();
        for (values, entry) in asked.iter().zip(known.iter().skip(first)) {
            if *values != entry.values {
                return Err(JournalError::Strayed(entry.trial).into());
            }
            batch.push(entry.clone());
        }
        let missing = &asked[batch.len()..];
        let fresh = self.play(first + batch.len(), missing)?;
        journal.append(&fresh)?;
        batch.extend(fresh);
        for entry in batch {
            self.search.tell(&entry.values, entry.score);
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Plays trials, a third of the scenarios after the other: a trial that is not to be hoped for any
    /// more is ended there. It is held against what was known at the batch's begin, so that the answer
    /// does not depend on who is faster.
    fn play(&self, first: usize, asked: &[Values]) -> Result<Vec<Entry>, TuneError> {
        let courses = &self.halves.training;
        if first == 0 && asked.len() == 1 {
            let runs: Vec<Run> = courses.iter().map(|course| course.start).collect();
            let marks = marks(courses, &runs);
            return Ok(vec![Entry::whole(0, asked[0].clone(), runs, marks)]);
        }
        let known = self.entries.iter().map(|entry| entry.runs.as_slice());
        let seen = best_seen(courses, known);
        let best = self.best().1;
        let models: Vec<Model> = asked.iter().map(|values| self.model(values)).collect();
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); models.len()];
        let mut alive: Vec<usize> = (0..models.len()).collect();
        for part in courses.chunks(courses.len().div_ceil(3).max(1)) {
            let tasks: Vec<(usize, &Course)> = alive
                .iter()
                .flat_map(|trial| part.iter().map(|course| (*trial, course)))
                .collect();
            let played = crew::map(
                &tasks,
                self.options.threads,
                self.stop,
                |(trial, course)| course.play(&models[*trial]),
            );
            let played = played.ok_or(TuneError::Stopped(self.entries.len()))?;
            for ((trial, _), run) in tasks.iter().zip(played) {
                runs[*trial].push(run);
            }
            alive.retain(|trial| hope(courses, &runs[*trial], &seen) >= best);
        }
        let entries = asked.iter().zip(runs).zip(first..);
        let entries = entries.map(|((values, runs), trial)| {
            if runs.len() == courses.len() {
                let marks = marks(courses, &runs);
                return Entry::whole(trial, values.clone(), runs, marks);
            }
            // What was not played is taken as the start has it.
            let rest = courses[runs.len()..].iter().map(|course| course.start);
            let guess: Vec<Run> = runs.iter().copied().chain(rest).collect();
            let guess = marks(courses, &guess)
                .objective
                .min(hope(courses, &runs, &seen));
            Entry::pruned(trial, values.clone(), runs, guess)
        });
        Ok(entries.collect())
    }

    /// Values that the training scenarios cannot tell from those of the start go back there, one
    /// after the other: what a score does not ask for is left as it was argued.
    fn settle(&self, mut chosen: Values, best: f64) -> Result<Values, TuneError> {
        for (key, value) in self.search.start() {
            if chosen.get(key) == Some(value) {
                continue;
            }
            let mut simpler = chosen.clone();
            simpler.insert(key.clone(), *value);
            let runs = self.run(&self.halves.training, &simpler)?;
            if marks(&self.halves.training, &runs).objective >= best - SETTLE_SLACK {
                chosen = simpler;
            }
        }
        Ok(chosen)
    }

    fn card(&self, chosen: &Values) -> Result<Card, TuneError> {
        let halves = self.halves;
        let all = halves.training.iter().chain(&halves.validation);
        let until = all.clone().map(|course| course.end).max();
        let date = self.options.date.clone();
        Ok(Card {
            by: concat!("forelay ", env!("CARGO_PKG_VERSION")).to_owned(),
            date: date.unwrap_or_else(|| until.map_or_else(String::new, |at| at.to_string())),
            seed: self.options.seed,
            trials: self.entries.len(),
            training: halves.training.iter().map(|c| c.source.clone()).collect(),
            validation: halves.validation.iter().map(|c| c.source.clone()).collect(),
            training_scores: self.scores(&halves.training, chosen)?,
            validation_scores: self.scores(&halves.validation, chosen)?,
        })
    }

    fn scores(
        &self,
        courses: &[Course],
        chosen: &Values,
    ) -> Result<BTreeMap<String, Marks>, TuneError> {
        let of = |run: &dyn Fn(&Course) -> Run| {
            let runs: Vec<Run> = courses.iter().map(run).collect();
            marks(courses, &runs)
        };
        let start = if self.options.start == Model::untuned() {
            "untuned"
        } else {
            "start"
        };
        let tuned = marks(courses, &self.run(courses, chosen)?);
        Ok([
            ("tuned", tuned),
            (start, of(&|course| course.start)),
            ("pending-only", of(&|course| course.pending_only)),
            ("decayed", of(&|course| course.decayed)),
        ]
        .map(|(name, marks)| (name.to_owned(), marks))
        .into())
    }

    fn run(&self, courses: &[Course], values: &Values) -> Result<Vec<Run>, TuneError> {
        let model = self.model(values);
        let courses: Vec<&Course> = courses.iter().collect();
        let runs = crew::map(&courses, self.options.threads, self.stop, |course| {
            course.play(&model)
        });
        runs.ok_or(TuneError::Stopped(self.entries.len()))
    }

    fn model(&self, values: &Values) -> Model {
        let numbers = values.iter().map(|(key, value)| (key.as_str(), *value));
        self.options.start.with_numbers(numbers)
    }

    /// The best trial that was played to its end, and its objective; of equals the first.
    fn best(&self) -> (usize, f64) {
        let whole = self.entries.iter().filter(|entry| !entry.pruned);
        whole.fold((0, f64::NEG_INFINITY), |best, entry| {
            if entry.score > best.1 {
                (entry.trial, entry.score)
            } else {
                best
            }
        })
    }
}
