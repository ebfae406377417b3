//! `forelay explain` on a recorded scenario: images, reasons, savings, and names that exist.

use serde_json::Value;

use crate::run;

fn explain(arguments: &[&str]) -> (i32, String, String) {
    let scenario = [
        "explain",
        "--scenario",
        "scenarios/karpenter-rollout.jsonl.zst",
    ];
    run(&[&scenario, arguments].concat())
}

fn json(arguments: &[&str]) -> Value {
    let with_output: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--output", "json"])
        .collect();
    let (code, out, err) = explain(&with_output);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// The pool and the node of the recording that got most bytes ahead of their pods.
fn busiest() -> (String, String) {
    let (code, _, err) = explain(&["pool", "nowhere"]);
    assert_eq!(code, 2);
    let (_, names) = err.rsplit_once("there is ").unwrap();
    let pools = names.trim().split(", ").map(str::to_owned);
    let busiest = pools.map(|pool| {
        let story = json(&["pool", &pool]);
        let nodes = story["nodes"].as_array().unwrap();
        let line = nodes.iter().max_by_key(|line| line["sent_bytes"].as_u64());
        let line = line.cloned().unwrap_or_default();
        let sent = line["sent_bytes"].as_u64().unwrap_or(0);
        (
            sent,
            pool,
            line["node"].as_str().unwrap_or_default().to_owned(),
        )
    });
    let (sent, pool, node) = busiest.max().unwrap();
    assert!(sent > 0);
    (pool, node)
}

#[test]
fn a_node_is_told_its_images_why_they_came_and_what_they_saved() {
    let (pool, node) = busiest();
    let story = json(&["node", &node]);
    assert_eq!(story["pool"], pool.as_str());
    assert!(story["totals"]["saved_s"].as_f64() > Some(0.0), "{story}");
    let sent = story["sent"].as_array().unwrap();
    let moved = sent.iter().filter(|one| one["bytes"].as_u64() > Some(0));
    let used = moved.filter(|one| !one["used_by"].as_array().unwrap().is_empty());
    let used: Vec<&Value> = used.collect();
    assert!(!used.is_empty());
    for one in &used {
        let first = &one["first"];
        assert!(!first["reasons"].as_array().unwrap().is_empty(), "{one}");
        assert!(first["chance"].as_f64() > Some(0.0), "{one}");
    }
    let (code, text, err) = explain(&["node", &node, "--at", "6m"]);
    assert_eq!(code, 0, "{err}");
    for one in used {
        let image = one["image"].as_str().unwrap();
        assert!(text.contains(image), "{image} is not in:\n{text}");
    }
    for word in ["because of", "sent ahead", "saved", "Its pods"] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
}

#[test]
fn what_does_not_exist_is_answered_with_what_does() {
    let (_, node) = busiest();
    let (code, out, err) = explain(&["node", &format!("{node}x")]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains(&format!("there is {node}")), "{err}");
    for at in ["noon", "9h", "2020-01-01T00:00:00Z"] {
        let (code, _, err) = explain(&["node", &node, "--at", at]);
        assert!(code == 2 && !err.is_empty(), "{at}: {code}");
    }
}
