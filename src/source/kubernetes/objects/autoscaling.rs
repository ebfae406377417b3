//! What asks for pods or for room: HPAs, capacity buffers, provisioning requests.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::source::kubernetes::objects::pod::Named;
use crate::source::kubernetes::objects::{Condition, or_default};
use crate::source::kubernetes::quantity::Quantity;

/// `autoscaling/v2 HorizontalPodAutoscaler`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HorizontalPodAutoscaler {
    /// Name.
    pub metadata: ObjectMeta,
    /// Targets and bounds.
    pub spec: ScalerSpec,
    /// Values and wishes.
    #[serde(deserialize_with = "or_default")]
    pub status: ScalerStatus,
}

/// `HorizontalPodAutoscalerSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalerSpec {
    /// What is scaled.
    pub scale_target_ref: TargetRef,
    /// One, where missing.
    pub min_replicas: Option<u32>,
    /// Upper bound.
    pub max_replicas: u32,
    /// Metrics with targets.
    #[serde(deserialize_with = "or_default")]
    pub metrics: Vec<Metric>,
}

/// `CrossVersionObjectReference`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// `HorizontalPodAutoscalerStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalerStatus {
    /// Replicas that it has seen.
    pub current_replicas: u32,
    /// Replicas that it has asked for; zero before the first metric.
    pub desired_replicas: u32,
    /// Metrics with values.
    #[serde(deserialize_with = "or_default")]
    pub current_metrics: Vec<Metric>,
    /// `ScalingActive`, `ScalingLimited`, ...
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
}

/// `MetricSpec` and `MetricStatus`: the same members but for `target` and `current`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metric {
    /// `Resource`, `External`, ...; empty before the first value.
    pub r#type: String,
    /// CPU or memory over pods.
    pub resource: Option<MetricPart>,
    /// CPU or memory of one container.
    pub container_resource: Option<MetricPart>,
    /// A metric per pod.
    pub pods: Option<MetricPart>,
    /// A metric of another object.
    pub object: Option<MetricPart>,
    /// A metric from outside.
    pub external: Option<MetricPart>,
}

/// The part that belongs to the type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MetricPart {
    /// Of resource metrics.
    pub name: String,
    /// Of container resource metrics.
    pub container: String,
    /// Of other metrics.
    pub metric: Named,
    /// In a spec.
    pub target: MetricValue,
    /// In a status.
    pub current: MetricValue,
}

/// `MetricTarget` and `MetricValueStatus`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricValue {
    /// Per cent of the request.
    pub average_utilization: Option<u32>,
    /// Per pod.
    pub average_value: Option<Quantity>,
    /// In all.
    pub value: Option<Quantity>,
}

/// `autoscaling.x-k8s.io CapacityBuffer`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CapacityBuffer {
    /// Name.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: BufferSpec,
    /// What was made of it.
    #[serde(deserialize_with = "or_default")]
    pub status: BufferSpec,
}

/// The parts that spec and status of a buffer share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BufferSpec {
    /// The pods to make room for.
    pub pod_template_ref: Option<Named>,
    /// The workload whose pods to make room for.
    pub scalable_ref: Option<TargetRef>,
    /// How many.
    pub replicas: Option<u32>,
}

/// `autoscaling.x-k8s.io ProvisioningRequest`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProvisioningRequest {
    /// Name.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ProvisioningSpec,
    /// Whether it will be.
    #[serde(deserialize_with = "or_default")]
    pub status: ProvisioningStatus,
}

/// `ProvisioningRequestSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProvisioningSpec {
    /// 1 to 32 sets.
    #[serde(deserialize_with = "or_default")]
    pub pod_sets: Vec<PodSet>,
}

/// `PodSet`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSet {
    /// The pods.
    pub pod_template_ref: Named,
    /// How many.
    pub count: u32,
}

/// `ProvisioningRequestStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProvisioningStatus {
    /// `Accepted`, `Provisioned`, `Failed`, `BookingExpired`, `CapacityRevoked`
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
}
