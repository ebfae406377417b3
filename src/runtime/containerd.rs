//! containerd over its own socket: leases, content, snapshots, image records, events.
//!
//! Calls and labels are those of containerd v1.6.20 to v2.3.4, whose services we read; the tests run against
//! what is installed, and were run against both of these. What a lease holds survives a collection, and so does
//! what an image record leads to by labels; everything else goes with the next one.

mod blobs;
mod chain;
pub mod check;
pub mod client;
mod content;
mod delivery;
mod diff;
pub mod error;
pub mod event;
mod image;
mod inventory;
pub mod label;
pub mod lease;
pub mod mounts;
mod pin;
mod place;
mod pulls;
mod record;
mod snapshot;
mod spool;
mod stage;
mod users;
mod watch;
mod writer;

pub use client::Client;
pub use content::NewBlob;
pub use delivery::{Containerd, Options, staging};
pub use error::ContainerdError;
pub use lease::{Collect, Lease, LeaseId};
pub(super) use pulls::{Seen, Writes};
