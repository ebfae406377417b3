//! What containerd answers when it does not do what it was asked.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};

use crate::runtime::socket::SocketError;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerdError {
    /// Nobody can be asked.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No such thing.
    #[error("{0}")]
    NotFound(Failure),
    /// It is there already: mostly a success of somebody else.
    #[error("{0}")]
    Exists(Failure),
    /// Something else needs it, or it is not in the state that the call takes: a snapshot with children,
    /// bytes with another digest.
    #[error("{0}")]
    Precondition(Failure),
    /// Another writer holds the same reference.
    #[error("{0}")]
    Locked(Failure),
    /// The daemon went away in the middle, or is not ready yet: trying again may help.
    #[error("{0}")]
    Unavailable(Failure),
    /// The daemon's disk is full.
    #[error("{0}")]
    NoSpace(Failure),
    /// No answer in time.
    #[error("{what}: containerd did not answer within {limit:?}")]
    Deadline {
        /// what was asked
        what: String,
        /// how long was waited
        limit: Duration,
    },
    /// An argument that containerd refuses, or that cannot be sent.
    #[error("{0}")]
    Invalid(Failure),
    /// The daemon does not know the call, or was built or configured without it.
    #[error("{0}")]
    Unsupported(Failure),
    /// A snapshot that is no directory of ours to fill: another snapshotter, or remapped owners.
    #[error("snapshot {key} is not plain overlayfs: {reason}")]
    NotOverlay {
        /// its key
        key: String,
        /// what its mounts have
        reason: String,
    },
    /// Too large to be read whole.
    #[error("{digest} has {size} bytes, at most {max} are read at once")]
    TooLarge {
        /// blob
        digest: String,
        /// its bytes
        size: u64,
        /// the most
        max: u64,
    },
    /// The bytes that came have another digest than the blob's name.
    #[error("{wanted} reads as {found}: the content store is damaged")]
    Damaged {
        /// its name
        wanted: String,
        /// of what came
        found: String,
    },
    /// What is to be written cannot be read.
    #[error("cannot read what is to be written as {digest}: {reason}")]
    Source {
        /// blob
        digest: String,
        /// the reader's words
        reason: String,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(Failure),
}

/// What was asked, and the daemon's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `prepare snapshot extract-1 sha256:..`
    pub what: String,
    /// As containerd says it.
    pub message: String,
}

// === impl ContainerdError ===

impl ContainerdError {
    /// The answer to `what`, in words.
    pub(super) fn of(what: &str, status: &Status) -> Self {
        let failure = Failure::new(what, status.message());
        // containerd maps only its own kinds of error to codes; the system's arrive as `Unknown` with their text.
        if failure.message.contains("no space left on device") {
            return Self::NoSpace(failure);
        }
        // Only errors that tonic made itself have a source: there was no answer at all.
        if status.source().is_some() {
            return Self::Unavailable(failure);
        }
        match status.code() {
            Code::NotFound => Self::NotFound(failure),
            Code::AlreadyExists => Self::Exists(failure),
            Code::FailedPrecondition => Self::Precondition(failure),
            // `ErrUnavailable` is a writer's lock (content/local/locks.go: "ref %s locked") or a daemon that
            // is not ready.
            Code::Unavailable if failure.message.contains("locked") => Self::Locked(failure),
            Code::Unavailable | Code::Cancelled => Self::Unavailable(failure),
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(failure),
            Code::Unimplemented => Self::Unsupported(failure),
            _ => Self::Failed(failure),
        }
    }

    /// Whether trying again, as it is, may help.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Socket(SocketError::Missing(_) | SocketError::Refused(_))
                | Self::Locked(_)
                | Self::Unavailable(_)
                | Self::Deadline { .. }
        )
    }
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(what: &str, message: &str) -> Self {
        // A daemon's words are bounded: they may quote what it was sent.
        Self {
            what: what.to_owned(),
            message: message.chars().take(1_000).collect(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "containerd cannot {}: {}", self.what, self.message)
    }
}

/// `None` where there is none.
pub(super) fn found<T>(answer: Result<T, ContainerdError>) -> Result<Option<T>, ContainerdError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ContainerdError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
