//! `forelay compose` as a user runs it: exit codes, the summary, every fault, a file that reads.

use crate::{run, text};
use forelay::source::scenario::{ScenarioReader, Strictness};

const SPEC: &str = r#"
name = "small"
story = "A service grows."
licence = "Apache-2.0"
start = "2026-03-02T08:00:00Z"
length = "20m"
settle = "10m"
[images."r.example/front:1"]
layers = ["60MB", "200MB"]
[pools.general]
min = 1
max = 20
[[workloads]]
name = "front"
containers = [{ name = "front", image = "r.example/front:1" }]
requests = { cpu = 1, memory = "2Gi" }
[workloads.load]
points = [["0s", 300], ["4m", 2400]]
per_replica = 100
[workloads.hpa]
min = 2
max = 60
"#;

#[test]
fn a_spec_becomes_a_scenario_that_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, out) = (
        folder.path().join("small.toml"),
        folder.path().join("small.jsonl.zst"),
    );
    std::fs::write(&spec, SPEC).unwrap();
    let arguments = [
        "compose",
        text(&spec),
        "--out",
        text(&out),
        "--output",
        "json",
    ];
    let (code, json, errors) = run(&arguments);
    assert_eq!((code, errors.as_str()), (0, ""));
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    let counts = summary["signals"].as_object().unwrap().values();
    let total: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    let (header, reader) = ScenarioReader::open(&out, Strictness::Strict).unwrap();
    assert_eq!(header.name, "small");
    assert_eq!(reader.map(Result::unwrap).count() as u64, total);
    assert!(summary["nodes_joined"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn every_fault_is_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, out) = (
        folder.path().join("small.toml"),
        folder.path().join("small.jsonl"),
    );
    let wrong = SPEC
        .replace("min = 2", "min = 70")
        .replace("cpu = 1", "cpu = 100");
    std::fs::write(&spec, wrong).unwrap();
    let (code, _, errors) = run(&["compose", text(&spec), "--out", text(&out)]);
    assert_eq!(code, 2, "{errors}");
    for words in ["2 things are wrong", "workloads[0].hpa.min", "fit no pool"] {
        assert!(errors.contains(words), "{words} is not in {errors}");
    }
    assert!(!out.exists());
    let (code, _, errors) = run(&["compose", text(&spec), "--check"]);
    assert_eq!(code, 2, "{errors}");
}
