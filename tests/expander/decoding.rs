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
    serde_json::from_str(include_str!("pod.json")).unwrap()
}

fn full_node() -> Value {
    serde_json::from_str(include_str!("node.json")).unwrap()
}

fn gated_pod() -> Value {
    let mut pod = full_pod();
    pod["metadata"]["uid"] = json!("f1d3");
    pod["metadata"]["deletionTimestamp"] = Value::Null;
    pod["spec"]["schedulingGates"] = json!([{"name": "kueue.x-k8s.io/admission"}]);
    pod["status"] = json!({"phase": "Pending"});
    pod
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
fn what_kubernetes_itself_has_written_reads_the_same() {
    // tests/expander/{pod,node}.json read and marshalled by k8s.io/api v0.36.0, as cluster-autoscaler does.
    let pod = decode::pod(Bytes::from_static(include_bytes!("pod.pb"))).unwrap();
    let watched: Pod = serde_json::from_value(full_pod()).unwrap();
    assert_eq!(format!("{:?}", pod.spec), format!("{:?}", watched.spec));
    assert_eq!(format!("{:?}", pod.status), format!("{:?}", watched.status));
    let meta = |pod: &Pod| {
        let meta = &pod.metadata;
        let owners = meta.owner_references.iter().flatten();
        let owners: Vec<_> = owners
            .map(|owner| (owner.uid.clone(), owner.controller))
            .collect();
        let stamps = (
            meta.creation_timestamp.clone(),
            meta.deletion_timestamp.clone(),
        );
        (
            meta.labels.clone(),
            meta.annotations.clone(),
            owners,
            stamps,
        )
    };
    assert_eq!(meta(&pod), meta(&watched));
    let node = decode::node(Bytes::from_static(include_bytes!("node.pb"))).unwrap();
    let watched: Node = serde_json::from_value(full_node()).unwrap();
    assert_eq!(node_shape(&node), node_shape(&watched));
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
