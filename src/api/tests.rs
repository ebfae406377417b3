//! The definitions are what is committed, and plans survive them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::image::{Digest, Platform};
use crate::domain::plan::{LetGo, Plan, PlanEntry, Priority, Reason, Staging, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

fn entry(seed: u8, reason: Reason) -> PlanEntry {
    PlanEntry {
        image: format!("registry.example/team/app:{seed}").parse().unwrap(),
        digest: Digest::from_sha256(&[seed; 32]),
        platform: Platform::linux("arm64"),
        priority: Priority::Predicted,
        reason,
        probability: 0.75,
        bytes: ByteSize(1 << seed.min(50)),
        deadline: seed
            .is_multiple_of(2)
            .then_some(Timestamp::from_micros(1_795_423_518_238_001)),
        expires: Timestamp::from_micros(1_795_423_600_000_000),
    }
}

fn plan(target: Target) -> Plan {
    let name = || "shop/web".to_owned();
    let reasons = [
        Reason::Bound(name().into()),
        Reason::Nominated(name().into()),
        Reason::PendingPod(name().into()),
        Reason::DaemonSet(name().into()),
        Reason::Announced(name().into()),
        Reason::ScalerWish(name().into()),
        Reason::Rollout(name().into()),
        Reason::Replacement(name().into()),
        Reason::Schedule(name().into()),
        Reason::History(name().into()),
    ];
    Plan {
        entries: reasons
            .into_iter()
            .enumerate()
            .map(|(i, reason)| entry(i as u8, reason))
            .collect(),
        left_out: [("budget".to_owned(), 3)].into(),
        ..Plan::empty(target, 7, Timestamp::from_micros(1_795_423_518_000_000))
    }
}

#[test]
fn a_plan_survives_the_way_through_its_object() {
    let mut node = plan(Target::Node("node-1".into()));
    node.let_go = vec![LetGo {
        image: "registry.example/team/old:1".parse().unwrap(),
        digest: Digest::from_sha256(&[9; 32]),
    }];
    let json = serde_json::to_string(&NodePrefetchSpec::from(&node)).unwrap();
    let spec: NodePrefetchSpec = serde_json::from_str(&json).unwrap();
    assert_eq!(Plan::try_from(&spec).unwrap(), node);

    let mut pool = plan(Target::Pool("general".into()));
    pool.nodes = Some(Staging {
        p50: 3,
        p90: 8,
        least: 2,
    });
    let json = serde_json::to_string(&PoolPrefetchSpec::from(&pool)).unwrap();
    let spec: PoolPrefetchSpec = serde_json::from_str(&json).unwrap();
    assert_eq!(Plan::try_from(&spec).unwrap(), pool);
}

#[test]
fn plans_of_older_and_newer_controllers_are_read() {
    let mut node = json_of(&NodePrefetchSpec::from(&plan(Target::Node("n".into()))));
    // An older one says nothing of what is let go, a newer one something that nobody knows yet.
    assert!(node.get("letGo").is_none());
    node["tomorrow"] = serde_json::json!([{"image": "x"}]);
    let spec: NodePrefetchSpec = serde_json::from_value(node).unwrap();
    assert!(spec.let_go.is_empty() && spec.entries.len() == 10);
    let mut pool = json_of(&PoolPrefetchSpec::from(&plan(Target::Pool("p".into()))));
    assert!(pool.get("nodes").is_none());
    pool["nodes"] = serde_json::json!({"p50": 1, "p90": 2, "least": 1, "p99": 4});
    let spec: PoolPrefetchSpec = serde_json::from_value(pool).unwrap();
    assert_eq!(spec.nodes.map(|nodes| nodes.p90), Some(2));
}

fn json_of(spec: &impl serde::Serialize) -> Value {
    serde_json::to_value(spec).unwrap()
}

#[test]
fn a_reason_of_a_newer_controller_leaves_the_entry_usable() {
    let because = Because {
        kind: "Astrology".into(),
        of: "mars".into(),
    };
    assert_eq!(Reason::from(&because), Reason::History("mars".into()));
}

#[test]
fn an_entry_for_no_platform_is_refused_with_its_place() {
    let mut spec = NodePrefetchSpec::from(&plan(Target::Node("n".into())));
    spec.entries[2].platform = "linux".into();
    let error = Plan::try_from(&spec).unwrap_err().to_string();
    assert!(
        error.contains("entry 2") && error.contains("linux"),
        "{error}"
    );
}

#[test]
fn more_entries_than_an_object_holds_are_counted_as_left_out() {
    let mut long = plan(Target::Node("n".into()));
    let one = long.entries[0].clone();
    long.entries = vec![one; MAX_ENTRIES + 5];
    let spec = NodePrefetchSpec::from(&long);
    assert_eq!(spec.entries.len(), MAX_ENTRIES);
    assert_eq!(spec.left_out["object-size"], 5);
}

#[test]
fn an_expiry_that_never_comes_is_written_as_an_instant() {
    let mut one = entry(1, Reason::History("".into()));
    one.expires = Timestamp::MAX;
    let json = serde_json::to_value(Entry::from(&one)).unwrap();
    let text = json["expires"].as_str().unwrap();
    assert!(text.starts_with("9999-"), "{text}");
}

/// Walks a structural schema: (path, schema).
fn schemas<'a>(path: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.clone(), schema));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        schemas(format!("{path}.{name}"), property, found);
    }
    if schema["items"].is_object() {
        schemas(format!("{path}[]"), &schema["items"], found);
    }
}

