//! Nodes and what asks for them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::source::kubernetes::objects::pod::Expression;
use crate::source::kubernetes::objects::{Condition, or_default};
use crate::source::kubernetes::quantity::Quantity;

/// `v1.Node`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, uid, labels, owners.
    pub metadata: ObjectMeta,
    /// Taints.
    pub spec: NodeSpec,
    /// Amounts, readiness, images.
    pub status: NodeStatus,
}

/// `v1.NodeSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Who stays away.
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<RawTaint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// The cloud's name of the machine.
    #[serde(rename = "providerID")]
    pub provider_id: String,
}

/// `v1.Taint`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawTaint {
    /// Key.
    pub key: String,
    /// Often empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`
    pub effect: String,
}

/// `v1.NodeStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// What pods may request.
    pub allocatable: BTreeMap<String, Quantity>,
    /// `Ready` and others.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// At most 50, the largest first.
    #[serde(deserialize_with = "or_default")]
    pub images: Vec<ContainerImage>,
    /// Architecture.
    #[serde(deserialize_with = "or_default")]
    pub node_info: NodeInfo,
}

/// `v1.NodeSystemInfo`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Go's word.
    pub architecture: String,
}

/// `v1.ContainerImage`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerImage {
    /// By tag and by digest.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
}

/// `karpenter.sh/v1 NodePool`: its name is a pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodePool {
    /// Name.
    pub metadata: ObjectMeta,
}

/// `karpenter.sh/v1 NodeClaim`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeClaim {
    /// Name, pool label.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: NodeClaimSpec,
    /// What came.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeClaimStatus,
}

/// `NodeClaimSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeClaimSpec {
    /// What the machine may be.
    #[serde(deserialize_with = "or_default")]
    pub requirements: Vec<Expression>,
    /// Lasting taints; startup taints are not read.
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<RawTaint>,
}

/// `NodeClaimStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeClaimStatus {
    /// `Launched`, `Registered`, `Initialized`, ...
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// Of the launched machine.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Set when registered.
    pub node_name: String,
    /// Set when launched.
    #[serde(rename = "providerID")]
    pub provider_id: String,
}

/// `v1.ConfigMap`, text data only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// Namespace and name.
    pub metadata: ObjectMeta,
    /// Values by key.
    #[serde(deserialize_with = "or_default")]
    pub data: BTreeMap<String, String>,
}
