//! Raw watch recordings into scenarios: the same translator as live, fed in order of receipt.
//!
//! A recording is a folder with one file of JSON lines per collection: a full LIST, then the lines
//! of a WATCH, each with the time of receipt (`t`, unix seconds).

mod catalogue;
mod header;
mod images;
mod line;
mod load;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::quantity::Bandwidth;
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::kubernetes::{Settings, Translator};

pub use catalogue::Catalogue;
pub use images::ImageReport;
pub use line::{Entry, What, read_line};
pub use load::LoadSource;
pub use read::{Collection, Recording};

/// What an import may be told beside the folder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name, story, where it comes from, licence.
    pub about: About,
    /// How objects are read.
    pub settings: Settings,
    /// Instant of the beginning; the last first LIST where missing. What was received before it
    /// counts as known then.
    pub start: Option<Timestamp>,
    /// Where image layers are looked up.
    pub catalogue: Option<(PathBuf, PathBuf)>,
    /// Load series to add.
    pub loads: Vec<LoadSource>,
    /// Bytes per second into a node.
    pub link: Bandwidth,
}

/// The words of the header.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The folder's name, where empty.
    pub name: String,
    /// One sentence, where empty.
    pub story: String,
    /// What is said before the importer's own account.
    pub provenance: String,
    /// SPDX expression or names.
    pub licence: String,
}

/// A recording that became a scenario.
#[derive(Clone, Debug)]
pub struct Imported {
    /// First line of the file.
    pub header: Header,
    /// In order of `observedtime`.
    pub signals: Vec<Signal>,
    /// What was read, skipped and looked up.
    pub report: Report,
}

/// What became of the recording's lines.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// Objects observed, listed ones included.
    pub objects: u64,
    /// Signals by type.
    pub signals: BTreeMap<String, u64>,
    /// What gave no signal, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Files that were not read, with the reason.
    pub left_out: BTreeMap<String, String>,
    /// Images.
    pub images: ImageReport,
}

/// A recording that cannot be read; every message says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The folder or a file could not be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's or the decoder's words.
        source: std::io::Error,
    },
    /// The wished start is not within the recording.
    #[error(
        "the start {start} is after the last line, of {last}: name an instant of the recording"
    )]
    Start {
        /// As wished.
        start: Timestamp,
        /// Receipt of the last line.
        last: Timestamp,
    },
    /// Nothing in the folder is a collection.
    #[error(
        "{}: no collection in it: give the folder that holds nodes.jsonl.gz, pods.jsonl.gz and so on",
        .0.display()
    )]
    Empty(PathBuf),
    /// A line is not of the recording format.
    #[error("{}:{line}: {member}: {reason}; record the collection again, or remove the line", path.display())]
    Line {
        /// File.
        path: PathBuf,
        /// Counted from one.
        line: u64,
        /// Member path.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// A table (catalogue or load) is not as expected.
    #[error("{}: {reason}", path.display())]
    Table {
        /// File.
        path: PathBuf,
        /// What is wrong and what is expected.
        reason: String,
    },
}

/// Unpacked over compressed bytes, assumed where nothing is known.
pub const UNPACKED_RATIO: f64 = 2.5;

/// First estimate of a node's link before calibration: with it and 0.4 s per pull the pull times of
/// both recordings come out within a few per cent.
pub const LINK_ESTIMATE: Bandwidth = Bandwidth(59e6);

/// Reads a whole recording.
pub fn import(folder: &Path, options: &Options) -> Result<Imported, RecordingError> {
    let mut recording = Recording::open(folder)?;
    let start = options.start.unwrap_or(recording.listed());
    let mut translator = Translator::new(options.settings.clone());
    let mut signals = Vec::new();
    let mut end = start;
    let mut last = recording.listed();
    while let Some(entry) = recording.advance()? {
        last = last.max(entry.received);
        let observed = entry.received.max(start);
        end = end.max(observed);
        signals.extend(match &entry.what {
            What::Object(change, object) => translator.observe(*change, object, observed),
            What::Relisted(kind, kept) => translator.relisted(*kind, kept, observed),
        });
    }
    if start > last {
        return Err(RecordingError::Start { start, last });
    }
    for load in &options.loads {
        signals.extend(load::samples(load, start, end)?);
    }
    // Stable: what was received in the same instant stays in reading order.
    signals.sort_by_key(|signal| signal.observedtime);
    let mut report = recording.report();
    for (reason, count) in translator.skipped() {
        *report.skipped.entry((*reason).to_owned()).or_default() += count;
    }
    for signal in &signals {
        let kind = signal.fact.event_type().to_owned();
        *report.signals.entry(kind).or_default() += 1;
    }
    let (images, found) = images::look_up(&signals, options.catalogue.as_ref())?;
    report.images = found;
    let mut header = header::header(folder, options, &signals);
    (header.start, header.end, header.images) = (start, end, images);
    Ok(Imported {
        header,
        signals,
        report,
    })
}
