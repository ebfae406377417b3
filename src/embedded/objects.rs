//! Signals turned back into the objects that a control plane would show.
//!
//! The inverse of `source::kubernetes`: what the demo's player writes into the embedded API server is
//! what the controller's watches decode again. Shapes follow the Kubernetes API reference.

use serde_json::{Map, Value, json};

use crate::domain::image::ImageRef;
use crate::domain::node::{NodeShape, Resources};
use crate::domain::signal::{NodeJoined, PodBound, PodWanted, Scaler, Workload};
use crate::domain::time::Timestamp;
use crate::domain::workload::{ImageRole, ImageUse, PodNeeds, PodRef, WorkloadRef};

/// Target utilisation of the HPAs that the player writes, in per cent. The HPA reports whole per
/// cents, so a large target keeps three digits of the recorded ratio.
const HPA_TARGET: f64 = 1000.0;

/// A pod that is not bound.
#[must_use]
pub fn pending_pod(wanted: &PodWanted, gated: bool, at: Timestamp) -> Value {
    let mut pod = pod(&wanted.pod, &wanted.needs, wanted.owner.as_ref(), at);
    if gated {
        pod["spec"]["schedulingGates"] = json!([{"name": "forelay.dev/recorded"}]);
    }
    let reason = match (gated, wanted.unschedulable) {
        (true, _) => Some("SchedulingGated"),
        (false, true) => Some("Unschedulable"),
        (false, false) => None,
    };
    let conditions = reason.map_or_else(Vec::new, |reason| {
        vec![
            json!({"type": "PodScheduled", "status": "False", "reason": reason,
            "lastTransitionTime": seconds(at)}),
        ]
    });
    pod["status"] = json!({"phase": "Pending", "conditions": conditions});
    pod
}

/// A pod that is bound to its node.
#[must_use]
pub fn bound_pod(bound: &PodBound, at: Timestamp) -> Value {
    let mut pod = pod(&bound.pod, &bound.needs, bound.owner.as_ref(), at);
    pod["spec"]["nodeName"] = json!(bound.node);
    pod["status"] = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": seconds(at)}]});
    pod
}

/// A Node object, not ready yet.
#[must_use]
pub fn node(joined: &NodeJoined, at: Timestamp) -> Value {
    let shape = &joined.shape;
    let mut taints: Vec<Value> = shape
        .taints
        .iter()
        .map(|t| json!({"key": t.key, "value": t.value, "effect": t.effect}))
        .collect();
    taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
    let capacity = shape.capacity.as_ref().map_or_else(|| json!({}), amounts);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": joined.node, "uid": joined.uid, "labels": labels(shape),
            "creationTimestamp": seconds(at)},
        "spec": {"taints": taints},
        "status": {"allocatable": capacity, "capacity": capacity,
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady",
                "lastTransitionTime": seconds(at)}],
            "nodeInfo": {"architecture": shape.architecture().unwrap_or("amd64"),
                "operatingSystem": "linux"},
            "images": joined.images.iter().map(node_image).collect::<Vec<_>>()},
    })
}

/// Merge patch that makes a node ready.
#[must_use]
pub fn node_ready(shape: &NodeShape, at: Timestamp) -> Value {
    let taints: Vec<Value> = shape
        .taints
        .iter()
        .map(|t| json!({"key": t.key, "value": t.value, "effect": t.effect}))
        .collect();
    json!({
        "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastTransitionTime": seconds(at)}]},
    })
}

/// The object of a workload, or nothing where its kind has no built-in type.
#[must_use]
pub fn workload(workload: &Workload, at: Timestamp) -> Option<Value> {
    let name = &workload.workload;
    let template = json!({"metadata": {"labels": {"app": name.name}},
        "spec": pod_spec(&workload.needs)});
    let selector = json!({"matchLabels": {"app": name.name}});
    let (replicas, updated) = (workload.replicas, workload.updated);
    let (spec, status) = match name.kind.as_str() {
        "Deployment" => (
            json!({"replicas": replicas, "selector": selector, "template": template,
                "paused": workload.idle, "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": workload.surge, "maxUnavailable": 0}}}),
            json!({"replicas": replicas, "updatedReplicas": updated}),
        ),
        "ReplicaSet" | "StatefulSet" => (
            json!({"replicas": replicas, "selector": selector, "template": template}),
            json!({"replicas": replicas, "updatedReplicas": updated}),
        ),
        "DaemonSet" => (
            json!({"selector": selector, "template": template}),
            json!({"desiredNumberScheduled": replicas, "currentNumberScheduled": replicas,
                "updatedNumberScheduled": updated}),
        ),
        "Job" => (
            json!({"parallelism": replicas, "suspend": workload.idle, "template": template}),
            json!({}),
        ),
        "CronJob" => (
            json!({"schedule": workload.schedule, "timeZone": workload.time_zone,
                "suspend": workload.idle,
                "jobTemplate": {"spec": {"parallelism": replicas, "template": template}}}),
            json!({}),
        ),
        _ => return None,
    };
    let mut object = json!({
        "apiVersion": api_version(&name.kind), "kind": name.kind,
        "metadata": {"name": name.name, "namespace": name.namespace, "uid": uid_of(name),
            "creationTimestamp": seconds(at)},
        "spec": spec, "status": status,
    });
    drop_nulls(&mut object);
    Some(object)
}

