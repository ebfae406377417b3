//! Both recordings replay as they happened, then better.

use std::path::{Path, PathBuf};
use std::process::Command;

use forelay::domain::scenario::Header;
use forelay::domain::signal::Signal;
use forelay::forecast::model::Model;
use forelay::sim::calibrate::modelled_wait;
use forelay::sim::facts::{Facts, recorded_wait};
use forelay::sim::policy::{Policy, replay};
use forelay::sim::report::Report;
use forelay::source::scenario::{ScenarioReader, Strictness};
use serde_json::Value;

const RECORDINGS: [&str; 2] = ["ca-flash-crowd", "karpenter-rollout"];

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    folder.join(format!("{name}.jsonl.zst"))
}

fn recording(name: &str) -> (Header, Vec<Signal>) {
    let (header, reader) = ScenarioReader::open(&file(name), Strictness::Strict).unwrap();
    (header, reader.map(Result::unwrap).collect())
}

#[test]
fn a_kubelet_alone_waits_as_long_as_it_did_in_the_recording() {
    for name in RECORDINGS {
        let (header, signals) = recording(name);
        let facts = Facts::gather(&header, &signals).unwrap();
        let recorded = recorded_wait(&facts, &signals).unwrap();
        let modelled = modelled_wait(&header, &facts);
        let off = (modelled / recorded - 1.0).abs();
        assert!(off <= 0.15, "{name}: {modelled} s, recorded {recorded} s");
    }
}

#[test]
fn forelay_saves_most_of_the_wait_and_more_than_every_baseline() {
    for name in RECORDINGS {
        let (header, signals) = recording(name);
        let replay = replay(&header, &signals, &Policy::ALL, &Model::default(), |_| {}).unwrap();
        let report = Report::new(&[replay], &Policy::ALL);
        let gain = |policy: Policy| {
            let rows = &report.scenarios[0].policies.0;
            let row = rows.iter().find(|(row, _)| *row == policy).unwrap();
            row.1.gain.unwrap()
        };
        let forelay = gain(Policy::Forelay);
        assert!(forelay >= 0.6, "{name}: {forelay}");
        for baseline in [
            Policy::Reactive,
            Policy::Daemonsets,
            Policy::Decayed,
            Policy::PendingOnly,
        ] {
            let other = gain(baseline);
            assert!(
                forelay > other,
                "{name}: {forelay} is not above {baseline}'s {other}"
            );
        }
        assert!(forelay <= gain(Policy::Oracle));
    }
}

/// What `forelay replay` prints, and the page that it writes.
fn replayed(name: &str, folder: &Path) -> (String, String) {
    let page = folder.join("report.html");
    let output = Command::new(env!("CARGO_BIN_EXE_forelay"))
        .args(["replay", "--output", "json", "--policy", "reactive,forelay"])
        .arg("--report")
        .arg(&page)
        .arg(file(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    (printed, std::fs::read_to_string(page).unwrap())
}

#[test]
fn the_command_prints_the_same_bytes_in_two_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, page) = replayed("karpenter-rollout", folder.path());
    assert_eq!(
        (first.clone(), page.clone()),
        replayed("karpenter-rollout", folder.path())
    );
    let report: Value = serde_json::from_str(&first).unwrap();
    let scenario = &report["scenarios"][0];
    assert_eq!(scenario["name"], "karpenter-rollout");
    for policies in [&scenario["policies"], &report["pooled"]["policies"]] {
        assert_eq!(
            policies.as_object().unwrap().len(),
            2,
            "only those asked for"
        );
        let row = &policies["forelay"];
        for member in [
            "gain",
            "waste_node",
            "pods",
            "warm_pods",
            "node_bytes",
            "wasted_bytes",
        ] {
            assert!(row[member].is_number(), "{member}: {row}");
        }
        for member in ["p50", "p95", "p99", "sum"] {
            assert!(row["wait_s"][member].is_number(), "{member}: {row}");
        }
    }
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
    for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(
            !page.contains(outside),
            "the page asks for something outside: {outside}"
        );
    }
}
