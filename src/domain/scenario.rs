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
    /// Spread of `agent_start_s`, the sigma of a log-normal; 0 is no spread.
    #[serde(default)]
    pub agent_start_sigma: f64,
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

/// Longest time that a made-up delay may take: longer than anything that an autoscaler waits for.
const DELAY_MAX_S: f64 = 86_400.0;

/// Most bytes of one layer: sums of a node's thousands stay exact in a f64.
const LAYER_MAX: u64 = 1 << 42;

impl Header {
    /// The first member that no world can have: its path, and what is wrong with it.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        let rate = |path: String, rate: Bandwidth| {
            let sound = rate.0.is_finite() && rate.0 > 0.0;
            (!sound).then(|| {
                (
                    path,
                    format!("{} is no rate: above 0 bytes a second", rate.0),
                )
            })
        };
        let delay = |path: String, seconds: f64| {
            let sound = (0.0..=DELAY_MAX_S).contains(&seconds);
            (!sound).then(|| {
                (
                    path,
                    format!("{seconds} is not between 0 and {DELAY_MAX_S} s"),
                )
            })
        };
        let pool = |(name, world): (&String, &PoolWorld)| {
            let path = |member: &str| format!("pools.{name}.{member}");
            rate(path("link"), world.link)
                .or_else(|| rate(path("unpack"), world.unpack))
                .or_else(|| delay(path("sandbox_s"), world.sandbox_s))
                .or_else(|| delay(path("pull_overhead_s"), world.pull_overhead_s))
                .or_else(|| delay(path("agent_start_s"), world.agent_start_s))
        };
        let image = |(image, manifests): (&ImageRef, &Vec<ImageManifest>)| {
            let layers = manifests.iter().flat_map(|manifest| &manifest.layers);
            let huge = layers
                .map(|layer| layer.size.0)
                .find(|size| *size > LAYER_MAX)?;
            let reason = format!("a layer of {huge} bytes, at most {LAYER_MAX} are understood");
            Some((format!("images.{image}"), reason))
        };
        if self.end < self.start {
            let reason = format!("{} is before `start` {}", self.end, self.start);
            return Some(("end".into(), reason));
        }
        rate("shared.cache_uplink".into(), self.shared.cache_uplink)
            .or_else(|| rate("shared.origin".into(), self.shared.origin))
            .or_else(|| self.pools.iter().find_map(pool))
            .or_else(|| self.images.iter().find_map(image))
    }

    /// The world of a pool's nodes.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&PoolWorld> {
        self.pools.get(name).or_else(|| self.pools.get("*"))
    }
}
