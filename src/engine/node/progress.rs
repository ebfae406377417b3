//! How far the entries of a node's plan are, as data.

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;

/// How far one entry of the plan is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProgress {
    /// Name.
    pub image: ImageRef,
    /// Manifest digest.
    pub digest: Digest,
    /// What it is waiting for.
    pub phase: Phase,
    /// Compressed bytes of all its layers; the plan's own figure until the manifest is known.
    pub bytes_total: ByteSize,
    /// Compressed bytes of its layers that are there.
    pub bytes_present: ByteSize,
}

/// What an entry of the plan is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its turn.
    Queued,
    /// Its manifest or one of its layers, which is under way.
    Fetching,
    /// Its record: all layers are there.
    Recording,
    /// Nothing: pods can use it.
    Recorded,
    /// Room within the disk budget.
    LeftOut,
    /// Room on the disk itself.
    Cramped,
    /// Another plan: a part of it was given up.
    Failed,
}
