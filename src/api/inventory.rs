//! What the node's runtime has, as its agent writes it: a map, so that a change is a small patch.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::entry::{bytes, instant};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// Images of one inventory, at most: the largest.
pub const INVENTORY_MAX: usize = 256;

/// Names of one image, at most. The kubelet lists five in a node's status.
pub const NAMES_MAX: usize = 16;

/// Bytes of all images' JSON, at most. An image with a tag and a digest on a cloud's registry has 330, so that 256
/// of them fit; beside the longest plan (700 KiB, let-go images 150 KiB) and its status (330 KiB) the object stays
/// below etcd's 1.5 MiB.
pub const INVENTORY_BYTES_MAX: usize = 128 << 10;

/// What a node has, whoever brought it: the 50 images of a Node's status, and the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// When the runtime was asked, by the node's clock; written with a change only.
    #[schemars(schema_with = "instant")]
    pub listed: Timestamp,
    /// By the digest of the node's platform's manifest: the largest.
    #[serde(default)]
    #[schemars(schema_with = "images")]
    pub images: BTreeMap<Digest, InventoryImage>,
    /// Images that found no room in it.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub omitted: u32,
    /// Their bytes, as far as known.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub omitted_bytes: ByteSize,
    /// Names that found no room beside their image's others.
    #[serde(default)]
    #[schemars(schema_with = "bytes")]
    pub omitted_names: u32,
}

/// One image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryImage {
    /// By which pods find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "names")]
    pub names: Vec<ImageRef>,
    /// Names that go when no plan asks for them any more, unless a pod uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "names")]
    pub planned: Vec<ImageRef>,
    /// Compressed, where the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bytes")]
    pub bytes: Option<ByteSize>,
}

/// Atomic: field managers need not know every digest, and JSON merge patches do not ask.
fn images(generator: &mut SchemaGenerator) -> Schema {
    let image = generator.subschema_for::<InventoryImage>();
    json_schema!({
        "type": "object",
        "maxProperties": INVENTORY_MAX,
        "additionalProperties": image,
        "x-kubernetes-map-type": "atomic",
    })
}

fn names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": NAMES_MAX,
        "items": {"type": "string", "minLength": 1, "maxLength": 512},
        "x-kubernetes-list-type": "atomic",
    })
}
