//! Collections of a recording, merged by the time of receipt.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::time::Timestamp;
use crate::source::kubernetes::Change;
use crate::source::kubernetes::objects::{Kind, Object};
use crate::source::lines::{Lines, Next};
use crate::source::recording::{RecordingError, Report};

/// Longest accepted line: a LIST of 30,000 pods of 8 kB.
const LINE_MAX: usize = 256 << 20;

/// One observation.
#[derive(Debug)]
pub struct Entry {
    /// When it was received.
    pub received: Timestamp,
    /// What.
    pub what: What,
}

/// What was received.
#[derive(Debug)]
pub enum What {
    /// One object, and what happened to it.
    Object(Change, Box<Object>),
    /// A later LIST ended: these uids are all that is left of the kind.
    Relisted(Kind, HashSet<String>),
}

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

#[derive(Deserialize)]
struct RawLine<'a> {
    t: f64,
    op: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What one line holds, and what is wrong with it: member and reason.
type Fault = (String, String);

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

/// One line of a collection of this kind: what it says, or why it says nothing.
pub fn read_line(kind: Kind, line: &[u8]) -> Result<(Vec<Entry>, Option<&'static str>), Fault> {
    let raw = raw_line(line)?;
    let received = Timestamp::from_secs_f64(raw.t);
    match raw.op.as_str() {
        "LIST" => {
            let mut entries = list(kind, received, raw.body)?;
            let kept = entries.iter().filter_map(|entry| match &entry.what {
                What::Object(_, object) => object.metadata().uid.clone(),
                What::Relisted(..) => None,
            });
            let what = What::Relisted(kind, kept.collect());
            entries.push(Entry { received, what });
            Ok((entries, None))
        }
        "EVENT" => event(kind, received, raw.event),
        "WATCH" => Ok((Vec::new(), Some("watch opened"))),
        "END" => Ok((Vec::new(), Some("watch ended"))),
        other => Err((
            "op".into(),
            format!("`{other}` is not LIST, WATCH, EVENT or END"),
        )),
    }
}

fn raw_line(line: &[u8]) -> Result<RawLine<'_>, Fault> {
    let json = &mut serde_json::Deserializer::from_slice(line);
    serde_path_to_error::deserialize(json)
        .map_err(|e| (e.path().to_string(), e.inner().to_string()))
}

/// The first line of a file: kind, time of receipt, objects.
#[allow(clippy::type_complexity, reason = "read in one place, right above")]
fn list_line(line: &[u8]) -> Result<Option<(Kind, (Timestamp, Vec<Entry>))>, Fault> {
    let raw = raw_line(line)?;
    if raw.op != "LIST" {
        let reason = format!("`{}`: the file must begin with a LIST", raw.op);
        return Err(("op".into(), reason));
    }
    let Some(kind) = kind_of(raw.path.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    let received = Timestamp::from_secs_f64(raw.t);
    let entries = list(kind, received, raw.body)?;
    Ok(Some((kind, (received, entries))))
}

/// `/api/v1/[namespaces/NS/]PLURAL` or `/apis/GROUP/VERSION/[namespaces/NS/]PLURAL`.
fn kind_of(path: &str) -> Option<Kind> {
    let path = path.split('?').next()?;
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let group = match parts.as_slice() {
        ["api", ..] => "",
        ["apis", group, ..] => group,
        _ => return None,
    };
    Kind::of(group, parts.last()?)
}

fn list(kind: Kind, received: Timestamp, body: Option<&RawValue>) -> Result<Vec<Entry>, Fault> {
    let fault = |member: &str, e: serde_json::Error| (member.to_owned(), e.to_string());
    let Some(body) = body else {
        return Err(("body".into(), "a LIST needs one".into()));
    };
    let raw: RawList<'_> = serde_json::from_str(body.get()).map_err(|e| fault("body", e))?;
    let items = raw.items.unwrap_or_default().into_iter().enumerate();
    items
        .map(|(index, item)| {
            let object = Object::from_json(kind, item.get())
                .map_err(|e| fault(&format!("body.items[{index}]"), e))?;
            Ok(Entry {
                received,
                what: What::Object(Change::Applied, Box::new(object)),
            })
        })
        .collect()
}

fn event(
    kind: Kind,
    received: Timestamp,
    event: Option<&RawValue>,
) -> Result<(Vec<Entry>, Option<&'static str>), Fault> {
    let fault = |member: &str, e: serde_json::Error| (member.to_owned(), e.to_string());
    let Some(event) = event else {
        return Err(("event".into(), "an EVENT needs one".into()));
    };
    let raw: RawEvent<'_> = serde_json::from_str(event.get()).map_err(|e| fault("event", e))?;
    let change = match raw.r#type.as_str() {
        "ADDED" | "MODIFIED" => Change::Applied,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => return Ok((Vec::new(), Some("bookmark"))),
        "ERROR" => return Ok((Vec::new(), Some("watch error"))),
        other => {
            let reason = format!("`{other}` is no watch event");
            return Err(("event.type".into(), reason));
        }
    };
    let object = Object::from_json(kind, raw.object.get()).map_err(|e| fault("event.object", e))?;
    let what = What::Object(change, Box::new(object));
    Ok((vec![Entry { received, what }], None))
}
