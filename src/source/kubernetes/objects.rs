//! The wanted members of Kubernetes objects, decoded without the rest.
//!
//! Each type is a `kube::Resource`, so a watch can decode straight into it, and nothing but the
//! translator's few words per object outlives the call.

pub mod autoscaling;
pub mod event;
pub mod node;
pub mod pod;
pub mod prefetch;
pub mod workload;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};

use crate::domain::time::Timestamp;

use autoscaling::{CapacityBuffer, HorizontalPodAutoscaler, ProvisioningRequest};
use event::Event;
use node::{ConfigMap, Node, NodeClaim, NodePool};
use pod::{Pod, PodTemplate};
use prefetch::NodePrefetch;
use workload::{CronJob, DaemonSet, Deployment, Job, ReplicaSet, StatefulSet};

/// One condition of a status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`, `PodScheduled`, `Launched`, ...
    pub r#type: String,
    /// `True`, `False` or `Unknown`
    pub status: String,
    /// One word.
    pub reason: String,
    /// When `status` changed.
    pub last_transition_time: Option<Time>,
}

macro_rules! objects {
    ($($kind:ident, $group:literal, $version:literal, $plural:literal, $scope:ty;)*) => {
        $(impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Box::new(object))
            }
        })*

        /// The kinds that are understood, in the order in which a first list is best read: owners
        /// before the owned, claims before nodes, nodes before what they have and before pods.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[allow(missing_docs, reason = "the Kubernetes kind of that name")] $kind,)*
        }

        /// One object of any understood kind.
        #[derive(Clone, Debug)]
        pub enum Object {
            $(#[allow(missing_docs, reason = "the Kubernetes kind of that name")] $kind(Box<$kind>),)*
        }

        impl Kind {
            /// Every kind, in reading order.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// By API group and plural; the two groups that serve Events are one kind.
            #[must_use]
            pub fn of(group: &str, plural: &str) -> Option<Self> {
                match (group, plural) {
                    ("events.k8s.io", "events") => Some(Self::Event),
                    $(($group, $plural) => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// API group; empty for the core one.
            #[must_use]
            pub const fn group(self) -> &'static str {
                match self {
                    $(Self::$kind => $group,)*
                }
            }

            /// API version within the group.
            #[must_use]
            pub const fn version(self) -> &'static str {
                match self {
                    $(Self::$kind => $version,)*
                }
            }

            /// `pods`, `nodes`, ...
            #[must_use]
            pub const fn plural(self) -> &'static str {
                match self {
                    $(Self::$kind => $plural,)*
                }
            }
        }

        impl Object {
            /// Decodes one object whose kind is known (items of a list do not carry it).
            pub fn from_json(kind: Kind, json: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_str(json)?),)*
                })
            }

            /// Which kind it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Name, uid, version, owners.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)*
                }
            }
        }
    };
}

objects! {
    PodTemplate, "", "v1", "podtemplates", NamespaceResourceScope;
    NodePool, "karpenter.sh", "v1", "nodepools", ClusterResourceScope;
    NodeClaim, "karpenter.sh", "v1", "nodeclaims", ClusterResourceScope;
    ReplicaSet, "apps", "v1", "replicasets", NamespaceResourceScope;
    Deployment, "apps", "v1", "deployments", NamespaceResourceScope;
    StatefulSet, "apps", "v1", "statefulsets", NamespaceResourceScope;
    DaemonSet, "apps", "v1", "daemonsets", NamespaceResourceScope;
    CronJob, "batch", "v1", "cronjobs", NamespaceResourceScope;
    Job, "batch", "v1", "jobs", NamespaceResourceScope;
    Node, "", "v1", "nodes", ClusterResourceScope;
    NodePrefetch, "forelay.dev", "v1alpha1", "nodeprefetches", ClusterResourceScope;
    ConfigMap, "", "v1", "configmaps", NamespaceResourceScope;
    HorizontalPodAutoscaler, "autoscaling", "v2", "horizontalpodautoscalers", NamespaceResourceScope;
    CapacityBuffer, "autoscaling.x-k8s.io", "v1beta1", "capacitybuffers", NamespaceResourceScope;
    ProvisioningRequest, "autoscaling.x-k8s.io", "v1", "provisioningrequests", NamespaceResourceScope;
    Pod, "", "v1", "pods", NamespaceResourceScope;
    Event, "", "v1", "events", NamespaceResourceScope;
}

/// A condition by its type.
#[must_use]
pub fn condition<'a>(conditions: &'a [Condition], name: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.r#type == name)
}

/// An API time as an instant.
#[must_use]
pub fn instant(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|t| Timestamp::from_micros(t.0.as_microsecond()))
}

/// `null` where the API writes it for an empty list or a missing struct.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
