//! Trials on disk, one line each, so that a search goes on where it was stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::forecast::model::{Marks, Source};
use crate::sim::tune::objective::Run;
use crate::sim::tune::search::{Values, space};
use crate::sim::tune::{Halves, Options, objective};

/// Longest journal that is read: half a million trials.
const BYTES_MAX: u64 = 512 << 20;

/// First line: what the trials after it depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Format of the journal.
    pub journal: u32,
    /// Program and version: another one may score otherwise.
    pub by: String,
    /// Of the search.
    pub seed: u64,
    /// Digest of the parameters, their ranges and the start.
    pub space: String,
    /// Version of the objective.
    pub objective: u32,
    /// Chosen by.
    pub training: Vec<Source>,
    /// Judged by.
    pub validation: Vec<Source>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 0.
    pub trial: usize,
    /// What was tried.
    pub values: Values,
    /// The objective on the training scenarios; a guess where it was ended early.
    pub score: f64,
    /// Whether it was ended early, because it could not become the best.
    pub pruned: bool,
    /// What was played, in the order of the training scenarios; fewer where it was.
    pub runs: Vec<Run>,
    /// All scores, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system says no.
    #[error("journal {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("journal {}: another tune is at work on it", .0.display())]
    Taken(PathBuf),
    /// A line that is none.
    #[error("journal {} line {line}: {reason}; `--fresh` starts over", path.display())]
    Line {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It tells of another search.
    #[error("journal {} is of another search: {reason}; `--fresh` starts over", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Same head, other questions: a defect, or a changed file.
    #[error(
        "trial {0} of the journal tried other values than this search asks; `--fresh` starts over"
    )]
    Strayed(usize),
}

// === impl Head ===

impl Head {
    /// Of a search.
    #[must_use]
    pub fn new(options: &Options, halves: &Halves) -> Self {
        Self {
            journal: 1,
            by: concat!("forelay ", env!("CARGO_PKG_VERSION")).to_owned(),
            seed: options.seed,
            space: space(&options.start),
            objective: objective::VERSION,
            training: halves.training.iter().map(|c| c.source.clone()).collect(),
            validation: halves.validation.iter().map(|c| c.source.clone()).collect(),
        }
    }

    /// What makes this another search than `wanted`.
    fn difference(&self, wanted: &Self) -> Option<String> {
        let pair = |what: &str, found: &str, wanted: &str| {
            (found != wanted).then(|| format!("{what} {found}, not {wanted}"))
        };
        let text = |number: u64| number.to_string();
        let (found, want) = (self, wanted);
        pair(
            "format",
            &text(found.journal.into()),
            &text(want.journal.into()),
        )
        .or_else(|| pair("written by", &found.by, &want.by))
        .or_else(|| pair("seed", &text(found.seed), &text(want.seed)))
        .or_else(|| pair("parameters, ranges and start", &found.space, &want.space))
        .or_else(|| {
            let (found, want) = (found.objective.into(), want.objective.into());
            pair("objective", &text(found), &text(want))
        })
        .or_else(|| sources("training scenarios", &found.training, &want.training))
        .or_else(|| sources("validation scenarios", &found.validation, &want.validation))
    }
}

fn sources(what: &str, found: &[Source], wanted: &[Source]) -> Option<String> {
    if found == wanted {
        return None;
    }
    let names = |sources: &[Source]| {
        let short = |source: &Source| {
            let digest = source.sha256.get(..8).unwrap_or(&source.sha256);
            format!("{} ({digest})", source.name)
        };
        sources.iter().map(short).collect::<Vec<_>>().join(", ")
    };
    Some(format!("{what} {}, not {}", names(found), names(wanted)))
}

// === impl Entry ===

impl Entry {
    pub(super) fn whole(trial: usize, values: Values, runs: Vec<Run>, marks: Marks) -> Self {
        Self {
            trial,
            values,
            score: marks.objective,
            pruned: false,
            runs,
            marks: Some(marks),
        }
    }

    pub(super) fn pruned(trial: usize, values: Values, runs: Vec<Run>, guess: f64) -> Self {
        Self {
            trial,
            values,
            score: guess,
            pruned: true,
            runs,
            marks: None,
        }
    }
}

// === impl Journal ===

impl Journal {
    /// Opens or begins a journal; the trials that it has, in order. What a crash left of a last line
    /// is cut off.
    pub fn open(path: &Path, head: &Head, fresh: bool) -> Result<(Self, Vec<Entry>), JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(io)?;
        if file.try_lock().is_err() {
            return Err(JournalError::Taken(path.to_owned()));
        }
        let mut text = String::new();
        if fresh {
            file.set_len(0).map_err(io)?;
        } else {
            let mut bounded = (&mut file).take(BYTES_MAX);
            bounded.read_to_string(&mut text).map_err(io)?;
        }
        let sound = text.rfind('\n').map_or(0, |end| end + 1);
        let entries = entries(path, &text[..sound], head)?;
        file.set_len(sound as u64).map_err(io)?;
        file.seek(SeekFrom::Start(sound as u64)).map_err(io)?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
        };
        if sound == 0 {
            journal.write(&[head])?;
        }
        Ok((journal, entries))
    }

    /// Adds trials; they are on disk when this returns.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.write(entries)
    }

    fn write<T: Serialize>(&mut self, lines: &[T]) -> Result<(), JournalError> {
        let mut text = String::new();
        for line in lines {
            let line = serde_json::to_string(line);
            text += &line.expect("a journal has plain values only");
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes());
        let kept = written.and_then(|()| self.file.sync_data());
        kept.map_err(|source| JournalError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

fn entries(path: &Path, text: &str, head: &Head) -> Result<Vec<Entry>, JournalError> {
    let fault = |line: usize, reason: String| JournalError::Line {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut lines = text.lines();
    let Some(first) = lines.next() else {
        return Ok(Vec::new());
    };
    let found: Head = serde_json::from_str(first)
        .map_err(|e| fault(1, format!("it is no head of a journal: {e}")))?;
    if let Some(reason) = found.difference(head) {
        return Err(JournalError::Other {
            path: path.to_owned(),
            reason,
        });
    }
    let mut entries = Vec::new();
    for (line, trial) in lines.zip(0..) {
        let entry: Entry =
            serde_json::from_str(line).map_err(|e| fault(trial + 2, e.to_string()))?;
        if entry.trial != trial {
            return Err(fault(trial + 2, format!("trial {trial} is missing")));
        }
        entries.push(entry);
    }
    Ok(entries)
}
