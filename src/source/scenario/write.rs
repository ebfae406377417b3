//! Signals into a scenario file: the same signals give the same bytes.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::scenario::{ScenarioError, Spot};

/// One level for every file, so that equal signals are equal bytes; the highest that needs no more
/// than 8 MiB of window to read, because a scenario is written once and kept in git.
const ZSTD_LEVEL: i32 = 19;

/// Writes beside the target, and puts the file in its place only when it is whole.
pub struct ScenarioWriter {
    output: Output,
    target: PathBuf,
    spot: Spot,
    before: Timestamp,
}

enum Output {
    Plain(BufWriter<NamedTempFile>),
    Gzip(GzEncoder<BufWriter<NamedTempFile>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<NamedTempFile>>),
}

impl ScenarioWriter {
    /// Begins a file with its header; `.zst` and `.gz` compress, every other name is plain.
    pub fn create(path: &Path, header: &Header) -> Result<Self, ScenarioError> {
        let output = Output::beside(path).map_err(|source| ScenarioError::Open {
            file: path.to_owned(),
            source,
        })?;
        let mut writer = Self {
            output,
            target: path.to_owned(),
            spot: Spot {
                file: path.to_owned(),
                line: 0,
            },
            before: Timestamp::from_micros(i64::MIN),
        };
        writer.line(header)?;
        Ok(writer)
    }

    /// Appends one signal; refuses one that was observed before its predecessor.
    pub fn write(&mut self, signal: &Signal) -> Result<(), ScenarioError> {
        if signal.observedtime < self.before {
            return Err(ScenarioError::Order {
                spot: Spot {
                    line: self.spot.line + 1,
                    ..self.spot.clone()
                },
                observed: signal.observedtime,
                before: self.before,
            });
        }
        self.before = signal.observedtime;
        self.line(signal)
    }

    /// Ends the compression and moves the whole file to its place.
    pub fn finish(self) -> Result<(), ScenarioError> {
        let Self {
            output,
            target,
            spot,
            ..
        } = self;
        output
            .finish()
            .and_then(|file| file.persist(&target).map_err(|e| e.error))
            .map(drop)
            .map_err(|source| ScenarioError::Write { spot, source })
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), ScenarioError> {
        self.spot.line += 1;
        let written = serde_json::to_writer(&mut self.output, value)
            .map_err(io::Error::from)
            .and_then(|()| self.output.write_all(b"\n"));
        written.map_err(|source| ScenarioError::Write {
            spot: self.spot.clone(),
            source,
        })
    }
}

// === impl Output ===

impl Output {
    fn beside(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".scenario-")
            .permissions(Permissions::from_mode(0o666)) // less the umask, as File::create does
            .tempfile_in(folder)?;
        let file = BufWriter::new(file);
        Ok(match path.extension().and_then(|e| e.to_str()) {
            Some("zst") => {
                let mut encoder = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Some("gz") => Self::Gzip(GzBuilder::new().mtime(0).write(file, Compression::best())),
            _ => Self::Plain(file),
        })
    }

    fn finish(self) -> io::Result<NamedTempFile> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        File::sync_all(file.as_file())?;
        Ok(file)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
