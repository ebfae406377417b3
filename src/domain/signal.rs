//! The one event that every source produces: a CloudEvents 1.0 object with a typed `data`.

use serde::{Deserialize, Serialize};

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::inventory::NodeInventory;
use crate::domain::node::NodeShape;
use crate::domain::plan::Plan;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::domain::workload::{PodNeeds, PodRef, WorkloadRef};

/// A normalised, timestamped fact. Identity for de-duplication is (`source`, `id`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Signal {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// Unique within `source`.
    pub id: String,
    /// Who says it, a URI reference: `/kubernetes/pods`, `/kafka/topic`, `/prometheus`.
    pub source: String,
    /// What it is about, in the producer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// When a watcher could first know it; a replay feeds by it, so nothing is known early.
    pub observedtime: Timestamp,
    /// Hidden truth: shown to the scorer only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truth: bool,
    /// CloudEvents members `type` and `data`.
    #[serde(flatten)]
    pub fact: Fact,
}

/// The CloudEvents version that is understood.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum SpecVersion {
    /// CloudEvents 1.0.x
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

/// What a signal says. One variant per CloudEvents `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
    /// A pool may grow: the autoscaler is about to choose, and this pool is among its choices.
    #[serde(rename = "dev.forelay.node.offered.v1")]
    NodeOffered(NodeOffered),
    /// A node (or several) was asked for: autoscaler decision, `NodeClaim`.
    #[serde(rename = "dev.forelay.node.requested.v1")]
    NodeRequested(NodeRequested),
    /// The machine exists: its shape is final.
    #[serde(rename = "dev.forelay.node.launched.v1")]
    NodeLaunched(NodeLaunched),
    /// The Node object exists.
    #[serde(rename = "dev.forelay.node.joined.v1")]
    NodeJoined(NodeJoined),
    /// The node takes pods from now on.
    #[serde(rename = "dev.forelay.node.ready.v1")]
    NodeReady(NodeNamed),
    /// The node will go away soon (spot notice, drain, disruption).
    #[serde(rename = "dev.forelay.node.interrupted.v1")]
    NodeInterrupted(NodeInterrupted),
    /// The images that the node has.
    #[serde(rename = "dev.forelay.node.inventory.v1")]
    NodeInventory(NodeInventory),
    /// The node, or the request for one, is gone.
    #[serde(rename = "dev.forelay.node.removed.v1")]
    NodeRemoved(NodeRemoved),
    /// The scheduler found no place for the pod, or has not looked yet.
    #[serde(rename = "dev.forelay.pod.pending.v1")]
    PodPending(PodWanted),
    /// The pod waits for its scheduling gates.
    #[serde(rename = "dev.forelay.pod.gated.v1")]
    PodGated(PodWanted),
    /// Somebody intends to place the pod on a node, or on a node that is only requested.
    #[serde(rename = "dev.forelay.pod.nominated.v1")]
    PodNominated(PodNominated),
    /// The pod is bound to a node.
    #[serde(rename = "dev.forelay.pod.bound.v1")]
    PodBound(PodBound),
    /// All containers of the pod have started.
    #[serde(rename = "dev.forelay.pod.started.v1")]
    PodStarted(PodOnNode),
    /// The pod is deleted or finished.
    #[serde(rename = "dev.forelay.pod.removed.v1")]
    PodRemoved(PodGone),
    /// A workload as it is wanted now.
    #[serde(rename = "dev.forelay.workload.applied.v1")]
    WorkloadApplied(Workload),
    /// A workload is deleted.
    #[serde(rename = "dev.forelay.workload.removed.v1")]
    WorkloadRemoved(WorkloadGone),
    /// What an HPA or KEDA sees and wants.
    #[serde(rename = "dev.forelay.scaler.observed.v1")]
    ScalerObserved(Scaler),
    /// Capacity asked for ahead of pods: buffer, provisioning request, queue, a human.
    #[serde(rename = "dev.forelay.capacity.announced.v1")]
    CapacityAnnounced(Capacity),
    /// One sample of a load series.
    #[serde(rename = "dev.forelay.load.sampled.v1")]
    LoadSampled(LoadSample),
    /// What a reference means per platform.
    #[serde(rename = "dev.forelay.image.resolved.v1")]
    ImageResolved(ImageResolved),
    /// The kubelet's own words on one pull.
    #[serde(rename = "dev.forelay.image.pulled.v1")]
    ImagePulled(ImagePulled),
    /// What an agent moved.
    #[serde(rename = "dev.forelay.transfer.finished.v1")]
    TransferFinished(TransferFinished),
    /// Out: a plan as published.
    #[serde(rename = "dev.forelay.plan.published.v1")]
    PlanPublished(Plan),
    /// Out: one image is whole on a node.
    #[serde(rename = "dev.forelay.prefetch.finished.v1")]
    PrefetchFinished(PrefetchFinished),
}

