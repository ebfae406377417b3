//! Why a layer could not be unpacked, and what helps.

use std::path::Path;

use rustix::io::Errno;

use crate::domain::image::Digest;
use crate::runtime::layer::path::shown;

/// A layer that is not in its tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// The compressed bytes are not the blob's.
    #[error("the bytes for layer {expected} have digest {found}")]
    WrongBlob {
        /// what was wanted
        expected: Digest,
        /// what came
        found: Digest,
    },
    /// The unpacked bytes are not the ones that the image's config names.
    #[error("the layer unpacks to {found}, the image's config names {expected}")]
    WrongDiff {
        /// what was wanted
        expected: Digest,
        /// what came
        found: Digest,
    },
    /// More or fewer compressed bytes than the blob has.
    #[error("the layer has {expected} bytes, not {found}")]
    WrongSize {
        /// bytes it should have
        expected: u64,
        /// bytes that came (at least)
        found: u64,
    },
    /// The stream cannot be decompressed, or is no tar archive.
    #[error("the layer's stream is broken: {0}")]
    Broken(String),
    /// An entry that containerd would refuse as well.
    #[error("layer entry `{name}`: {reason}")]
    Entry {
        /// as the archive writes it
        name: String,
        /// what is wrong with it
        reason: String,
    },
    /// More than the limits allow: a bomb, or a layer that is not for this node.
    #[error("the layer has more than {limit} {what}: refused")]
    TooMuch {
        /// what there is too much of
        what: &'static str,
        /// the limit
        limit: u64,
    },
    /// Containerd itself has to apply this layer to these parents.
    #[error("`{name}` cannot be settled here: {reason}")]
    NotHere {
        /// path in the layer
        name: String,
        /// why not
        reason: String,
    },
    /// The disk, its inodes or a quota are used up.
    #[error("no space left while writing `{0}`")]
    NoSpace(String),
    /// Neither a blob digest nor a diff ID was given.
    #[error("a layer without any digest cannot be proved: give its blob digest or its diff ID")]
    Unproved,
    /// The caller gave up.
    #[error("the layer was abandoned")]
    Abandoned,
    /// The machine: what was done, and the system's words.
    #[error("{0}")]
    Io(String),
}

/// What the caller can do about a [`LayerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The bytes were wrong: get them elsewhere.
    FetchAgain,
    /// The bytes may be right and the layer odd: containerd's own `Diff.Apply` is the judge.
    AskContainerd,
    /// Room is missing: the plan is too large.
    MakeRoom,
    /// Refuse it: nothing that can be done makes it good.
    Refuse,
    /// The machine's trouble, or the caller's: trying later may help.
    TryLater,
}

impl LayerError {
    /// What helps.
    pub fn advice(&self) -> Advice {
        match self {
            Self::WrongBlob { .. } | Self::WrongSize { .. } => Advice::FetchAgain,
            Self::Broken(_) | Self::Entry { .. } | Self::NotHere { .. } => Advice::AskContainerd,
            Self::WrongDiff { .. } | Self::TooMuch { .. } | Self::Unproved => Advice::Refuse,
            Self::NoSpace(_) => Advice::MakeRoom,
            Self::Abandoned | Self::Io(_) => Advice::TryLater,
        }
    }

    /// Whether wrong bytes explain it as well as an odd layer does: the digest will tell.
    pub(super) fn may_be_the_bytes(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Entry { .. })
    }

    pub(super) fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry {
            name: shown(name),
            reason: reason.into(),
        }
    }

    /// A system call that failed for an entry. What the entry's own shape causes, containerd meets too.
    pub(super) fn call(name: &[u8], what: &str, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(shown(name)),
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::EXIST
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::MLINK
            | Errno::XDEV
            | Errno::INVAL
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::FBIG => Self::entry(name, format!("cannot {what}: {errno}")),
            _ => Self::Io(format!("cannot {what} `{}`: {errno}", shown(name))),
        }
    }

    pub(super) fn at(path: &Path, what: &str, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(path.display().to_string()),
            _ => Self::Io(format!("cannot {what} {}: {errno}", path.display())),
        }
    }
}
