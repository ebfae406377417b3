//! Labels, taints and amounts as a node shape.

use std::collections::BTreeMap;

use crate::domain::image::ImageRef;
use crate::domain::node::{NodeShape, Taint};
use crate::domain::workload::Operator;
use crate::source::kubernetes::needs::{requirement, resources};
use crate::source::kubernetes::objects::node::{Node, NodeClaim, RawTaint};

/// Taints that a node carries only on its way to Ready, while it is unwell or on its way out: they
/// say nothing about which pods the pool is for.
const PASSING_TAINTS: [&str; 21] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/out-of-service",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.cilium.io/agent-not-ready",
    "node.cluster.x-k8s.io/uninitialized",
    "ebs.csi.aws.com/agent-not-ready",
    "efs.csi.aws.com/agent-not-ready",
    "karpenter.sh/unregistered",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "DeletionCandidateOfClusterAutoscaler",
    "ToBeDeletedByClusterAutoscaler",
    "cloud.google.com/impending-node-termination",
    "aws-node-termination-handler/spot-itn",
];

/// Prefixes of further such taints: startup taints that cluster-autoscaler is told to ignore, and
/// those of the node termination handler.
const PASSING_PREFIXES: [&str; 4] = [
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
    "status-taint.cluster-autoscaler.kubernetes.io/",
    "aws-node-termination-handler/",
];

/// Labels that tell how far a node is, not what it is.
const PASSING_LABELS: [&str; 3] = [
    "karpenter.sh/registered",
    "karpenter.sh/initialized",
    "karpenter.sh/do-not-sync-taints",
];

/// Labels that carry the zone, newest first.
const ZONE_LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
];

/// Whether a taint of this key passes by itself.
#[must_use]
pub fn is_passing(key: &str) -> bool {
    PASSING_TAINTS.contains(&key) || PASSING_PREFIXES.iter().any(|p| key.starts_with(p))
}

/// The shape of a node that exists.
#[must_use]
pub fn node_shape(node: &Node) -> NodeShape {
    let labels = labels(node.metadata.labels.as_ref());
    let arch = &node.status.node_info.architecture;
    NodeShape {
        arch: (!arch.is_empty())
            .then(|| arch.clone())
            .or_else(|| labels.get("kubernetes.io/arch").cloned()),
        zone: zone(&labels),
        capacity: (!node.status.allocatable.is_empty())
            .then(|| resources(&node.status.allocatable)),
        labels,
        taints: taints(&node.spec.taints),
    }
}

/// What is known of a claimed machine: its labels, requirements with one value, and what was
/// launched. The sum of the requests of its pods is no capacity: it is left unknown until then.
#[must_use]
pub fn claim_shape(claim: &NodeClaim) -> NodeShape {
    let mut labels = labels(claim.metadata.labels.as_ref());
    for wanted in claim.spec.requirements.iter().filter_map(requirement) {
        if let (Operator::In, [value]) = (wanted.operator, wanted.values.as_slice()) {
            labels.entry(wanted.key).or_insert_with(|| value.clone());
        }
    }
    NodeShape {
        arch: labels.get("kubernetes.io/arch").cloned(),
        zone: zone(&labels),
        capacity: (!claim.status.allocatable.is_empty())
            .then(|| resources(&claim.status.allocatable)),
        labels,
        taints: taints(&claim.spec.taints),
    }
}

/// Images that the node lists, by tag where it has one.
#[must_use]
pub fn node_images(node: &Node) -> Vec<ImageRef> {
    let by_tag = |names: &[String]| -> Vec<ImageRef> {
        let tagged = names.iter().filter(|name| !name.contains('@'));
        let mut found: Vec<_> = tagged.filter_map(|name| name.parse().ok()).collect();
        if found.is_empty() {
            found.extend(names.iter().find_map(|name| name.parse().ok()));
        }
        found
    };
    let lists = node.status.images.iter().map(|image| by_tag(&image.names));
    lists.flatten().collect()
}

fn labels(found: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut labels = found.cloned().unwrap_or_default();
    labels.retain(|key, _| !PASSING_LABELS.contains(&key.as_str()));
    labels
}

fn zone(labels: &BTreeMap<String, String>) -> Option<String> {
    ZONE_LABELS.iter().find_map(|key| labels.get(*key)).cloned()
}

fn taints(raw: &[RawTaint]) -> Vec<Taint> {
    let lasting = raw.iter().filter(|taint| !is_passing(&taint.key));
    let mut taints: Vec<_> = lasting
        .map(|taint| Taint {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: taint.effect.clone(),
        })
        .collect();
    taints.sort();
    taints
}
