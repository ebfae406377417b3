//! Small raw recordings, cut from real ones, become the stories that they hold.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use forelay::domain::signal::{Fact, Signal};
use forelay::domain::time::Timestamp;
use forelay::source::kubernetes::objects::Kind;
use forelay::source::recording::{self, Imported, Options, RecordingError, read_line};
use proptest::prelude::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings")
        .join(name)
}

fn import(name: &str) -> Imported {
    recording::import(&folder(name), &Options::default()).unwrap()
}

/// The signals about one thing, each as its type.
fn story(signals: &[Signal], about: impl Fn(&Fact) -> bool) -> Vec<&'static str> {
    let found = signals.iter().filter(|signal| about(&signal.fact));
    found.map(|signal| signal.fact.event_type()).collect()
}

fn is_pod(fact: &Fact, name: &str) -> bool {
    match fact {
        Fact::PodPending(f) | Fact::PodGated(f) => f.pod.name.contains(name),
        Fact::PodNominated(f) => f.pod.name.contains(name),
        Fact::PodBound(f) => f.pod.name.contains(name),
        Fact::PodStarted(f) => f.pod.name.contains(name),
        Fact::PodRemoved(f) => f.pod.name.contains(name),
        Fact::ImagePulled(f) => f.pod.name.contains(name),
        _ => false,
    }
}

