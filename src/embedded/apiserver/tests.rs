//! Laws that hold for whatever is written, in whatever order.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Options;
use super::apply;
use super::decode;
use super::fields::FieldSet;
use super::machine::Machine;
use super::managed::{self, Writer};
use super::read::ListQuery;
use super::schema::Schema;
use super::selector::Selector;
use super::store::Store;
use super::target::Target;
use super::watch::{Cursor, WatchQuery};
use crate::domain::time::Timestamp;
use crate::telemetry::clock::SystemClock;

/// A struct, a map, a keyed list, a set and an atomic list.
fn schema() -> Schema {
    let entry = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "qty": {"type": "integer"}},
    });
    let text = json!({"type": "string"});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = json!({
        "type": "object",
        "properties": {
            "size": {"type": "integer"},
            "labels": {"type": "object", "additionalProperties": text},
            "parts": {
                "type": "array", "items": entry,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            },
            "marks": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "words": {"type": "array", "items": text},
        },
    });
    Schema::parse(&json!({"type": "object", "properties": {"metadata": open, "spec": spec}}))
        .unwrap()
}

/// Some object of the schema above.
fn object() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let parts = btree_map(name(), prop::option::of(0..3_u8), 1..3).prop_map(|parts| {
        let part = |(name, qty): (&str, Option<u8>)| match qty {
            Some(qty) => json!({"name": name, "qty": qty}),
            None => json!({"name": name}),
        };
        parts.into_iter().map(part).collect::<Value>()
    });
    let labels = btree_map(name(), name(), 1..3).prop_map(|labels| json!(labels));
    let marks = prop::sample::subsequence(vec!["x", "y", "z"], 1..=3).prop_map(|m| json!(m));
    let words = vec(name(), 1..3).prop_map(|words| json!(words));
    let member = |value: BoxedStrategy<Value>| prop::option::of(value);
    (
        member((0..3_u8).prop_map(|n| json!(n)).boxed()),
        member(labels.boxed()),
        member(parts.boxed()),
        member(marks.boxed()),
        member(words.boxed()),
    )
        .prop_map(|(size, labels, parts, marks, words)| {
            let mut spec = json!({});
            for (name, value) in [
                ("size", size),
                ("labels", labels),
                ("parts", parts),
                ("marks", marks),
                ("words", words),
            ] {
                if let Some(value) = value {
                    spec[name] = value;
                }
            }
            json!({"metadata": {}, "spec": spec})
        })
}

fn set() -> impl Strategy<Value = FieldSet> {
    object().prop_map(|object| apply::fields_of(&object, &schema()))
}

fn applier(name: &str) -> Writer {
    Writer {
        manager: name.to_owned(),
        operation: "Apply",
        api_version: "example.com/v1".to_owned(),
        subresource: String::new(),
        time: "2026-11-23T00:00:00Z".to_owned(),
    }
}

fn applied(live: &Value, object: &Value, who: &str) -> Value {
    managed::apply_to(live, object, &schema(), &applier(who), true).unwrap()
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    object
}

