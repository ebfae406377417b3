//! The demo as a user starts it, on the recording that travels inside the binary.

use std::process::Command;

use serde_json::Value;

/// Every number that a script may ask for.
const NUMBERS: [&str; 20] = [
    "/scale/time",
    "/scale/bytes",
    "/reactive/pods",
    "/reactive/warm_pods",
    "/reactive/wait_s/p50",
    "/reactive/wait_s/p95",
    "/reactive/wait_s/p99",
    "/reactive/wait_s/sum",
    "/reactive/origin_bytes",
    "/reactive/cache_bytes",
    "/forelay/pods",
    "/forelay/warm_pods",
    "/forelay/wait_s/sum",
    "/forelay/origin_bytes",
    "/forelay/cache_bytes",
    "/forelay/wasted_bytes",
    "/lead_s/p10",
    "/lead_s/p50",
    "/late_s/mean",
    "/late_s/max",
];

// Only what no machine's pace changes is asserted. How near the demo comes to the replay is printed by
// `make bench-demo`.
#[test]
fn the_demo_starts_every_pod_waits_half_as_long_and_leaves_a_report_that_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_forelay"))
        .args(["demo", "--output", "json", "--report"])
        .arg(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("stored blobs verified"), "{told}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["scenario"], "ca-flash-crowd");
    for path in NUMBERS {
        let number = printed.pointer(path);
        assert!(number.is_some_and(Value::is_number), "{path}: {printed}");
    }
    let wait = |run: &str| printed[run]["wait_s"]["sum"].as_f64().unwrap();
    assert_eq!(printed["reactive"]["pods"], printed["forelay"]["pods"]);
    assert!(
        wait("forelay") <= wait("reactive") / 2.0,
        "{printed}; {told}"
    );

    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["summary"], printed);
    for run in ["reactive_wait_s", "forelay_wait_s"] {
        assert!(report["replay"][run].is_number(), "{}", report["replay"]);
    }
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.ends_with("</html>"));
    for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(
            !page.contains(outside),
            "the page asks for something outside: {outside}"
        );
    }
}
