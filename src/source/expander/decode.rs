//! Protobuf pods and nodes as the objects that the watches decode from JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use prost::Message;

use crate::source::expander::wire::core;
use crate::source::kubernetes::objects::Condition;
use crate::source::kubernetes::objects::node::{Node, NodeInfo, NodeSpec, NodeStatus, RawTaint};
use crate::source::kubernetes::objects::pod::{
    Affinity, Container, Expression, ImageVolume, Named, NodeAffinity, NodeSelector,
    NodeSelectorTerm, Pod, PodSpec, PodStatus, ResourceRequirements, Toleration, Volume,
};
use crate::source::kubernetes::quantity::{Quantity, QuantityError};

/// An object that is not what it should be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Undecodable {
    /// Not a protobuf message, or a member of another type.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    /// An amount that is none.
    #[error("{place}: {problem}")]
    Quantity {
        /// `spec.containers[web].resources.requests.cpu`
        place: String,
        /// What is wrong.
        problem: QuantityError,
    },
    /// A time that no calendar has.
    #[error("{0}: {1} s is no time")]
    Time(&'static str, i64),
}

/// A `v1.Pod`. What only a running pod has (states of its containers) is not read: whoever is offered does not run.
pub fn pod(bytes: Bytes) -> Result<Pod, Undecodable> {
    let pod = core::Pod::decode(bytes)?;
    Ok(Pod {
        metadata: metadata(pod.metadata.unwrap_or_default())?,
        spec: spec(pod.spec.unwrap_or_default())?,
        status: status(pod.status.unwrap_or_default())?,
    })
}

/// A `v1.Node`: labels, taints, amounts and architecture. A sample's conditions and images are another node's.
pub fn node(bytes: Bytes) -> Result<Node, Undecodable> {
    let node = core::Node::decode(bytes)?;
    let status = node.status.unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let taints = node.spec.unwrap_or_default().taints;
    let taint = |taint: core::Taint| RawTaint {
        key: taint.key,
        value: taint.value,
        effect: taint.effect,
    };
    Ok(Node {
        metadata: metadata(node.metadata.unwrap_or_default())?,
        spec: NodeSpec {
            taints: taints.into_iter().map(taint).collect(),
            ..NodeSpec::default()
        },
        status: NodeStatus {
            allocatable: amounts("status.allocatable", status.allocatable)?,
            node_info: NodeInfo {
                architecture: info.architecture,
            },
            ..NodeStatus::default()
        },
    })
}

