//! What comes out of protobuf is what the watches decode from JSON.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use bytes::Bytes;
use forelay::domain::time::Timestamp;
use forelay::source::expander::{ask, decode};
use forelay::source::kubernetes::objects::Object;
use forelay::source::kubernetes::objects::node::Node;
use forelay::source::kubernetes::objects::pod::Pod;
use forelay::source::kubernetes::shape::node_shape;
use forelay::source::kubernetes::{Change, Settings, Translator};
use prost::Message;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use crate::autoscaler::{choice, request};
use crate::write::{Writer, definitions};

/// With every member that is read, and many that are not.
fn full_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "trainer-6d5f-x2", "generateName": "trainer-6d5f-", "namespace": "ml",
            "uid": "f1d2", "resourceVersion": "90210", "generation": 1,
            "creationTimestamp": "2026-11-23T08:33:01Z",
            "labels": {"app": "trainer", "pod-template-hash": "6d5f"},
            "annotations": {"kubectl.kubernetes.io/restartedAt": "now"},
            "finalizers": ["example.com/hold"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "else", "uid": "0"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "trainer-6d5f", "uid": "1",
                 "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kcm", "operation": "Update", "apiVersion": "v1",
                "time": "2026-11-23T08:33:01Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]
        },
        "spec": {
            "volumes": [
                {"name": "model", "image": {"reference": "ghcr.io/ml/weights:7b", "pullPolicy": "IfNotPresent"}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "a", "path": "b"}]}}],
            "initContainers": [
                {"name": "fetch", "image": "busybox", "resources": {"requests": {"cpu": "4", "memory": "1Gi"}}},
                {"name": "mesh", "image": "envoy:1.30", "restartPolicy": "Always",
                 "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "128Mi"}}}],
            "containers": [{
                "name": "train", "image": "registry.example.com/ml/train@sha256:".to_owned() + &"a".repeat(64),
                "command": ["train"], "args": ["--all"], "imagePullPolicy": "Always",
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"requests": {"cpu": "1500m", "memory": "3Gi", "ephemeral-storage": "1e9"},
                              "limits": {"nvidia.com/gpu": "2"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                "securityContext": {"runAsUser": 1000}}],
            "nodeSelector": {"disk": "nvme"},
            "schedulerName": "default-scheduler", "priority": 100,
            "imagePullSecrets": [{"name": "registry"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [
                        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
                        {"key": "spot", "operator": "DoesNotExist"}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["bad"]}]}]}},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "trainer"}}}]}},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                 "tolerationSeconds": 300},
                {"key": "team", "operator": "Equal", "value": "ml"}],
            "overhead": {"cpu": "250m", "memory": "120Mi"},
            "resources": {"requests": {"cpu": "6"}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
        },
        "status": {
            "phase": "Pending", "qosClass": "Burstable", "nominatedNodeName": "node-7",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available", "lastProbeTime": null,
                "lastTransitionTime": "2026-11-23T08:33:02Z"}]
        }
    })
}

fn gated_pod() -> Value {
    let mut pod = full_pod();
    pod["metadata"]["uid"] = json!("f1d3");
    pod["metadata"]["deletionTimestamp"] = Value::Null;
    pod["spec"]["schedulingGates"] = json!([{"name": "kueue.x-k8s.io/admission"}]);
    pod["status"] = json!({"phase": "Pending"});
    pod
}

