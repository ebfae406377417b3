//! What a cache is made of, with a default for all but what has to be said.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::quantity::ByteSize;
use crate::engine::trouble::BackOff;
use crate::port::Clock;
use crate::registry;
use crate::store::Durability;

/// What a cache is made of.
#[derive(Clone)]
pub struct Options {
    /// Where blobs, manifests and tags are kept.
    pub directory: PathBuf,
    /// Registry name to base URL: the closed list of what `ns=` may name. Where there is only one,
    /// it is also meant by requests without `ns`.
    pub upstreams: BTreeMap<String, String>,
    /// Most bytes of blobs on disk.
    pub quota: ByteSize,
    /// How long a tag is served without asking its registry again.
    pub fresh: Duration,
    /// Blobs fetched from upstreams at the same time.
    pub fetches: usize,
    /// Requests answered at the same time; what comes beyond is told to ask elsewhere (404).
    pub requests: usize,
    /// Rest of a digest after its upstream failed.
    pub back_off: BackOff,
    /// Timeouts and credentials towards upstreams; its endpoints are not used.
    pub client: registry::Options,
    /// Whether blobs have to survive a power cut.
    pub durability: Durability,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Everything but what has to be said: 100 GB, tags fresh for a minute, 32 fetches and 2048
    /// requests at once, failures rest 1 s to 1 min.
    pub fn new(
        directory: PathBuf,
        upstreams: BTreeMap<String, String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            directory,
            upstreams,
            quota: ByteSize(100_000_000_000),
            fresh: Duration::from_mins(1),
            fetches: 32,
            requests: 2048,
            back_off: BackOff {
                first: Duration::from_secs(1),
                longest: Duration::from_mins(1),
                // A registry that was away for hours, or a blob that was pushed late, is served
                // again within the longest rest.
                attempts: u32::MAX,
                again: None,
            },
            client: registry::Options::default(),
            durability: Durability::Lasting,
            clock,
        }
    }
}
