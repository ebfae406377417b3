//! One image of a published plan, bounded so that an API server accepts its schema.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::image::{Digest, ImageRef};
use crate::domain::plan::Priority;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Entries that one object holds at most: etcd refuses objects above 1.5 MiB, and 256 entries of
/// the longest form allowed here stay under 700 KiB. (Kruise's NodeImage has the same bound.)
pub const MAX_ENTRIES: usize = 256;

/// One image that the target should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// As pods name it, normalised.
    #[schemars(schema_with = "image_ref")]
    pub image: ImageRef,
    /// The manifest that is fetched, whatever the tag says later.
    #[schemars(schema_with = "digest")]
    pub digest: Digest,
    /// `os/arch` of the manifest.
    #[schemars(length(min = 3, max = 64))]
    pub platform: String,
    /// Who waits: a pod that exists, a pod that probably will, nobody in particular.
    pub priority: Priority,
    /// Why the image is wanted.
    pub reason: Because,
    /// Probability that the target needs it, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Bytes that this entry adds to those before it; layers that they share are counted once.
    #[schemars(schema_with = "bytes")]
    pub bytes: ByteSize,
    /// When a pod is expected to need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "instant")]
    pub deadline: Option<Timestamp>,
    /// After this the entry is void: a plan dies with its controller.
    #[schemars(schema_with = "instant")]
    pub expires: Timestamp,
}

/// An image that earlier plans brought and that goes first when room is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LetGoEntry {
    /// As the earlier plan named it.
    #[schemars(schema_with = "image_ref")]
    pub image: ImageRef,
    /// The manifest that was fetched.
    #[schemars(schema_with = "digest")]
    pub digest: Digest,
}

/// New nodes of a pool that pending and foreseen pods need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesExpected {
    /// As likely more as fewer.
    #[schemars(schema_with = "bytes")]
    pub p50: u32,
    /// Not exceeded in nine cases of ten.
    #[schemars(schema_with = "bytes")]
    pub p90: u32,
    /// Fewer cannot hold the pods of p50.
    #[schemars(schema_with = "bytes")]
    pub least: u32,
}

/// A reason as kind and object. Kinds are open: an agent reads plans of a newer controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Because {
    /// `PendingPod`, `DaemonSet`, `History`, ...
    #[schemars(length(max = 64))]
    pub kind: String,
    /// What it is about: a pod, a workload, a pool.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub of: String,
}

/// Schema of an instant: what `Timestamp` writes.
pub(super) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 40})
}

/// Schema of a number of bytes: `int64`, the only 64-bit format that API servers know.
pub(super) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 0})
}

/// Schema of a digest.
pub(super) fn digest(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "maxLength": 71})
}

/// Schema of an image reference.
pub(super) fn image_ref(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 512})
}

/// Schema of the counts of images that were left out, by reason.
pub(super) fn left_out(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "integer", "format": "int64", "minimum": 0},
    })
}