proptest! {
    #[test]
    fn sets_obey_the_laws_of_sets(a in set(), b in set()) {
        prop_assert!(a.difference(&a).is_empty());
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(FieldSet::from_value(&a.to_value()), a);
    }

    #[test]
    fn what_is_merged_is_in_the_result_and_merging_again_changes_nothing(a in object(), b in object()) {
        // An empty struct is owned as such until something is in it.
        prop_assume!(b["spec"] != json!({}));
        let schema = schema();
        let merged = apply::merge(&a, &b, &schema);
        prop_assert_eq!(&apply::merge(&merged, &b, &schema), &merged);
        let (wanted, found) = (apply::fields_of(&b, &schema), apply::fields_of(&merged, &schema));
        prop_assert!(wanted.difference(&found).is_empty());
    }

    #[test]
    fn an_object_does_not_differ_from_itself(a in object()) {
        let changes = apply::compare(&a, &a, &schema());
        prop_assert!(changes.added.is_empty() && changes.modified.is_empty());
        prop_assert!(changes.removed.is_empty());
    }

    #[test]
    fn applying_twice_is_applying_once(a in object(), b in object()) {
        let live = applied(&json!({"metadata": {}}), &a, "one");
        let once = applied(&live, &b, "two");
        prop_assert_eq!(&applied(&once, &b, "two"), &once);
    }

    #[test]
    fn the_last_of_two_applies_of_one_manager_alone_remains(a in object(), b in object()) {
        let first = applied(&json!({"metadata": {}}), &a, "one");
        let second = applied(&first, &b, "one");
        let fresh = applied(&json!({"metadata": {}}), &b, "one");
        let sorted = |object: &Value| apply::fields_of(&without_managers(object), &schema());
        prop_assert_eq!(sorted(&second), sorted(&fresh));
    }

    #[test]
    fn a_manager_that_lets_go_takes_nothing_of_another_along(a in object(), b in object()) {
        // An empty struct is owned as such until something is in it.
        prop_assume!(b["spec"] != json!({}));
        let one = applied(&json!({"metadata": {}}), &a, "one");
        let both = applied(&one, &b, "two");
        let left = applied(&both, &json!({"metadata": {}}), "one");
        let schema = schema();
        let (wanted, found) = (apply::fields_of(&b, &schema), apply::fields_of(&without_managers(&left), &schema));
        prop_assert!(wanted.difference(&found).is_empty(), "{left}");
    }

    #[test]
    fn no_selector_and_no_body_makes_the_server_panic(text in ".{0,40}", bytes in vec(any::<u8>(), 0..60)) {
        let machine = machine();
        let pods = machine.target("v1", "Pod", "", "").unwrap();
        drop(Selector::parse(Some(&text), None, &pods.resource));
        drop(Selector::parse(None, Some(&text), &pods.resource));
        drop(decode::object(&bytes, false, "Pod"));
        drop(decode::object(&bytes, true, "Pod"));
        drop(decode::applied(&bytes));
    }

    #[test]
    fn a_watcher_that_reads_in_any_steps_holds_what_a_list_shows(
        writes in vec((0..4_u8, prop::option::of(0..3_u8), any::<bool>()), 1..40),
        batch in 1..5_usize,
    ) {
        let mut machine = machine();
        let target = machine.target("v1", "ConfigMap", "default", "").unwrap();
        let mut seen = Seen::begin(&machine, &target, batch);
        for (n, value, read) in writes {
            write(&mut machine, &target, n, value);
            if read {
                seen.read_once(&machine);
            }
        }
        while seen.read_once(&machine) > 0 {}
        let query = ListQuery { selector: even(&target), ..ListQuery::default() };
        let list = machine.list(&target, &query).unwrap();
        let listed: BTreeMap<String, Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["metadata"]["name"].to_string(), item["data"].clone()))
            .collect();
        prop_assert_eq!(seen.objects, listed);
    }

    #[test]
    fn a_list_at_an_old_version_is_what_it_was_then(
        writes in vec((0..4_u8, prop::option::of(0..3_u8)), 1..20),
    ) {
        let mut store = Store::new(0, 100, 100);
        let mut states = Vec::new();
        for (n, value) in writes {
            let key = (String::new(), n.to_string());
            match value {
                Some(value) => {
                    let object = json!({"metadata": {}, "value": value});
                    store.put("things", key, object, false).unwrap();
                }
                None => drop(store.remove("things", &key)),
            }
            let state: BTreeMap<_, _> = store
                .list("things", None)
                .map(|(key, stored)| (key.clone(), Arc::clone(&stored.object)))
                .collect();
            states.push((store.version(), state));
        }
        for (version, state) in states {
            prop_assert_eq!(store.list_at("things", version).unwrap(), state);
        }
    }
}

fn machine() -> Machine {
    Machine::new(&Options::new(Arc::new(SystemClock)), Timestamp::ZERO)
}

/// The ConfigMaps labelled `even`.
fn even(target: &Target) -> Selector {
    Selector::parse(Some("parity=even"), None, &target.resource).unwrap()
}

/// Writes ConfigMap `n`, or deletes it when there is no value.
fn write(machine: &mut Machine, target: &Target, n: u8, value: Option<u8>) {
    let name = format!("m{n}");
    let Some(value) = value else {
        let one = Target {
            name,
            ..target.clone()
        };
        drop(machine.remove_whole(&one, Timestamp::ZERO));
        return;
    };
    let parity = if value % 2 == 0 { "even" } else { "odd" };
    let metadata = json!({"name": name, "namespace": "default", "labels": {"parity": parity}});
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": {"value": value.to_string()},
    });
    machine.store_whole(object, Timestamp::ZERO).unwrap();
}

/// What a watcher makes of its events.
struct Seen {
    cursor: Cursor,
    batch: usize,
    objects: BTreeMap<String, Value>,
}

impl Seen {
    fn begin(machine: &Machine, target: &Target, batch: usize) -> Self {
        let query = WatchQuery {
            selector: even(target),
            ..WatchQuery::default()
        };
        let cursor = machine.watch(target.clone(), query).unwrap();
        Self {
            cursor,
            batch,
            objects: BTreeMap::new(),
        }
    }

    fn read_once(&mut self, machine: &Machine) -> usize {
        let events = machine.poll(&mut self.cursor, self.batch).unwrap();
        for event in &events {
            let name = event.object["metadata"]["name"].to_string();
            let known = self.objects.contains_key(&name);
            match event.kind {
                "ADDED" => assert!(!known, "{name} is added twice"),
                _ => assert!(known, "{name} was never added"),
            }
            if event.kind == "DELETED" {
                self.objects.remove(&name);
            } else {
                self.objects.insert(name, event.object["data"].clone());
            }
        }
        events.len()
    }
}
