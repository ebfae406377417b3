//! The header line of a scenario file: what it tells and the world that it happened in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::quantity::{Bandwidth, ByteSize};
use crate::domain::time::Timestamp;

/// The `type` of a header line.
pub const HEADER_TYPE: &str = "dev.forelay.scenario.v1";

/// First line of every scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`HEADER_TYPE`].
    #[serde(rename = "type")]
    pub kind: HeaderType,
    /// Short name: `ca-flash-crowd`.
    pub name: String,
    /// What happens, for a reader.
    pub story: String,
    /// Where it comes from, what is real and what was made up.
    pub provenance: String,
    /// SPDX expression or the names of the licences of its parts.
    pub licence: String,
    /// First instant: `observedtime` of everything known at the start.
    pub start: Timestamp,
    /// Last instant.
    pub end: Timestamp,
    /// The physical world per pool; the entry `*` is for every other pool.
    pub pools: BTreeMap<String, PoolWorld>,
    /// The world that all nodes share.
    pub shared: SharedWorld,
    /// What every reference means: reference -> one manifest per platform.
    pub images: BTreeMap<ImageRef, Vec<ImageManifest>>,
}

/// The only header type that is understood.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum HeaderType {
    /// Version 1.
    #[default]
    #[serde(rename = "dev.forelay.scenario.v1")]
    V1,
}

/// Rates of one pool's nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolWorld {
    /// Bytes per second into one node.
    pub link: Bandwidth,
    /// Compressed bytes per second that one core unpacks and writes.
    pub unpack: Bandwidth,
    /// Bytes of images that a node may hold.
    pub disk: ByteSize,
    /// Seconds from a pod's binding to the kubelet's look for its first image: a sandbox is made first.
    pub sandbox_s: f64,
    /// Seconds that the kubelet spends on a pull beside the bytes (resolve, check, record).
    pub pull_overhead_s: f64,
    /// Seconds from the Node object to a running agent (a DaemonSet pod has to start too).
    pub agent_start_s: f64,
}

/// Rates that nodes share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedWorld {
    /// Bytes per second out of the cache, all nodes together.
    pub cache_uplink: Bandwidth,
    /// Bytes per second from the origin into the cache.
    pub origin: Bandwidth,
}

impl Header {
    /// The world of a pool's nodes.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&PoolWorld> {
        self.pools.get(name).or_else(|| self.pools.get("*"))
    }
}