fn full_node() -> Value {
    json!({
        "metadata": {"name": "template-node-for-gpu-7", "uid": "9", "creationTimestamp": null,
            "labels": {"kubernetes.io/hostname": "template-node-for-gpu-7", "kubernetes.io/arch": "arm64",
                "topology.kubernetes.io/zone": "z1", "eks.amazonaws.com/nodegroup": "gpu"}},
        "spec": {"providerID": "aws:///z1/i-1", "podCIDR": "10.0.0.0/24", "taints": [
            {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule", "timeAdded": "2026-11-23T08:33:01Z"}]},
        "status": {
            "capacity": {"cpu": "8", "memory": "64Gi", "pods": "110"},
            "allocatable": {"cpu": "7910m", "memory": "61655012Ki", "pods": "58", "nvidia.com/gpu": "4",
                "ephemeral-storage": "18242267924"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T08:33:01Z"}],
            "nodeInfo": {"architecture": "arm64", "kubeletVersion": "v1.37.0", "machineID": "m"},
            "images": [{"names": ["busybox:1"], "sizeBytes": 4000}]}
    })
}

/// Objects of a kind in the recordings of a control plane, as its API server sent them, until they are bound.
fn recorded(kind: &str) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for folder in ["cluster-autoscaler", "karpenter"] {
        let path = format!(
            "{}/tests/recordings/{folder}/{kind}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let items = line["body"]["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let objects = items.into_iter().chain([line["event"]["object"].clone()]);
            for object in objects.filter(|object| object["metadata"]["uid"].is_string()) {
                let version = object["metadata"]["resourceVersion"].to_string();
                found.insert(version, object);
            }
        }
    }
    let unbound = |object: &Value| {
        object["spec"]["nodeName"]
            .as_str()
            .is_none_or(str::is_empty)
    };
    found.into_values().filter(unbound).collect()
}

#[test]
fn pods_are_what_the_watch_makes_of_the_same_objects() {
    let writer = Writer::new();
    let recorded = recorded("pods");
    assert!(
        recorded.len() >= 3,
        "{} pods wait in the recordings",
        recorded.len()
    );
    let at = Timestamp::from_micros(1_795_422_800_000_000);
    for json in recorded
        .into_iter()
        .chain([full_pod(), gated_pod(), json!({})])
    {
        let watched: Pod = serde_json::from_value(json.clone()).unwrap();
        let bytes = Bytes::from(writer.write("Pod", &json));
        let heard = decode::pod(bytes).unwrap();
        assert_eq!(format!("{:?}", heard.spec), format!("{:?}", watched.spec));
        assert_eq!(
            format!("{:?}", heard.status),
            format!("{:?}", watched.status)
        );
        let signals = |pod: Pod| {
            let mut translator = Translator::new(Settings::default());
            translator.observe(Change::Applied, &Object::from(pod), at)
        };
        assert_eq!(signals(heard), signals(watched), "{json}");
    }
}

#[test]
fn sample_nodes_have_the_shape_that_the_watch_would_see() {
    let writer = Writer::new();
    for json in recorded("nodes")
        .into_iter()
        .chain([full_node(), json!({})])
    {
        let watched: Node = serde_json::from_value(json.clone()).unwrap();
        let heard = decode::node(writer.write("Node", &json).into()).unwrap();
        assert_eq!(node_shape(&heard), node_shape(&watched), "{json}");
        assert_eq!(
            heard.metadata.creation_timestamp,
            watched.metadata.creation_timestamp
        );
    }
}

#[test]
fn a_pod_of_several_choices_is_decoded_once_and_what_is_broken_is_counted_by_kind() {
    let writer = Writer::new();
    let (one, two) = (
        writer.write("Pod", &full_pod()),
        writer.write("Pod", &gated_pod()),
    );
    let mut wrong = full_pod();
    wrong["spec"]["overhead"]["cpu"] = json!("much");
    let wrong = writer.write("Pod", &wrong);
    let mut asked = request(vec![
        choice("gpu", 2, [one.clone(), two.clone(), wrong.clone()]),
        choice("big", -1, [two, one, wrong]),
    ]);
    asked
        .node_bytes_map
        .insert("gpu".into(), writer.write("Node", &full_node()).into());
    let bytes = Bytes::from(asked.encode_to_vec());
    assert_eq!(ask::ids(&bytes).unwrap(), ["gpu", "big"]);
    let (offer, left_out) = ask::offer(&bytes, Timestamp::ZERO);
    assert_eq!(offer.pods.len(), 2);
    let choices: Vec<_> = offer
        .choices
        .iter()
        .map(|one| (one.nodes, one.pods.clone()))
        .collect();
    // A count that no group can have is none.
    assert_eq!(choices, [(2, vec![0, 1]), (0, vec![1, 0])]);
    assert_eq!(offer.samples.keys().collect::<Vec<_>>(), ["gpu"]);
    // The same broken pod twice is one.
    assert_eq!((left_out.pods, left_out.nodes, left_out.beyond), (1, 0, 0));
}

#[test]
fn an_object_larger_than_any_in_etcd_is_left_out_alone() {
    let writer = Writer::new();
    let mut large = full_pod();
    large["metadata"]["annotations"]["blob"] = json!("x".repeat(3 << 19));
    let (large, small) = (
        writer.write("Pod", &large),
        writer.write("Pod", &full_pod()),
    );
    let bytes = request(vec![choice("a", 1, [large, small])]).encode_to_vec();
    let (offer, left_out) = ask::offer(&bytes.into(), Timestamp::ZERO);
    assert_eq!((offer.pods.len(), left_out.beyond), (1, 1));
}

#[test]
fn the_definitions_that_are_read_agree_with_kubernetes_own() {
    let writer = Writer::new();
    let ours = definitions("src/source/expander/wire", "core.proto");
    let mut seen = HashSet::new();
    for message in ours
        .all_messages()
        .filter(|message| !message.is_map_entry())
    {
        let theirs = writer.message(message.name());
        assert_same(&message, &theirs);
        seen.insert(message.name().to_owned());
    }
    assert!(seen.contains("Pod") && seen.contains("Node"));
}

fn assert_same(ours: &MessageDescriptor, theirs: &MessageDescriptor) {
    for field in ours.fields() {
        let place = field.full_name().to_owned();
        let other = theirs.get_field_by_name(field.name());
        let other = other.unwrap_or_else(|| panic!("{place} is not in Kubernetes' definition"));
        assert_eq!(field.number(), other.number(), "{place}");
        assert_eq!(form(&field), form(&other), "{place}");
    }
}

/// The type of a field without its package.
fn form(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(inner) if inner.is_map_entry() => {
            let value = inner.map_entry_value_field().kind();
            return match value {
                Kind::Message(value) => format!("map of {}", value.name()),
                other => format!("map of {other:?}"),
            };
        }
        Kind::Message(inner) => inner.name().to_owned(),
        other => format!("{other:?}"),
    };
    format!("{kind}, several: {}", field.is_list())
}
