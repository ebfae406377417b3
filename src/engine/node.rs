//! The agent's machine: plans and transfer results in, fetches out.

use std::time::Duration;

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::plan::{Plan, Priority};
use crate::domain::quantity::ByteSize;

/// Limits of one agent.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Blobs in transfer at once.
    pub concurrency: usize,
    /// Bytes that planned images may add to the node's disk.
    pub disk: ByteSize,
    /// First pause after a failure; doubles up to `back_off_max`.
    pub back_off: Duration,
    /// Longest pause.
    pub back_off_max: Duration,
    /// Failures after which a blob is given up until the plan changes.
    pub attempts: u32,
}

/// Something that happened to the node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The pool's plan (used until, and beside, the node's own).
    PoolPlan(Option<Plan>),
    /// The node's own plan.
    NodePlan(Option<Plan>),
    /// Blobs that are there, whoever brought them; replaces what was known.
    Inventory(Vec<Digest>),
    /// A blob is there, whoever brought it.
    BlobPresent(Digest),
    /// A manifest that was asked for.
    Manifest(ImageManifest),
    /// A manifest or blob could not be had; `lasting` when trying again is no use.
    Failed {
        /// manifest or blob
        digest: Digest,
        /// back off only, or give up
        lasting: bool,
    },
    /// A blob arrived and is verified; `moved` bytes travelled.
    Fetched {
        /// blob
        digest: Digest,
        /// bytes that travelled in all attempts
        moved: ByteSize,
    },
    /// The image's record is made: pods can use it.
    Recorded(Digest),
    /// The kubelet began (`true`) or ended (`false`) fetching this blob itself.
    Foreground {
        /// blob
        digest: Digest,
        /// began or ended
        active: bool,
    },
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Get the manifest with this digest.
    FetchManifest {
        /// what the plan names
        image: ImageRef,
        /// manifest digest
        digest: Digest,
    },
    /// Stream this blob; resume where a partial one ends.
    FetchBlob {
        /// an image that needs it: tells the repository
        image: ImageRef,
        /// blob
        digest: Digest,
        /// bytes
        size: ByteSize,
        /// class of the strongest entry that needs it
        priority: Priority,
    },
    /// Stop this transfer; the partial blob stays for a resume.
    Cancel(Digest),
    /// All blobs are there: make the image's record.
    Record {
        /// name
        image: ImageRef,
        /// manifest digest
        digest: Digest,
    },
    /// Entries whose turn is over (expired, withdrawn): release what only they needed.
    Release(Digest),
}