/// `node.offered`: one choice of a decision that is not made yet (cluster-autoscaler's expander call).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeOffered {
    /// As in `node.requested`.
    pub pool: String,
    /// How many nodes more, if it is chosen. Limits may still lower it, similar groups may share it.
    pub count: u32,
    /// Between how many pools the choice is, this one included: of one, nearly a decision.
    pub among: u32,
    /// The autoscaler's own idea of the coming machine.
    pub shape: NodeShape,
    /// `namespace/name` of the pods that it would help: a thousand at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
}

/// `node.requested`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeRequested {
    /// Node group, node pool: the same text that `node.joined` will carry.
    pub pool: String,
    /// The request's own name where it has one (`NodeClaim`): `joined` and `removed` repeat it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How many nodes more.
    pub count: u32,
    /// Size of the pool after the request, where known. Decision, confirmation and status all say
    /// the same target: the reader counts `target - joined`, so hearing it twice is harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// What is known of the coming machine.
    pub shape: NodeShape,
    /// `namespace/name` of the pods that caused it, where known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// The node that this one replaces: its pods will move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// `node.launched`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeLaunched {
    /// As in `node.requested`.
    pub pool: String,
    /// As in `node.requested`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Final shape.
    pub shape: NodeShape,
}

/// `node.joined`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeJoined {
    /// Name of the Node object.
    pub node: String,
    /// Its uid: what an ownerReference needs.
    pub uid: String,
    /// Empty where no pool label is known.
    pub pool: String,
    /// The request it fulfils, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// From labels, taints and allocatable.
    pub shape: NodeShape,
    /// Images present, as far as the Node status tells (the kubelet lists at most 50).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRef>,
}

/// `node.ready`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeNamed {
    /// Name of the Node object.
    pub node: String,
}

/// `node.interrupted`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeInterrupted {
    /// Name of the Node object.
    pub node: String,
    /// In the source's words.
    pub reason: String,
    /// When it goes, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// `node.removed`: a node, or a request that will not be fulfilled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeRemoved {
    /// Name of the Node object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The failed or withdrawn request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Pool, where neither of the others tells it (a group that could not grow).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// In the source's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `pod.pending` and `pod.gated`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodWanted {
    /// Name and uid.
    pub pod: PodRef,
    /// Whose template it comes from: the top owner (Deployment, not ReplicaSet) where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<WorkloadRef>,
    /// What it needs.
    pub needs: PodNeeds,
    /// Whether the scheduler has already said `Unschedulable`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

/// `pod.nominated`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodNominated {
    /// Name and uid.
    pub pod: PodRef,
    /// An existing node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// A request (`NodeClaim`) that is no node yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// `pod.bound`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodBound {
    /// Name and uid.
    pub pod: PodRef,
    /// Where it runs.
    pub node: String,
    /// As in `pod.pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<WorkloadRef>,
    /// What it needs: a watcher may see a pod for the first time when it is already bound.
    pub needs: PodNeeds,
}

/// `pod.started`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodOnNode {
    /// Name and uid.
    pub pod: PodRef,
    /// Where it runs.
    pub node: String,
}

/// `pod.removed`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodGone {
    /// Name and uid.
    pub pod: PodRef,
}

/// `workload.applied`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Kind, namespace, name.
    pub workload: WorkloadRef,
    /// What one pod of it needs.
    pub needs: PodNeeds,
    /// Pods wanted now (a DaemonSet's is counted by nodes, a Job's is its parallelism).
    #[serde(default)]
    pub replicas: u32,
    /// Pods that already run the current template; `replicas` when no rollout is under way.
    #[serde(default)]
    pub updated: u32,
    /// Pods above `replicas` that a rollout may create (rounded up from per cent).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surge: u32,
    /// Cron expression of a `CronJob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// IANA time zone of `schedule`, where set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Suspended, paused or finished: it will not make pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

/// `workload.removed`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadGone {
    /// Kind, namespace, name.
    pub workload: WorkloadRef,
}

/// `scaler.observed`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// The scaler's own name: `HorizontalPodAutoscaler/ns/name`, `ScaledObject/ns/name`.
    pub scaler: WorkloadRef,
    /// What it scales.
    pub target: WorkloadRef,
    /// Replicas now.
    pub current: u32,
    /// Replicas it has asked for.
    pub desired: u32,
    /// Lower bound.
    #[serde(default)]
    pub min: u32,
    /// Upper bound.
    #[serde(default)]
    pub max: u32,
    /// Metric over target, the largest over its metrics: `ceil(current x ratio)` is the raw wish
    /// (Kubernetes documentation, "Algorithm details").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Why the wish was clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<ScaleLimit>,
}

/// Why an HPA asks for fewer (or more) than its metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ScaleLimit {
    /// Behaviour policy: more will follow in the next steps.
    ScaleUpLimit,
    /// At `max`.
    TooManyReplicas,
    /// At `min`.
    TooFewReplicas,
    /// Stabilisation or a scale-down policy.
    ScaleDownLimit,
}

