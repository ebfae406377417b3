//! What an agent says of its node's plan, coalesced to a handful of writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::entry::{bytes, digest, image_ref, instant};
use crate::api::inventory::Inventory;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Status of a `NodePrefetch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePrefetchStatus {
    /// Where the whole plan stands.
    #[serde(default)]
    pub phase: Phase,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Images that the plan asks for.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub wanted: u32,
    /// Images that are whole on the node.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub present: u32,
    /// Images that were given up.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub failed: u32,
    /// Bytes of planned layers that are on the node.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub bytes_present: ByteSize,
    /// Bytes of all planned layers.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub bytes_total: ByteSize,
    /// When what happened.
    #[serde(default)]
    pub timings: Timings,
    /// One per image of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["image".into(), "digest".into()]))]
    pub images: Vec<ImageStatus>,
    /// Conditions, one per type: `Ready` is true when every pending image is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the node's runtime has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
}

/// Where a plan stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Phase {
    /// No agent has begun.
    #[default]
    Pending,
    /// Bytes are moving, or will be.
    Fetching,
    /// Everything that could be had is there.
    Ready,
    /// Something was given up.
    Degraded,
}

/// Where one image stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum ImagePhase {
    /// Waits for its turn.
    #[default]
    Queued,
    /// Layers are moving.
    Fetching,
    /// Whole, and known to the container runtime.
    Present,
    /// Given up until the plan changes.
    Failed,
    /// Its time was over before it was whole.
    Expired,
}

/// One image of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// As in the plan.
    #[schemars(schema_with = "image_ref")]
    pub image: ImageRef,
    /// As in the plan.
    #[schemars(schema_with = "digest")]
    pub digest: Digest,
    /// Where it stands.
    pub phase: ImagePhase,
    /// Bytes of all its layers.
    #[schemars(schema_with = "bytes")]
    pub bytes_total: ByteSize,
    /// Bytes of its layers that are on the node.
    #[schemars(schema_with = "bytes")]
    pub bytes_present: ByteSize,
    /// When it was whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "instant")]
    pub finished_at: Option<Timestamp>,
    /// Why it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// Instants of one node's preparation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// The agent saw the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "instant")]
    pub seen: Option<Timestamp>,
    /// The first byte was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "instant")]
    pub started: Option<Timestamp>,
    /// The last image of the plan was whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "instant")]
    pub finished: Option<Timestamp>,
}
