//! Collections of a recording, merged by the time of receipt.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::Kind;
use crate::source::lines::{Lines, Next};
use crate::source::recording::line::{Entry, Fault, list_line, read_line};
use crate::source::recording::{RecordingError, Report};

/// Longest accepted line: a LIST of 30,000 pods of 8 kB.
const LINE_MAX: usize = 256 << 20;

/// All collections of a folder.
pub struct Recording {
    collections: Vec<Collection>,
    report: Report,
}

/// One file, read up to its next observation.
pub struct Collection {
    path: PathBuf,
    kind: Kind,
    lines: Lines,
    listed: Option<Timestamp>,
    waiting: VecDeque<Entry>,
    skipped: BTreeMap<&'static str, u64>,
    read: u64,
}

// === impl Recording ===

impl Recording {
    /// Opens every collection that signals can come from, and reads their first LISTs.
    pub fn open(folder: &Path) -> Result<Self, RecordingError> {
        let mut report = Report::default();
        let mut collections: Vec<Collection> = Vec::new();
        for path in files(folder)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            match Collection::open(&path)? {
                None => {
                    let reason = "no signal comes from this collection";
                    report.left_out.insert(file.into(), reason.into());
                }
                // The two APIs of Events serve the same objects: the first file counts.
                Some(found) if collections.iter().any(|c| c.kind == found.kind) => {
                    let reason = "a second copy of a collection that is read";
                    report.left_out.insert(file.into(), reason.into());
                }
                Some(found) => collections.push(found),
            }
        }
        if collections.is_empty() {
            return Err(RecordingError::Empty(folder.to_owned()));
        }
        collections.sort_by_key(|c| c.kind);
        let mut recording = Self {
            collections,
            report,
        };
        let listed = recording.listed();
        for collection in &mut recording.collections {
            for entry in &mut collection.waiting {
                entry.received = listed; // known together, in the order of kinds
            }
        }
        Ok(recording)
    }

    /// When the last of the first LISTs was received.
    #[must_use]
    pub fn listed(&self) -> Timestamp {
        let times = self.collections.iter().filter_map(|c| c.listed);
        times.max().unwrap_or(Timestamp::ZERO)
    }

    /// The next observation of all; LISTs come before what was received while they were taken.
    pub fn advance(&mut self) -> Result<Option<Entry>, RecordingError> {
        let listed = self.listed();
        for collection in &mut self.collections {
            collection.fill(listed)?;
        }
        let first = self
            .collections
            .iter_mut()
            .filter(|c| !c.waiting.is_empty())
            .min_by_key(|c| (c.waiting[0].received, c.kind));
        Ok(first.and_then(|c| c.waiting.pop_front()))
    }

    /// Counts so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        for collection in &self.collections {
            report.lines += collection.lines.number();
            report.objects += collection.read;
            for (reason, count) in &collection.skipped {
                *report.skipped.entry((*reason).to_owned()).or_default() += count;
            }
        }
        report
    }
}

/// Collections by name, so that `events-core-v1` comes before its copy.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let failed = |source| RecordingError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if [".jsonl", ".jsonl.gz", ".jsonl.zst"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

// === impl Collection ===

impl Collection {
    /// Opens one file and reads its LIST; `None` where its kind gives no signals.
    fn open(path: &Path) -> Result<Option<Self>, RecordingError> {
        let io = |source| RecordingError::Io {
            path: path.to_owned(),
            source,
        };
        let mut lines = Lines::open(path, LINE_MAX).map_err(io)?;
        let fault = |line: u64, (member, reason): Fault| RecordingError::Line {
            path: path.to_owned(),
            line,
            member,
            reason,
        };
        let first = lines.advance().map_err(io)?;
        if first != Next::Line {
            let reason = "the file must begin with a LIST".to_owned();
            return Err(fault(1, ("line".into(), reason)));
        }
        let (kind, entries) = match list_line(lines.line()) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(found) => return Err(fault(lines.number(), found)),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            kind,
            lines,
            listed: Some(entries.0),
            read: entries.1.len() as u64,
            waiting: entries.1.into(),
            skipped: BTreeMap::new(),
        }))
    }

    /// Reads until an observation waits or the file ends.
    fn fill(&mut self, listed: Timestamp) -> Result<(), RecordingError> {
        while self.waiting.is_empty() {
            match self.lines.advance().map_err(|source| RecordingError::Io {
                path: self.path.clone(),
                source,
            })? {
                Next::End => return Ok(()),
                Next::TooLong => {
                    self.skip("line too long");
                    continue;
                }
                Next::Line => {}
            }
            let found = read_line(self.kind, self.lines.line());
            let (entries, skipped) = found.map_err(|(member, reason)| RecordingError::Line {
                path: self.path.clone(),
                line: self.lines.number(),
                member,
                reason,
            })?;
            if let Some(reason) = skipped {
                self.skip(reason);
            }
            self.read += entries.len() as u64;
            self.waiting.extend(entries);
            for entry in &mut self.waiting {
                entry.received = entry.received.max(listed);
            }
        }
        Ok(())
    }

    fn skip(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }
}