#[test]
fn every_list_and_text_of_a_spec_is_bounded_and_every_type_is_structural() {
    for crd in crds() {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        schemas(String::new(), schema, &mut found);
        for (path, schema) in found {
            assert!(schema["type"].is_string(), "{path}: no type in {schema}");
            assert!(schema.get("$ref").is_none(), "{path}: a reference");
            assert!(
                schema.get("additionalProperties") != Some(&Value::Bool(false)),
                "{path}"
            );
            if !path.starts_with(".spec") {
                continue;
            }
            let kind = schema["type"].as_str().unwrap();
            if kind == "array" {
                assert!(schema["maxItems"].is_u64(), "{path}: no maxItems");
                assert!(
                    schema["x-kubernetes-list-type"].is_string(),
                    "{path}: no list type"
                );
            }
            let bounded = schema["maxLength"].is_u64() || schema["enum"].is_array();
            assert!(kind != "string" || bounded, "{path}: no maxLength");
            let format = schema["format"].as_str().unwrap_or("double");
            assert!(
                ["int32", "int64", "double", "date-time"].contains(&format),
                "{path}: {format}"
            );
        }
    }
}

#[test]
fn the_epoch_rule_is_on_the_spec_and_speaks_of_the_spec() {
    for crd in [NodePrefetch::crd(), PoolPrefetch::crd()] {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let rules = &schema["properties"]["spec"]["x-kubernetes-validations"];
        assert_eq!(rules[0]["rule"], "self.epoch >= oldSelf.epoch");
    }
}

#[test]
fn the_closest_pool_pattern_is_told_apart_from_the_catch_all() {
    let policy = |pools: &[&str]| PrefetchPolicySpec {
        pools: pools.iter().map(|p| (*p).to_owned()).collect(),
        ..PrefetchPolicySpec::default()
    };
    assert_eq!(policy(&[]).closeness("gpu-a"), Some(0));
    assert_eq!(policy(&["gpu-*", "*"]).closeness("gpu-a"), Some(4));
    assert_eq!(policy(&["cpu-*"]).closeness("gpu-a"), None);
}

#[test]
fn an_excluded_image_stays_out_even_when_it_is_included() {
    let policy = PrefetchPolicySpec {
        include: vec!["docker.io/library/*".into()],
        exclude: vec!["*:latest".into()],
        ..PrefetchPolicySpec::default()
    };
    let images = policy.images();
    assert!(images.allows(&"nginx:1.27".parse().unwrap()));
    assert!(!images.allows(&"nginx".parse().unwrap()));
    assert!(!images.allows(&"quay.io/a/b:1".parse().unwrap()));
}

proptest! {
    #[test]
    fn object_names_of_pools_are_valid_and_never_shared(a in ".{0,80}", b in "[a-zA-Z0-9./_-]{0,300}") {
        for pool in [&a, &b] {
            let name = pool_object_name(pool);
            prop_assert!(!name.is_empty() && name.len() <= 253, "{name}");
            for part in name.split('.') {
                prop_assert!(!part.is_empty(), "{}", name);
                prop_assert!(!part.starts_with('-') && !part.ends_with('-'), "{}", name);
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                prop_assert!(part.chars().all(plain), "{}", name);
            }
        }
        prop_assert!(a == b || pool_object_name(&a) != pool_object_name(&b));
    }
}
