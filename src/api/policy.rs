//! `PrefetchPolicy`: what an operator allows, per pool.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::plan::policy::{Pattern, Policy};

/// What Forelay may do on some pools.
///
/// Patterns are texts in which `*` stands for any number of characters. Of several policies the
/// one with the longest matching pool pattern counts, of equals the first by name.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forelay.dev",
    version = "v1alpha1",
    kind = "PrefetchPolicy",
    plural = "prefetchpolicies",
    shortname = "pfp",
    category = "forelay",
    status = "PrefetchPolicyStatus",
    derive = "PartialEq",
    doc = "What Forelay may do on some pools.",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PrefetchPolicySpec {
    /// Whether plans are only made and scored, carried out, or withdrawn.
    #[serde(default)]
    pub mode: PolicyMode,
    /// Patterns of pools that this is about; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pools: Vec<String>,
    /// Patterns of images that may be sent (`docker.io/library/*`); none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<String>,
    /// Patterns of images that are never sent; stronger than `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Vec<String>,
    /// Prometheus queries that tell a workload's load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub load_queries: Vec<LoadQuery>,
}

/// What is done with plans.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum PolicyMode {
    /// Plans are made, counted and scored; nothing is written, no byte moves.
    #[default]
    Observe,
    /// Plans are published; agents carry them out.
    On,
    /// Plans are withdrawn at once.
    Off,
}

/// One load series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadQuery {
    /// Name of the series.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// PromQL that gives one sample.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// `Kind/namespace/name` of the workload whose load it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub workload: Option<String>,
}

/// What the controller says of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrefetchPolicyStatus {
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, one per type: `Ready` is true when the policy is understood and in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl PrefetchPolicySpec {
    /// How closely the policy names the pool: characters of the longest matching pattern beside
    /// `*`; 0 where it is about all pools; `None` where it is about others.
    #[must_use]
    pub fn closeness(&self, pool: &str) -> Option<usize> {
        if self.pools.is_empty() {
            return Some(0);
        }
        self.pools
            .iter()
            .filter(|pattern| Pattern::new(pattern.as_str()).matches(pool))
            .map(|pattern| pattern.chars().filter(|c| *c != '*').count())
            .max()
    }

    /// Which images may be sent, in the engine's words, whatever the mode and the pools.
    #[must_use]
    pub fn images(&self) -> Policy {
        let patterns = |texts: &[String]| texts.iter().map(Pattern::new).collect();
        Policy {
            include: patterns(&self.include),
            exclude: patterns(&self.exclude),
            ..Policy::default()
        }
    }
}
