//! `PoolPrefetch`: what any coming node of a pool will surely want.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::entry::{Entry, NodesExpected, bytes, instant, left_out};
use crate::domain::time::Timestamp;

/// The plan of a pool: an agent begins with it before its own node's object exists.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forelay.dev",
    version = "v1alpha1",
    kind = "PoolPrefetch",
    plural = "poolprefetches",
    shortname = "ppf",
    category = "forelay",
    status = "PoolPrefetchStatus",
    derive = "PartialEq",
    doc = "Images that any coming node of a pool should have.",
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool"}"#,
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".spec.nodes.p90"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".spec.epoch"}"#,
    printcolumn = r#"{"name":"Made","type":"date","jsonPath":".spec.made"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.epoch >= oldSelf.epoch").message("epoch never goes back: a newer leader has written this plan"),
    validation = Rule::new("self.pool == oldSelf.pool").message("an object stays with its pool")
)]
pub struct PoolPrefetchSpec {
    /// Name of the pool, as nodes carry it; empty for nodes of no known pool.
    #[schemars(length(max = 512))]
    pub pool: String,
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
    /// New nodes to be ready for, those on their way among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesExpected>,
}

/// What is said of a pool's plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolPrefetchStatus {
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, one per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