fn metadata(meta: core::ObjectMeta) -> Result<ObjectMeta, Undecodable> {
    let owner = |owner: core::OwnerReference| OwnerReference {
        api_version: owner.api_version,
        kind: owner.kind,
        name: owner.name,
        uid: owner.uid,
        controller: owner.controller.then_some(true),
        block_owner_deletion: None,
    };
    let owners: Vec<_> = meta.owner_references.into_iter().map(owner).collect();
    Ok(ObjectMeta {
        name: some(meta.name),
        namespace: some(meta.namespace),
        uid: some(meta.uid),
        resource_version: some(meta.resource_version),
        creation_timestamp: time("metadata.creationTimestamp", meta.creation_timestamp)?,
        deletion_timestamp: time("metadata.deletionTimestamp", meta.deletion_timestamp)?,
        labels: Some(meta.labels).filter(|labels| !labels.is_empty()),
        annotations: Some(meta.annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(owners).filter(|owners| !owners.is_empty()),
        ..ObjectMeta::default()
    })
}

fn spec(spec: core::PodSpec) -> Result<PodSpec, Undecodable> {
    let containers = |place: &str, list: Vec<core::Container>| {
        let list = list.into_iter().map(|one| container(place, one));
        list.collect::<Result<_, Undecodable>>()
    };
    let volume = |volume: core::Volume| Volume {
        name: volume.name,
        image: volume
            .volume_source
            .and_then(|source| source.image)
            .map(|image| ImageVolume {
                reference: image.reference,
                pull_policy: image.pull_policy,
            }),
    };
    let gates = spec.scheduling_gates.into_iter().map(|gate| gate.name);
    let secrets = spec
        .image_pull_secrets
        .into_iter()
        .map(|secret| secret.name);
    Ok(PodSpec {
        init_containers: containers("initContainers", spec.init_containers)?,
        containers: containers("containers", spec.containers)?,
        volumes: spec.volumes.into_iter().map(volume).collect(),
        node_selector: spec.node_selector,
        affinity: affinity(spec.affinity.unwrap_or_default()),
        tolerations: spec.tolerations.into_iter().map(toleration).collect(),
        node_name: some(spec.node_name),
        scheduling_gates: gates.map(|name| Named { name }).collect(),
        image_pull_secrets: secrets.map(|name| Named { name }).collect(),
        overhead: amounts("spec.overhead", spec.overhead)?,
        resources: requirements("spec", spec.resources.unwrap_or_default())?,
    })
}

fn container(list: &str, one: core::Container) -> Result<Container, Undecodable> {
    let place = format!("spec.{list}[{}]", one.name);
    Ok(Container {
        resources: requirements(&place, one.resources.unwrap_or_default())?,
        name: one.name,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        restart_policy: one.restart_policy,
    })
}

fn requirements(
    place: &str,
    raw: core::ResourceRequirements,
) -> Result<ResourceRequirements, Undecodable> {
    Ok(ResourceRequirements {
        requests: amounts(&format!("{place}.resources.requests"), raw.requests)?,
        limits: amounts(&format!("{place}.resources.limits"), raw.limits)?,
    })
}

fn affinity(affinity: core::Affinity) -> Affinity {
    let nodes = affinity.node_affinity.unwrap_or_default();
    let required = nodes.required_during_scheduling_ignored_during_execution;
    let expressions = |list: Vec<core::NodeSelectorRequirement>| {
        let list = list.into_iter().map(|raw| Expression {
            key: raw.key,
            operator: raw.operator,
            values: raw.values,
        });
        list.collect()
    };
    let terms = required.unwrap_or_default().node_selector_terms;
    let terms = terms.into_iter().map(|term| NodeSelectorTerm {
        match_expressions: expressions(term.match_expressions),
        match_fields: expressions(term.match_fields),
    });
    Affinity {
        node_affinity: NodeAffinity {
            required: NodeSelector {
                node_selector_terms: terms.collect(),
            },
        },
    }
}

fn toleration(raw: core::Toleration) -> Toleration {
    Toleration {
        key: raw.key,
        operator: raw.operator,
        value: raw.value,
        effect: raw.effect,
    }
}

fn status(status: core::PodStatus) -> Result<PodStatus, Undecodable> {
    let condition = |raw: core::PodCondition| {
        Ok(Condition {
            last_transition_time: time(
                "status.conditions.lastTransitionTime",
                raw.last_transition_time,
            )?,
            r#type: raw.r#type,
            status: raw.status,
            reason: raw.reason,
        })
    };
    let conditions = status.conditions.into_iter().map(condition);
    Ok(PodStatus {
        phase: status.phase,
        nominated_node_name: some(status.nominated_node_name),
        conditions: conditions.collect::<Result<_, Undecodable>>()?,
        container_statuses: Vec::new(),
    })
}

fn amounts(
    place: &str,
    raw: BTreeMap<String, core::Quantity>,
) -> Result<BTreeMap<String, Quantity>, Undecodable> {
    let amount = |(name, raw): (String, core::Quantity)| match raw.string.parse() {
        Ok(amount) => Ok((name, amount)),
        Err(problem) => Err(Undecodable::Quantity {
            place: format!("{place}.{name}"),
            problem,
        }),
    };
    raw.into_iter().map(amount).collect()
}

/// Go's zero time is written as an empty message (apimachinery meta/v1 time_proto.go).
fn time(place: &'static str, raw: Option<core::Time>) -> Result<Option<Time>, Undecodable> {
    let Some(raw) = raw.filter(|raw| (raw.seconds, raw.nanos) != (0, 0)) else {
        return Ok(None);
    };
    match jiff::Timestamp::new(raw.seconds, raw.nanos) {
        Ok(time) => Ok(Some(Time(time))),
        Err(_) => Err(Undecodable::Time(place, raw.seconds)),
    }
}

/// Kubernetes' protobuf writes what is not set as empty.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
