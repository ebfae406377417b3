//! Raw watch recordings into scenarios: the same translator as live, fed in order of receipt.
//!
//! A recording is a folder with one file of JSON lines per collection: a full LIST, then the lines
//! of a WATCH, each with the time of receipt (`t`, unix seconds).

mod catalogue;
mod images;
mod load;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::scenario::{Header, HeaderType, PoolWorld, SharedWorld};
use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::{Settings, Translator};

pub use catalogue::Catalogue;
pub use images::ImageReport;
pub use load::LoadSource;
pub use read::{Collection, Entry, Recording, read_line};

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
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's or the decoder's words.
        source: std::io::Error,
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

/// Compressed bytes per second that one core unpacks: the median of 156 to 187 MB/s measured on real
/// nodes (kubelet-pulls data, zero-filled layers), over a compression ratio of 2.5.
const UNPACK: Bandwidth = Bandwidth(65e6);

/// Unpacked over compressed bytes, assumed where nothing is known.
pub const UNPACKED_RATIO: f64 = 2.5;

/// First estimate of a node's link before calibration: with it and 0.4 s per pull the pull times of
/// both recordings come out within a few per cent.
pub const LINK_ESTIMATE: Bandwidth = Bandwidth(59e6);

/// Image disk of a node that tells no ephemeral storage: 100 GB, a usual root disk.
const DISK: ByteSize = ByteSize(100_000_000_000);

/// Reads a whole recording.
pub fn import(folder: &Path, options: &Options) -> Result<Imported, RecordingError> {
    let mut recording = Recording::open(folder)?;
    let start = options.start.unwrap_or(recording.listed());
    let mut translator = Translator::new(options.settings.clone());
    let mut signals = Vec::new();
    let mut end = start;
    while let Some(entry) = recording.advance()? {
        let observed = entry.received.max(start);
        end = end.max(observed);
        signals.extend(match &entry.what {
            read::What::Object(change, object) => translator.observe(*change, object, observed),
            read::What::Relisted(kind, kept) => translator.relisted(*kind, kept, observed),
        });
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
    let catalogue = match &options.catalogue {
        Some((images, layers)) => Some((images.as_path(), layers.as_path())),
        None => None,
    };
    let (images, found) = images::look_up(&signals, catalogue)?;
    report.images = found;
    let header = Header {
        kind: HeaderType::V1,
        name: name(folder, &options.about),
        story: story(&options.about, folder),
        provenance: provenance(&options.about),
        licence: licence(&options.about),
        start,
        end,
        pools: pools(&signals, options.link),
        shared: SharedWorld {
            cache_uplink: Bandwidth(1.25e9),
            origin: Bandwidth(250e6),
        },
        images,
    };
    Ok(Imported {
        header,
        signals,
        report,
    })
}

fn name(folder: &Path, about: &About) -> String {
    if about.name.is_empty() {
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    } else {
        about.name.clone()
    }
}

fn story(about: &About, folder: &Path) -> String {
    if about.story.is_empty() {
        format!("The recording {}.", name(folder, about))
    } else {
        about.story.clone()
    }
}

fn licence(about: &About) -> String {
    if about.licence.is_empty() {
        "not stated".into()
    } else {
        about.licence.clone()
    }
}

/// What is real and what is derived, said in every file.
fn provenance(about: &About) -> String {
    let own = "Signals come from LIST and WATCH lines of an API server, in order of receipt. Layers of \
        images come from the catalogue converged-computing/container-chonks (a 2024 crawl of public \
        manifests) where it has the image: which layers, their compressed sizes and the first 16 \
        digits of their digests are real. The other 48 digits are the SHA-256 of those 16, and \
        manifest digests are made from the layers': no registry knows them. Images without an entry \
        are one layer of the size that the kubelet told. Unpacked sizes are assumed to be 2.5 times \
        the compressed ones. Links, unpack rates and what nodes share are a model, not recorded.";
    if about.provenance.is_empty() {
        own.to_owned()
    } else {
        format!("{} {own}", about.provenance.trim_end())
    }
}

/// One world for every pool, and one more for each pool whose nodes have another disk.
fn pools(signals: &[Signal], link: Bandwidth) -> BTreeMap<String, PoolWorld> {
    let mut disks: BTreeMap<&str, BTreeSet<ByteSize>> = BTreeMap::new();
    for signal in signals {
        if let Fact::NodeJoined(joined) = &signal.fact
            && let Some(room) = &joined.shape.capacity
            && room.ephemeral.0 > 0
        {
            disks
                .entry(&joined.pool)
                .or_default()
                .insert(room.ephemeral);
        }
    }
    let world = |disk: ByteSize| PoolWorld {
        link,
        unpack: UNPACK,
        disk,
        pull_overhead_s: 0.4, // mean of 186 zero-byte pulls in the recordings: 0.389 s
        agent_start_s: 5.0,   // DaemonSet pods in the recordings start 3.5 to 5 s after the Node
    };
    let smallest = |sizes: &BTreeSet<ByteSize>| sizes.first().copied();
    let common = disks.values().filter_map(smallest).min().unwrap_or(DISK);
    let mut pools = BTreeMap::from([("*".to_owned(), world(common))]);
    for (pool, sizes) in &disks {
        let disk = smallest(sizes).unwrap_or(common);
        if disk != common && !pool.is_empty() {
            pools.insert((*pool).to_owned(), world(disk));
        }
    }
    pools
}