/// An `autoscaling/v2` object whose metric over target is the recorded ratio.
#[must_use]
pub fn scaler(scaler: &Scaler, at: Timestamp) -> Value {
    let metric = scaler.ratio.map(|ratio| {
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": (ratio * HPA_TARGET).round() as i64}}}])
    });
    let limited = scaler.limited.map(|limit| {
        json!([{"type": "ScalingLimited", "status": "True", "reason": format!("{limit:?}"),
            "lastTransitionTime": seconds(at)}])
    });
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": scaler.scaler.name, "namespace": scaler.scaler.namespace,
            "uid": uid_of(&scaler.scaler), "creationTimestamp": seconds(at)},
        "spec": {"minReplicas": scaler.min.max(1), "maxReplicas": scaler.max,
            "scaleTargetRef": {"apiVersion": api_version(&scaler.target.kind),
                "kind": scaler.target.kind, "name": scaler.target.name},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": HPA_TARGET as i64}}}]},
        "status": {"currentReplicas": scaler.current, "desiredReplicas": scaler.desired,
            "currentMetrics": metric, "conditions": limited},
    });
    drop_nulls(&mut object);
    object
}

/// `apiVersion` of a built-in kind.
#[must_use]
pub fn api_version(kind: &str) -> &'static str {
    match kind {
        "Job" | "CronJob" => "batch/v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        "Node" | "Pod" | "ConfigMap" | "Namespace" => "v1",
        _ => "apps/v1",
    }
}

/// An instant as Kubernetes writes most of them: whole seconds.
#[must_use]
pub fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.')
        .map_or(text.clone(), |(whole, _)| format!("{whole}Z"))
}

fn pod(name: &PodRef, needs: &PodNeeds, owner: Option<&WorkloadRef>, at: Timestamp) -> Value {
    let (namespace, pod_name) = name.name.split_once('/').unwrap_or(("default", &name.name));
    let owners = owner.map(|owner| {
        json!([{"apiVersion": api_version(&owner.kind), "kind": owner.kind, "name": owner.name,
            "uid": uid_of(owner), "controller": true}])
    });
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name, "namespace": namespace, "uid": name.uid,
            "creationTimestamp": seconds(at), "ownerReferences": owners},
        "spec": pod_spec(needs),
    });
    drop_nulls(&mut object);
    object
}

fn pod_spec(needs: &PodNeeds) -> Value {
    let of = |role: ImageRole| needs.images.iter().filter(move |image| image.role == role);
    let mut containers: Vec<Value> = of(ImageRole::Main).map(container).collect();
    if let Some(first) = containers.first_mut() {
        first["resources"] = json!({"requests": amounts(&needs.requests)});
    }
    let volumes: Vec<Value> = of(ImageRole::Volume)
        .map(|image| {
            json!({"name": image.container, "image": {"reference": image.image.as_str(),
                "pullPolicy": pull_policy(image)}})
        })
        .collect();
    let terms: Vec<Value> = needs
        .affinity
        .iter()
        .map(|term| {
            let expressions: Vec<Value> = term
                .iter()
                .map(|r| json!({"key": r.key, "operator": r.operator, "values": r.values}))
                .collect();
            json!({"matchExpressions": expressions})
        })
        .collect();
    let affinity = (!terms.is_empty()).then(|| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": terms}}})
    });
    let tolerations: Vec<Value> = needs
        .tolerations
        .iter()
        .map(|t| {
            let operator = if t.exists { "Exists" } else { "Equal" };
            let mut toleration = json!({"operator": operator});
            for (key, value) in [("key", &t.key), ("value", &t.value), ("effect", &t.effect)] {
                if !value.is_empty() {
                    toleration[key] = json!(value);
                }
            }
            toleration
        })
        .collect();
    let mut spec = json!({
        "containers": containers,
        "initContainers": of(ImageRole::Init).map(container).collect::<Vec<_>>(),
        "volumes": volumes,
        "nodeSelector": needs.node_selector,
        "affinity": affinity,
        "tolerations": tolerations,
        "imagePullSecrets": needs.pull_secrets.then(|| json!([{"name": "recorded"}])),
    });
    drop_nulls(&mut spec);
    spec
}

fn container(image: &ImageUse) -> Value {
    json!({"name": image.container, "image": image.image.as_str(),
        "imagePullPolicy": pull_policy(image)})
}

fn pull_policy(image: &ImageUse) -> &'static str {
    if image.always_pull {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn amounts(resources: &Resources) -> Value {
    let mut amounts = Map::new();
    let mut put = |name: &str, amount: u64, text: String| {
        if amount > 0 {
            amounts.insert(name.to_owned(), json!(text));
        }
    };
    put(
        "cpu",
        resources.cpu_milli,
        format!("{}m", resources.cpu_milli),
    );
    put("memory", resources.memory.0, resources.memory.0.to_string());
    put(
        "ephemeral-storage",
        resources.ephemeral.0,
        resources.ephemeral.0.to_string(),
    );
    put("pods", resources.pods, resources.pods.to_string());
    for (name, amount) in &resources.extended {
        put(name, *amount, amount.to_string());
    }
    Value::Object(amounts)
}

fn labels(shape: &NodeShape) -> Value {
    let mut labels = json!(shape.labels);
    for (key, value) in [
        ("kubernetes.io/arch", &shape.arch),
        ("topology.kubernetes.io/zone", &shape.zone),
    ] {
        if let Some(value) = value
            && labels.get(key).is_none()
        {
            labels[key] = json!(value);
        }
    }
    labels
}

fn node_image(image: &ImageRef) -> Value {
    json!({"names": [image.as_str()]})
}

/// A uid that a workload keeps over its lifetime: signals carry none.
fn uid_of(workload: &WorkloadRef) -> String {
    format!(
        "recorded-{}",
        workload.to_string().to_lowercase().replace('/', "-")
    )
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(drop_nulls);
    }
}
