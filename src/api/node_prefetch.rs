//! `NodePrefetch`: what one existing node should have, with what its agent says of it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::entry::{Entry, LetGoEntry, bytes, instant, left_out};
use crate::api::status::NodePrefetchStatus;
use crate::domain::time::Timestamp;

/// The plan of one node. The object has the node's name and belongs to the Node.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forelay.dev",
    version = "v1alpha1",
    kind = "NodePrefetch",
    plural = "nodeprefetches",
    shortname = "npf",
    category = "forelay",
    status = "NodePrefetchStatus",
    derive = "PartialEq",
    doc = "Images that one node should have before the pods that need them arrive.",
    validation = Rule::new("self.metadata.name == self.spec.node").message("the object is named as its node"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Images","type":"integer","jsonPath":".status.wanted"}"#,
    printcolumn = r#"{"name":"Present","type":"integer","jsonPath":".status.present"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failed"}"#,
    printcolumn = r#"{"name":"Bytes","type":"integer","jsonPath":".status.bytesPresent"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".spec.epoch","priority":1}"#,
    printcolumn = r#"{"name":"Made","type":"date","jsonPath":".spec.made","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.epoch >= oldSelf.epoch").message("epoch never goes back: a newer leader has written this plan"))]
pub struct NodePrefetchSpec {
    /// Name of the Node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Transitions of the leader's Lease when this was written; never goes back.
    #[schemars(schema_with = "bytes")]
    pub epoch: u64,
    /// When the plan was made.
    #[schemars(schema_with = "instant")]
    pub made: Timestamp,
    /// Images in the order of transfer.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub entries: Vec<Entry>,
    /// Images that were wanted and left out, counted by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "left_out")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub left_out: BTreeMap<String, u32>,
    /// What earlier plans brought, that nothing uses and that is hardly likely any more: gone before all
    /// else when room is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub let_go: Vec<LetGoEntry>,
}
