//! What a pod needs of a node, whoever made the pod.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::image::ImageRef;
use crate::domain::node::Resources;

/// `Kind/namespace/name` of whatever has a pod template (Deployment, Job, CronJob, ...).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadRef {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, ...
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// `namespace/name` and uid of a pod: names are reused (StatefulSets), uids are not.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct PodRef {
    /// `namespace/name`
    pub name: String,
    /// The API server's uid.
    pub uid: String,
}

/// Where in a pod an image is used; init images are needed first, one after the other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[derive(schemars::JsonSchema)]
pub enum ImageRole {
    /// An image volume: mounted before any container is created.
    Volume,
    /// An init container, sidecars included.
    Init,
    /// A container.
    #[default]
    Main,
}

/// One image that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageUse {
    /// Normalised reference.
    pub image: ImageRef,
    /// Container or volume name.
    pub container: String,
    /// What it is used for.
    #[serde(default)]
    pub role: ImageRole,
    /// `imagePullPolicy: Always`: the kubelet asks the registry even when the image is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always_pull: bool,
}

/// A node selector operator, as in `v1.NodeSelectorRequirement` and Karpenter's requirements.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[allow(
    missing_docs,
    reason = "Kubernetes' own words, in its own documentation"
)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    Gte,
    Lte,
}

/// `key operator values`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Comparison.
    pub operator: Operator,
    /// Right-hand side; empty for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A toleration; an empty key with `exists` tolerates everything.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Toleration {
    /// Taint key, empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Whether the value does not matter (`operator: Exists`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exists: bool,
    /// Taint value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect, empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
}

/// Everything of a pod spec that decides where it can land and what must be there.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct PodNeeds {
    /// Image volumes, init containers, containers: in the order the kubelet needs them.
    pub images: Vec<ImageUse>,
    /// Sum over containers, at least the largest init container.
    pub requests: Resources,
    /// `spec.nodeSelector`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must hold, each an AND of requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<Vec<Requirement>>,
    /// `spec.tolerations`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Whether the pod names pull secrets (its images may be private).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pull_secrets: bool,
}

// === impl WorkloadRef ===

impl Hash for WorkloadRef {
    /// Two kinds of one name are rare enough: the engine looks a workload up several times per signal.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl FromStr for WorkloadRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name)) if !kind.is_empty() && !name.is_empty() => {
                Ok(Self {
                    kind: kind.into(),
                    namespace: namespace.into(),
                    name: name.into(),
                })
            }
            _ => Err(format!(
                "`{text}` is not a workload: write Kind/namespace/name"
            )),
        }
    }
}

impl Serialize for WorkloadRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for WorkloadRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkloadRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[^/]+/[^/]*/.+$"})
    }
}
