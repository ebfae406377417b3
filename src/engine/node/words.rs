//! What the agent's machine is told, and what it asks for.

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::plan::{Plan, Priority};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Something that happened to the node.
#[derive(Clone, Debug)]
pub enum Input {
    /// When the Node object was made. Until this is known the node is taken for a new one: its agent
    /// was there first.
    Born(Timestamp),
    /// The pool's plan: followed by a new node until it has its own.
    PoolPlan(Option<Plan>),
    /// The node's own plan.
    NodePlan(Option<Plan>),
    /// An image that an earlier run of the agent recorded, with its layers: it lingers from now on,
    /// unless a plan names it.
    Kept(ImageManifest),
    /// Blobs that are there, whoever brought them; replaces what was known.
    Inventory(Vec<Digest>),
    /// A blob is there, whoever brought it.
    BlobPresent(Digest),
    /// Of the layers of a manifest just told, those that are not there, whatever was known of them: a
    /// layer that another image has may be of no use to this one.
    Lacking {
        /// whose layers
        manifest: Digest,
        /// those that have to be brought
        layers: Vec<Digest>,
    },
    /// A manifest that was asked for. It lists layers only: the config blob belongs to fetching
    /// the manifest, and the driver has both before it says so.
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
    /// An image's record is made: pods can use it.
    Recorded {
        /// name
        image: ImageRef,
        /// manifest
        digest: Digest,
    },
    /// An image's record could not be made; `lasting` when the name means something else by now.
    NotRecorded {
        /// name
        image: ImageRef,
        /// manifest
        digest: Digest,
        /// back off only, or give this name up until the plan changes
        lasting: bool,
    },
    /// Its record is gone, or was taken back as it would be wrong now: not made again until the plan
    /// changes.
    Unrecorded {
        /// name
        image: ImageRef,
        /// manifest
        digest: Digest,
    },
    /// Bytes that may be added to the disk, unpacked, before the kubelet removes images.
    Room(ByteSize),
    /// The machine is short of memory or of its disk's time: what no pod waits for has to wait.
    Pressed(bool),
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
    /// Get the manifest with this digest, and the config blob that it names.
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
    /// Stop this transfer; the partial blob stays for a resume. The driver answers nothing more
    /// for it (a blob that was complete already may be told as [`Input::BlobPresent`]).
    Cancel(Digest),
    /// All blobs are there: make the image's record.
    Record {
        /// name
        image: ImageRef,
        /// manifest digest
        digest: Digest,
    },
    /// No entry names this manifest any more (expired, withdrawn): take its record away, unless a
    /// container uses it. Its layers linger: pods that want it now must ask the registry first.
    Withdraw(Digest),
    /// No entry names this manifest by this name any more: take the name's record away, in the same way. The
    /// manifest's other names stay.
    WithdrawName {
        /// name
        image: ImageRef,
        /// manifest digest
        digest: Digest,
    },
    /// No entry has named this manifest for long: release what only it needed and no container uses.
    /// What is left is told with [`Input::Inventory`].
    Release(Digest),
}
