//! Our own object of a node, as far as its agent writes it: what the node's runtime has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::domain::image::Digest;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::or_default;

/// `forelay.dev/v1alpha1 NodePrefetch`, without the plan: that is the controller's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodePrefetch {
    /// Name of the Node.
    pub metadata: ObjectMeta,
    /// What its agent says.
    #[serde(deserialize_with = "or_default")]
    pub status: NodePrefetchStatus,
}

/// `NodePrefetchStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodePrefetchStatus {
    /// Missing until an agent has listed it.
    pub inventory: Option<Inventory>,
}

/// `Inventory`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// When it was listed.
    pub listed: Timestamp,
    /// By manifest.
    #[serde(default, deserialize_with = "or_default")]
    pub images: BTreeMap<Digest, InventoryImage>,
    /// Images that found no room.
    #[serde(default)]
    pub omitted: u32,
    /// Names that found none.
    #[serde(default)]
    pub omitted_names: u32,
}

/// `InventoryImage`. Names are texts here: one that cannot be read does not take its object with it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InventoryImage {
    /// By which pods find it.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// Those that go with a plan.
    #[serde(deserialize_with = "or_default")]
    pub planned: Vec<String>,
    /// Bytes.
    pub bytes: Option<ByteSize>,
}
