//! `forelay import` as a user runs it: exit codes, counts, errors, a scenario that reads.

use crate::{run, text};
use forelay::source::scenario::{ScenarioReader, Strictness};

#[test]
fn a_recording_becomes_a_scenario_and_what_was_skipped_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("small.jsonl.zst");
    let arguments = ["import", "tests/recordings/karpenter", "--out", text(&out)];
    let (code, page, errors) = run(&[&arguments[..], &["--name", "small"]].concat());
    assert_eq!((code, errors.as_str()), (0, ""));
    for words in ["node.joined", "bookmark", "not read: leases", "links: "] {
        assert!(page.contains(words), "{page}");
    }
    let (header, reader) = ScenarioReader::open(&out, Strictness::Strict).unwrap();
    assert_eq!(header.name, "small");
    let signals = reader.map(Result::unwrap).count();
    let (code, json, _) = run(&[&arguments[..], &["--output", "json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let counts = report["signals"].as_object().unwrap().values();
    let total: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((code, total), (0, signals as u64));
}

#[test]
fn a_start_or_a_load_beyond_the_data_is_an_error_and_no_empty_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let import = |more: &[&str]| {
        let arguments = ["import", "tests/recordings/karpenter", "--out", text(&out)];
        let (code, _, errors) = run(&[&arguments[..], more].concat());
        assert_eq!(code, 1, "{errors}");
        assert!(!out.exists());
        errors
    };
    let late = import(&["--start", "2030-01-01T00:00:00Z"]);
    assert!(late.contains("after the last line"), "{late}");
    let load = "Deployment/shop/web=tests/load/grok_asg_anomaly.csv.gz:value:99999999:1";
    let beyond = import(&["--load", load]);
    assert!(beyond.contains("no data row 99999999"), "{beyond}");
}

#[test]
fn a_broken_line_ends_the_import_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let list = r#"{"t":1,"op":"LIST","path":"/api/v1/pods","body":{"items":[]}}"#;
    std::fs::write(folder.path().join("pods.jsonl"), format!("{list}\n{{\n")).unwrap();
    let out = folder.path().join("out.jsonl");
    let (code, _, errors) = run(&["import", text(folder.path()), "--out", text(&out)]);
    assert_eq!(code, 1);
    assert!(errors.contains("pods.jsonl:2: "), "{errors}");
    assert!(!out.exists());
}

#[test]
fn a_load_that_is_wrongly_written_is_shown_the_right_form() {
    let (code, _, errors) = run(&["import", "x", "--out", "y", "--load", "queue=file"]);
    assert_eq!(code, 2);
    assert!(
        errors.contains("KIND/NAMESPACE/NAME=FILE:COLUMN"),
        "{errors}"
    );
}
