//! Every way in which a scenario file can be wrong, with the place where it is.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::domain::time::Timestamp;

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// As given by the caller.
    pub file: PathBuf,
    /// Counted from one; the header is line 1.
    pub line: u64,
}

/// A scenario file that cannot be read or written; every message says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be opened or created.
    #[error("{}: cannot be opened: check the path and its permissions", file.display())]
    Open {
        /// As given.
        file: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Reading (or decompressing) broke off.
    #[error("{spot}: cannot read on: the file is cut short or damaged, fetch or make it again")]
    Read {
        /// Last line that was begun.
        spot: Spot,
        /// The system's or the decoder's words.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("{spot}: cannot write")]
    Write {
        /// Line that was to be written.
        spot: Spot,
        /// The system's or the encoder's words.
        source: io::Error,
    },
    /// The first line is missing or is no header.
    #[error("{spot}: {member}: {reason}; line 1 must be a dev.forelay.scenario.v1 header")]
    Header {
        /// Always line 1.
        spot: Spot,
        /// Path of the member.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A line is no signal.
    #[error("{spot}: {member}: {reason}; mend the line, or read with --lenient to skip it")]
    Line {
        /// Where.
        spot: Spot,
        /// Path of the member, `data.pod.uid`.
        member: String,
        /// What is wrong with it.
        reason: String,
        /// Its class.
        kind: SkipReason,
    },
    /// A line is longer than the reader holds.
    #[error(
        "{spot}: longer than {limit} bytes; one signal a line, or read with --lenient to skip it"
    )]
    TooLong {
        /// Where.
        spot: Spot,
        /// [`super::MAX_LINE`]
        limit: usize,
    },
    /// A signal was observed before the one above it.
    #[error(
        "{spot}: observedtime: {observed} is before {before} of the line above; \
         sort the signals by observedtime"
    )]
    Order {
        /// Where.
        spot: Spot,
        /// Of this line.
        observed: Timestamp,
        /// Of the signal above.
        before: Timestamp,
    },
    /// A signal was observed after the scenario's end.
    #[error(
        "{spot}: observedtime: {observed} is after the header's end, {end}; \
         mend one of them, or read with --lenient to skip the line"
    )]
    Beyond {
        /// Where.
        spot: Spot,
        /// Of this line.
        observed: Timestamp,
        /// Of the header.
        end: Timestamp,
    },
}

/// Why a lenient reader skipped a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// Not JSON, not UTF-8, or not an object.
    Malformed,
    /// A `type` that this version does not know.
    UnknownType,
    /// A member is missing, unknown or of the wrong form.
    BadMember,
    /// Longer than [`super::MAX_LINE`].
    TooLong,
    /// Observed before the signal above it, or after the scenario's end.
    OutOfOrder,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl SkipReason {
    /// The word in counts and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::BadMember => "bad_member",
            Self::TooLong => "too_long",
            Self::OutOfOrder => "out_of_order",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ScenarioError {
    /// The class of a line that a lenient reader may skip; `None` where nothing can follow.
    #[must_use]
    pub const fn skippable(&self) -> Option<SkipReason> {
        match self {
            Self::Line { kind, .. } => Some(*kind),
            Self::TooLong { .. } => Some(SkipReason::TooLong),
            Self::Order { .. } | Self::Beyond { .. } => Some(SkipReason::OutOfOrder),
            Self::Open { .. } | Self::Read { .. } | Self::Write { .. } | Self::Header { .. } => {
                None
            }
        }
    }
}
