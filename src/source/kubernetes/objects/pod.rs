//! Pods and pod templates: what they run, what they ask for, how far they are.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use crate::source::kubernetes::objects::{Condition, or_default};
use crate::source::kubernetes::quantity::Quantity;

/// `v1.Pod`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, uid, owners.
    pub metadata: ObjectMeta,
    /// What it wants.
    pub spec: PodSpec,
    /// How far it is.
    pub status: PodStatus,
}

/// `v1.PodTemplate`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// Name.
    pub metadata: ObjectMeta,
    /// The template.
    pub template: Template,
}

/// `v1.PodTemplateSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Template {
    /// The pods' spec.
    pub spec: PodSpec,
}

/// `v1.PodSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Started one after the other; sidecars among them.
    #[serde(deserialize_with = "or_default")]
    pub init_containers: Vec<Container>,
    /// Started together.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// Image volumes among them.
    #[serde(deserialize_with = "or_default")]
    pub volumes: Vec<Volume>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Node affinity within.
    #[serde(deserialize_with = "or_default")]
    pub affinity: Affinity,
    /// Tolerated taints.
    #[serde(deserialize_with = "or_default")]
    pub tolerations: Vec<Toleration>,
    /// Set when bound.
    pub node_name: Option<String>,
    /// Waiting for these to go.
    #[serde(deserialize_with = "or_default")]
    pub scheduling_gates: Vec<Named>,
    /// Names of pull secrets.
    #[serde(deserialize_with = "or_default")]
    pub image_pull_secrets: Vec<Named>,
    /// What the runtime class adds.
    pub overhead: BTreeMap<String, Quantity>,
    /// Pod-level resources (1.34+): they stand for the sum of the containers.
    #[serde(deserialize_with = "or_default")]
    pub resources: ResourceRequirements,
}

/// `v1.Container`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Reference as written.
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`
    pub image_pull_policy: String,
    /// Requests and limits.
    #[serde(deserialize_with = "or_default")]
    pub resources: ResourceRequirements,
    /// `Always` on an init container makes it a sidecar.
    pub restart_policy: String,
}

/// `v1.ResourceRequirements`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResourceRequirements {
    /// Asked for.
    pub requests: BTreeMap<String, Quantity>,
    /// At most; asked for where `requests` is silent.
    pub limits: BTreeMap<String, Quantity>,
}

/// `v1.Volume`, image volumes only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// An image volume.
    pub image: Option<ImageVolume>,
}

/// `v1.ImageVolumeSource`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageVolume {
    /// Reference as written.
    pub reference: String,
    /// As on containers.
    pub pull_policy: String,
}

/// `v1.Affinity`, node affinity only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// Where it may run.
    #[serde(deserialize_with = "or_default")]
    pub node_affinity: NodeAffinity,
}

/// `v1.NodeAffinity`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    /// The part that must hold.
    #[serde(
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        deserialize_with = "or_default"
    )]
    pub required: NodeSelector,
}

/// `v1.NodeSelector`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// One of these must hold.
    #[serde(deserialize_with = "or_default")]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// `v1.NodeSelectorTerm`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelectorTerm {
    /// On labels.
    #[serde(deserialize_with = "or_default")]
    pub match_expressions: Vec<Expression>,
    /// On fields: `metadata.name` only.
    #[serde(deserialize_with = "or_default")]
    pub match_fields: Vec<Expression>,
}

/// `key operator values`, as in pods and in NodeClaims.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Expression {
    /// Label key or field.
    pub key: String,
    /// `In`, `NotIn`, ...
    pub operator: String,
    /// Right-hand side.
    #[serde(deserialize_with = "or_default")]
    pub values: Vec<String>,
}

/// `v1.Toleration`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Toleration {
    /// Empty for all.
    pub key: String,
    /// `Exists` or `Equal`
    pub operator: String,
    /// With `Equal`.
    pub value: String,
    /// Empty for all.
    pub effect: String,
}

/// A thing that has only a name here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Name.
    pub name: String,
}

/// `v1.PodStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`
    pub phase: String,
    /// Where preemption or an autoscaler expects it.
    pub nominated_node_name: Option<String>,
    /// `PodScheduled` and others.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// One per container.
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// `v1.ContainerStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Now.
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
    /// Before the last restart.
    #[serde(deserialize_with = "or_default")]
    pub last_state: ContainerState,
}

/// `v1.ContainerState`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Runs.
    pub running: Option<Ran>,
    /// Has run.
    pub terminated: Option<Ran>,
}

/// When a container began.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ran {
    /// Missing where the kubelet has lost it.
    pub started_at: Option<Time>,
    /// Of a terminated container.
    pub finished_at: Option<Time>,
}