#[test]
fn a_replaced_node_is_told_from_request_to_removal() {
    let imported = import("karpenter");
    let claim = "general-amd64-grg85";
    let mut told = Vec::new();
    for signal in &imported.signals {
        match &signal.fact {
            Fact::NodeRequested(f) if f.request.as_deref() == Some(claim) => {
                told.push(format!("requested, replaces {:?}", f.replaces));
                assert_eq!(f.shape.arch.as_deref(), Some("amd64"));
            }
            Fact::NodeLaunched(f) if f.request.as_deref() == Some(claim) => {
                told.push("launched".into());
                assert!(f.shape.capacity.is_some() && f.shape.zone.is_some());
            }
            Fact::NodeJoined(f) if f.node == "general-amd64-lm2h5" => {
                told.push(format!("joined {} for {:?}", f.pool, f.request));
                assert!(f.shape.taints.is_empty());
            }
            Fact::NodeReady(f) if f.node == "general-amd64-lm2h5" => told.push("ready".into()),
            Fact::NodeInterrupted(f) => told.push(format!("{} interrupted", f.node)),
            Fact::NodeRemoved(f) if f.node.is_some() => told.push("old one removed".into()),
            _ => {}
        }
    }
    let expected = [
        "requested, replaces None",
        "general-amd64-jtsrc interrupted",
        r#"requested, replaces Some("general-amd64-jtsrc")"#,
        "launched",
        r#"joined general-amd64 for Some("general-amd64-grg85")"#,
        r#"joined general-amd64 for Some("general-amd64-grg85")"#,
        "ready",
        "old one removed",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_claim_without_capacity_is_withdrawn_with_the_cloud_s_reason() {
    let imported = import("karpenter");
    let removed = imported
        .signals
        .iter()
        .find_map(|signal| match &signal.fact {
            Fact::NodeRemoved(f) if f.request.is_some() => Some(f),
            _ => None,
        });
    let removed = removed.unwrap();
    assert_eq!(removed.request.as_deref(), Some("gpu-amd64-z5xb8"));
    assert!(removed.reason.contains("insufficient capacity"));
}

#[test]
fn a_pod_is_told_from_pending_to_removed_and_its_truth_is_marked() {
    let imported = import("karpenter");
    let pod = |name: &'static str| story(&imported.signals, move |fact| is_pod(fact, name));
    assert_eq!(
        pod("node-exporter-jkvpw"),
        [
            "dev.forelay.pod.pending.v1",
            "dev.forelay.pod.nominated.v1",
            "dev.forelay.pod.bound.v1",
            "dev.forelay.image.pulled.v1",
            "dev.forelay.pod.started.v1",
        ]
    );
    assert_eq!(
        pod("queue-86588b4d69-8h7ph"),
        [
            "dev.forelay.pod.pending.v1",
            "dev.forelay.pod.bound.v1",
            "dev.forelay.pod.removed.v1"
        ]
    );
    for signal in &imported.signals {
        let hidden = matches!(signal.fact, Fact::PodStarted(_) | Fact::ImagePulled(_));
        assert_eq!(signal.truth, hidden, "{signal:?}");
    }
}

#[test]
fn owners_are_the_things_with_the_template() {
    let imported = import("karpenter");
    let owners: BTreeSet<String> = imported
        .signals
        .iter()
        .filter_map(|signal| match &signal.fact {
            Fact::PodBound(f) => Some(f.owner.as_ref()?.to_string()),
            _ => None,
        })
        .collect();
    let expected = [
        "CronJob/platform/backup",
        "DaemonSet/kube-system/node-exporter",
        "Deployment/shop/queue",
    ];
    assert_eq!(owners, expected.map(str::to_owned).into());
}

#[test]
fn a_group_grows_fails_and_grows_again() {
    let imported = import("cluster-autoscaler");
    let gpu = imported
        .signals
        .iter()
        .filter_map(|signal| match &signal.fact {
            Fact::NodeRequested(f) if f.pool == "gpu-amd64" && f.pods.is_empty() => {
                Some((f.count, f.target))
            }
            Fact::NodeRemoved(f) if f.pool.as_deref() == Some("gpu-amd64") => Some((0, None)),
            _ => None,
        });
    assert_eq!(
        gpu.collect::<Vec<_>>(),
        [
            (1, Some(2)),
            (1, Some(3)),
            (1, Some(4)),
            (0, None),
            (1, Some(4))
        ]
    );
}

#[test]
fn a_gated_pod_is_pending_only_when_its_gates_are_gone() {
    let imported = import("cluster-autoscaler");
    let told = story(&imported.signals, |fact| is_pod(fact, "report-builder"));
    assert_eq!(
        told,
        [
            "dev.forelay.pod.gated.v1",
            "dev.forelay.pod.pending.v1",
            "dev.forelay.pod.pending.v1",
            "dev.forelay.pod.bound.v1",
            "dev.forelay.pod.started.v1",
        ]
    );
}

#[test]
fn an_announcement_carries_what_its_template_needs() {
    let imported = import("cluster-autoscaler");
    let needs = imported
        .signals
        .iter()
        .filter_map(|signal| match &signal.fact {
            Fact::CapacityAnnounced(f) => Some((f.name.as_str(), f.count, f.needs.as_ref()?)),
            _ => None,
        });
    let needs: Vec<_> = needs.collect();
    assert_eq!(needs[0].0, "CapacityBuffer/ml/ipex-spare");
    assert_eq!((needs[0].1, needs[0].2.requests.cpu_milli), (3, 1500));
    assert_eq!(needs[1].0, "ProvisioningRequest/ml/trt-nightly");
    assert_eq!(needs[1].2.requests.extended["nvidia.com/gpu"], 1);
}

#[test]
fn nothing_is_known_before_it_was_received_and_no_identity_is_used_twice() {
    for name in ["karpenter", "cluster-autoscaler"] {
        let imported = import(name);
        let mut ids = HashSet::new();
        let mut before = imported.header.start;
        for signal in &imported.signals {
            assert!(signal.observedtime >= before && signal.observedtime <= imported.header.end);
            before = signal.observedtime;
            // API times have whole seconds: an object may be stamped within the second of receipt.
            assert!(
                signal.observedtime.secs_since(signal.time) > -1.0,
                "{signal:?}"
            );
            assert!(
                ids.insert((signal.source.clone(), signal.id.clone())),
                "{signal:?}"
            );
        }
    }
}

#[test]
fn what_gives_no_signal_is_counted_or_named() {
    let report = import("karpenter").report;
    assert!(report.skipped["bookmark"] > 0 && report.skipped["event of no interest"] > 0);
    let left_out: Vec<_> = report.left_out.keys().map(String::as_str).collect();
    assert_eq!(
        left_out,
        [
            "events-events-k8s-io-v1.jsonl",
            "leases-kube-node-lease.jsonl"
        ]
    );
    assert!(
        report
            .images
            .unknown
            .iter()
            .any(|image| image.contains("restic"))
    );
}

#[test]
fn the_same_recording_gives_the_same_scenario() {
    let (first, second) = (import("karpenter"), import("karpenter"));
    assert_eq!(first.header, second.header);
    assert_eq!(first.signals, second.signals);
}

#[test]
fn a_start_in_the_middle_makes_the_past_known_at_once() {
    let start: Timestamp = "2026-11-23T08:37:50Z".parse().unwrap();
    let options = Options {
        start: Some(start),
        ..Options::default()
    };
    let imported = recording::import(&folder("karpenter"), &options).unwrap();
    let joined = imported.signals.iter().find(
        |signal| matches!(&signal.fact, Fact::NodeJoined(f) if f.node == "general-amd64-lm2h5"),
    );
    assert_eq!(joined.unwrap().observedtime, start);
    assert_eq!(imported.header.start, start);
}

#[test]
fn a_second_list_removes_what_it_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| {
        format!(r#"{{"metadata":{{"name":"{name}","uid":"{name}","resourceVersion":"1"}}}}"#)
    };
    let lines = [
        format!(
            r#"{{"t":1.5,"op":"LIST","path":"/api/v1/nodes","body":{{"items":[{},{}]}}}}"#,
            node("a"),
            node("b")
        ),
        r#"{"t":2,"op":"END","reason":"reset"}"#.into(),
        format!(
            r#"{{"t":9,"op":"LIST","path":"/api/v1/nodes","body":{{"items":[{}]}}}}"#,
            node("b")
        ),
    ];
    fs::write(folder.path().join("nodes.jsonl"), lines.join("\n")).unwrap();
    let imported = recording::import(folder.path(), &Options::default()).unwrap();
    let last = imported.signals.last().unwrap();
    let Fact::NodeRemoved(removed) = &last.fact else {
        panic!("{last:?}")
    };
    assert_eq!(removed.node.as_deref(), Some("a"));
    assert_eq!(last.observedtime.as_secs_f64(), 9.0);
}

#[test]
fn a_broken_line_is_named_with_file_line_and_member() {
    let folder = tempfile::tempdir().unwrap();
    let list = r#"{"t":1,"op":"LIST","path":"/api/v1/nodes","body":{"items":[]}}"#;
    for (bad, member) in [
        ("{", "EOF"),
        (r#"{"t":"x","op":"EVENT"}"#, "t: "),
        (r#"{"t":1,"op":"DANCE"}"#, "op: "),
        (
            r#"{"t":1,"op":"EVENT","event":{"type":"ADDED","object":{"spec":{"taints":7}}}}"#,
            "event.object: ",
        ),
        (r#"{"t":1,"op":"EVENT"}"#, "event: "),
    ] {
        fs::write(
            folder.path().join("nodes.jsonl"),
            format!("{list}\n{bad}\n"),
        )
        .unwrap();
        let error = recording::import(folder.path(), &Options::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("nodes.jsonl:2: "), "{message}");
        assert!(message.contains(member), "{message}");
    }
}

#[test]
fn a_folder_without_collections_says_what_one_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("truth.json"), "{}").unwrap();
    let error = recording::import(folder.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, RecordingError::Empty(_)));
    assert!(error.to_string().contains("nodes.jsonl.gz"));
}

proptest! {
    #[test]
    fn no_line_of_a_recording_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in Kind::ALL {
            let _ = read_line(*kind, &bytes);
        }
    }

    #[test]
    fn a_damaged_line_is_read_or_refused(line in 0usize..40, at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let text = fs::read(folder("karpenter").join("nodes.jsonl")).unwrap();
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).collect();
        let mut line = lines[line % lines.len()].to_vec();
        let at = at.index(line.len());
        line[at] = with;
        if let Err((member, reason)) = read_line(Kind::Node, &line) {
            prop_assert!(!member.is_empty() && !reason.is_empty());
        }
    }
}
