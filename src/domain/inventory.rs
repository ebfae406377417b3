//! What a node's container runtime has, all of it, whoever brought it.

use serde::{Deserialize, Serialize};

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// An image that a runtime has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoredImage {
    /// Of the manifest for the node's platform; where the runtime does not tell that, of what its names lead to.
    pub digest: Digest,
    /// Names by which pods find it, bar those below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<ImageRef>,
    /// Names that an agent gave it for a plan: they go when no plan asks for them any more, unless a pod uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<ImageRef>,
    /// Bytes of its layers as they travel, where known. CRI-O tells what they take on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
}

/// `node.inventory`: replaces what was told before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeInventory {
    /// Name of the Node object.
    pub node: String,
    /// When the runtime was asked, by the node's clock.
    pub listed: Timestamp,
    /// What it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<StoredImage>,
    /// Whether that is everything: a name that is not among them is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
}
