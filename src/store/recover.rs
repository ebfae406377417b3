//! What a start finds on disk, whatever the last run left.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::port::RuntimeError;
use crate::store::{Entry, io_error};

/// A partial blob that nobody resumed for a day is not wanted any more.
const PARTIAL_MAX_AGE: Duration = Duration::from_hours(24);

/// Counts of what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole blobs.
    pub blobs: usize,
    /// Partial blobs kept for a resume.
    pub partials: usize,
    /// Temporary files and stale partial blobs that were dropped.
    pub dropped: usize,
    /// Files under `blobs/` that are not named as blobs: left alone, never served.
    pub strange: usize,
}

/// Lists blobs; drops temporary files.
pub(super) fn scan(
    root: &Path,
    now: Timestamp,
) -> Result<(HashMap<Digest, Entry>, Recovery), RuntimeError> {
    let mut recovery = Recovery::default();
    let mut blobs = HashMap::new();
    for entry in files(&root.join("blobs/sha256"))? {
        match (digest_named(&entry, ""), entry.metadata()) {
            (Some(digest), Ok(meta)) if meta.is_file() => {
                let used = meta.modified().map_or(Timestamp::ZERO, timestamp);
                let size = ByteSize(meta.len());
                blobs.insert(digest, Entry { size, used });
            }
            _ => recovery.strange += 1,
        }
    }
    recovery.blobs = blobs.len();
    for entry in files(&root.join("ingest"))? {
        let wanted = digest_named(&entry, ".partial").is_some_and(|digest| {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let age = modified.map_or(Duration::MAX, |at| now.since(timestamp(at)));
            !blobs.contains_key(&digest) && age <= PARTIAL_MAX_AGE
        });
        if wanted {
            recovery.partials += 1;
        } else {
            let path = entry.path();
            fs::remove_file(&path).map_err(|e| io_error("remove", &path, &e))?;
            recovery.dropped += 1;
        }
    }
    Ok((blobs, recovery))
}

/// Moves a file that is not what its name says out of sight; keeps at most `max` such files.
pub(super) fn quarantine(
    root: &Path,
    file: &Path,
    name: &str,
    max: usize,
) -> Result<(), RuntimeError> {
    let directory = root.join("quarantine");
    let mut kept = files(&directory)?;
    kept.sort_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    let surplus = (kept.len() + 1).saturating_sub(max);
    for entry in kept.into_iter().take(surplus) {
        let path = entry.path();
        fs::remove_file(&path).map_err(|e| io_error("remove", &path, &e))?;
    }
    let to = directory.join(name);
    fs::rename(file, &to).map_err(|e| io_error("rename into", &to, &e))
}

/// An instant in the file system's words.
pub(super) fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + at.since(Timestamp::ZERO)
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::ZERO + since.unwrap_or(Duration::ZERO)
}

fn files(directory: &Path) -> Result<Vec<DirEntry>, RuntimeError> {
    let listed = fs::read_dir(directory).and_then(Iterator::collect);
    listed.map_err(|e| io_error("list", directory, &e))
}

fn digest_named(entry: &DirEntry, suffix: &str) -> Option<Digest> {
    let name = entry.file_name();
    let hex = name.to_str()?.strip_suffix(suffix)?;
    format!("sha256:{hex}").parse().ok()
}