/// `capacity.announced`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// `CapacityBuffer/ns/name`, `ProvisioningRequest/ns/name`, or a producer's own words.
    pub name: String,
    /// How many pods it makes room for; zero withdraws the announcement.
    pub count: u32,
    /// What one of them needs, where the announcement says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<PodNeeds>,
    /// The workload that will fill it, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// When the capacity is wanted; now, where missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Pool, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// `load.sampled`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadSample {
    /// Name of the series.
    pub series: String,
    /// The workload whose load it is, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// Finite value in the series' own unit.
    pub value: f64,
}

/// `image.resolved`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageResolved {
    /// As used in pod specs, normalised.
    pub image: ImageRef,
    /// One per platform.
    pub manifests: Vec<ImageManifest>,
}

/// `image.pulled`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePulled {
    /// Node.
    pub node: String,
    /// Pod that asked.
    pub pod: PodRef,
    /// Container that asked, where the event names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Image.
    pub image: ImageRef,
    /// Compressed bytes, where told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Seconds of pulling; zero when it was there.
    #[serde(default)]
    pub pull_s: f64,
    /// Seconds with the wait in the kubelet's queue.
    #[serde(default)]
    pub waiting_s: f64,
    /// "already present on machine".
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub present: bool,
}

/// `transfer.finished`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferFinished {
    /// Node.
    pub node: String,
    /// Blob.
    pub digest: Digest,
    /// Bytes that travelled (a resumed part is not counted twice).
    pub bytes: ByteSize,
    /// `cache`, `peer`, `origin`.
    pub from: String,
    /// Seconds from first request to verified.
    pub seconds: f64,
}

/// `prefetch.finished`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefetchFinished {
    /// Node.
    pub node: String,
    /// Image.
    pub image: ImageRef,
    /// Bytes moved for it (layers that were there are not counted).
    pub bytes: ByteSize,
    /// Seconds from the plan's entry to the whole image.
    pub seconds: f64,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Signal {
    /// A signal that happened and was seen at `at`.
    #[must_use]
    pub fn new(source: &str, id: impl Into<String>, at: Timestamp, fact: Fact) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id: id.into(),
            source: source.to_owned(),
            subject: None,
            time: at,
            observedtime: at,
            truth: false,
            fact,
        }
    }
}

impl Fact {
    /// The CloudEvents `type`.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::NodeOffered(_) => "dev.forelay.node.offered.v1",
            Self::NodeRequested(_) => "dev.forelay.node.requested.v1",
            Self::NodeLaunched(_) => "dev.forelay.node.launched.v1",
            Self::NodeJoined(_) => "dev.forelay.node.joined.v1",
            Self::NodeReady(_) => "dev.forelay.node.ready.v1",
            Self::NodeInterrupted(_) => "dev.forelay.node.interrupted.v1",
            Self::NodeInventory(_) => "dev.forelay.node.inventory.v1",
            Self::NodeRemoved(_) => "dev.forelay.node.removed.v1",
            Self::PodPending(_) => "dev.forelay.pod.pending.v1",
            Self::PodGated(_) => "dev.forelay.pod.gated.v1",
            Self::PodNominated(_) => "dev.forelay.pod.nominated.v1",
            Self::PodBound(_) => "dev.forelay.pod.bound.v1",
            Self::PodStarted(_) => "dev.forelay.pod.started.v1",
            Self::PodRemoved(_) => "dev.forelay.pod.removed.v1",
            Self::WorkloadApplied(_) => "dev.forelay.workload.applied.v1",
            Self::WorkloadRemoved(_) => "dev.forelay.workload.removed.v1",
            Self::ScalerObserved(_) => "dev.forelay.scaler.observed.v1",
            Self::CapacityAnnounced(_) => "dev.forelay.capacity.announced.v1",
            Self::LoadSampled(_) => "dev.forelay.load.sampled.v1",
            Self::ImageResolved(_) => "dev.forelay.image.resolved.v1",
            Self::ImagePulled(_) => "dev.forelay.image.pulled.v1",
            Self::TransferFinished(_) => "dev.forelay.transfer.finished.v1",
            Self::PlanPublished(_) => "dev.forelay.plan.published.v1",
            Self::PrefetchFinished(_) => "dev.forelay.prefetch.finished.v1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_type_is_the_one_that_the_fact_names() {
        let fact = Fact::NodeReady(NodeNamed { node: "a".into() });
        let signal = Signal::new("/test", "1", Timestamp::ZERO, fact.clone());
        let json = serde_json::to_value(&signal).unwrap();
        assert_eq!(json["type"], fact.event_type());
        assert_eq!(json["specversion"], "1.0");
        assert_eq!(serde_json::from_value::<Signal>(json).unwrap(), signal);
    }

    #[test]
    fn an_unknown_member_of_the_data_is_an_error_that_names_it() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/t","time":"2026-01-01T00:00:00Z",
            "observedtime":"2026-01-01T00:00:00Z","type":"dev.forelay.node.ready.v1",
            "data":{"node":"a","colour":"red"}}"#;
        let error = serde_json::from_str::<Signal>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains("colour"), "{error}");
    }
}
