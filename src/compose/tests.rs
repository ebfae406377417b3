//! Composing as a whole: the page's own example, and specs that are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::compose::spec::{Kind, Portion};
use crate::domain::node::{NodeShape, Resources};
use crate::domain::signal::Fact;
use crate::domain::time::Timestamp;

const PAGE: &str = include_str!("../../docs/compose.md");

/// The example of the page, between its fences.
fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_example_of_the_page_is_a_spec() {
    let spec = parse(Path::new("page.toml"), example()).unwrap();
    assert_eq!(spec.workloads.len(), 4);
    assert_eq!(spec.workloads[2].kind, Kind::CronJob);
    assert_eq!(spec.workloads[0].surge, Portion::Percent(25));
    assert_eq!(spec.pools["general"].cpu.0, 7910);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_path() {
    let text = example().replace("max = 20\n", "max = 20\ncolour = 1\n");
    let error = parse(Path::new("page.toml"), &text).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("pools.general"), "{text}");
    assert!(text.contains("colour"), "{text}");
    assert!(text.starts_with("page.toml:4"), "{text}");
}

#[test]
fn a_duration_without_a_unit_is_refused_with_its_key() {
    let text = example().replace("length = \"40m\"", "length = \"40\"");
    let error = parse(Path::new("page.toml"), &text)
        .unwrap_err()
        .to_string();
    assert!(error.contains("length"), "{error}");
    assert!(error.contains("is not a duration"), "{error}");
}

// === specs that are played ===

/// A small cluster: a service under load, a DaemonSet, a CronJob, two pools.
const SMALL: &str = r#"
name = "small"
story = "A service grows and shrinks."
licence = "Apache-2.0"
start = "2026-03-02T08:00:00Z"
length = "30m"
settle = "15m"

[images."r.example/front:1"]
archs = ["amd64", "arm64"]
layers = ["60MB", "200MB"]
[images."r.example/front:2"]
archs = ["amd64", "arm64"]
layers = ["60MB", "210MB"]
[images."r.example/log:1"]
archs = ["amd64", "arm64"]
layers = ["30MB"]

[pools.general]
zones = ["region-1a", "region-1b"]
labels = { pool = "general" }
min = 1
max = 20

[pools.arm]
arch = "arm64"
cpu = 4
memory = "8Gi"
spot = true
max = 10

[[workloads]]
name = "front"
containers = [{ name = "front", image = "r.example/front:1" }]
requests = { cpu = 1, memory = "2Gi" }
rollouts = [{ at = "12m", container = "front", image = "r.example/front:2" }]
[workloads.load]
points = [["0s", 300], ["4m", 2400], ["15m", 2400], ["18m", 300]]
noise = 0.03
per_replica = 100
[workloads.hpa]
min = 2
max = 60

[[workloads]]
name = "log"
kind = "DaemonSet"
containers = [{ name = "log", image = "r.example/log:1" }]
requests = { cpu = "100m", memory = "64Mi" }
tolerations = [{ exists = true }]

[[workloads]]
name = "report"
kind = "CronJob"
schedule = "*/10 * * * *"
parallelism = 9
containers = [{ name = "report", image = "r.example/front:1" }]
requests = { cpu = 2, memory = "1Gi" }
node_selector = { "kubernetes.io/arch" = "arm64" }
"#;

fn composed(text: &str, seed: u64) -> Result<(Vec<Signal>, Summary), ComposeError> {
    let file = Path::new("small.toml");
    let spec = parse(file, text)?;
    let cast = cast(&spec, file, Some(seed))?;
    let mut signals = Vec::new();
    let summary = play(
        &cast,
        &mut |signal| {
            signals.push(signal.clone());
            Ok(())
        },
        |_| {},
    )?;
    Ok((signals, summary))
}

fn faults(text: &str) -> Vec<Fault> {
    match composed(text, 1) {
        Err(ComposeError::Faults { faults, .. }) => faults.0,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("nothing is wrong with it"),
    }
}

/// What must hold of every composed scenario.
fn assert_sound(signals: &[Signal]) {
    let mut ids = BTreeSet::new();
    let mut last = Timestamp::ZERO;
    let mut nodes: BTreeMap<String, (NodeShape, Resources)> = BTreeMap::new();
    let mut bound: BTreeMap<String, (String, Resources)> = BTreeMap::new();
    for signal in signals {
        assert!(
            ids.insert((&signal.source, &signal.id)),
            "twice: {}",
            signal.id
        );
        assert!(signal.observedtime >= last, "not in order: {}", signal.id);
        assert!(
            signal.time <= signal.observedtime,
            "known early: {}",
            signal.id
        );
        last = signal.observedtime;
        match &signal.fact {
            Fact::NodeJoined(joined) => {
                let free = joined.shape.capacity.clone().unwrap();
                nodes.insert(joined.node.clone(), (joined.shape.clone(), free));
            }
            Fact::PodBound(pod) => {
                let (shape, free) = nodes
                    .get_mut(&pod.node)
                    .expect("bound to a node that is known");
                let mut needs = pod.needs.clone();
                needs.affinity.clear(); // a DaemonSet's pod names its node, which is no label
                assert!(
                    shape.admits(&needs, false),
                    "{} on {}",
                    pod.pod.name,
                    pod.node
                );
                assert!(needs.requests.fits_in(free), "{} is full", pod.node);
                *free = free.minus(&needs.requests);
                bound.insert(pod.pod.uid.clone(), (pod.node.clone(), needs.requests));
            }
            Fact::PodRemoved(gone) => {
                if let Some((node, requests)) = bound.remove(&gone.pod.uid)
                    && let Some((_, free)) = nodes.get_mut(&node)
                {
                    *free = free.plus(&requests);
                }
            }
            Fact::ScalerObserved(scaler) => {
                assert!((scaler.min..=scaler.max).contains(&scaler.desired));
            }
            _ => {}
        }
    }
}

#[test]
fn load_becomes_replicas_pods_nodes_and_pulls() {
    let (signals, summary) = composed(SMALL, 1).unwrap();
    assert_sound(&signals);
    // 2400 at 65 of 100 each are 37 pods of one CPU; a node of 7.9 takes 7: at least 5 more nodes.
    assert!(summary.nodes_joined >= 4, "{summary:?}");
    // On each of them some that had found no room, beside the DaemonSet's.
    assert!(
        summary.pods_on_new_nodes > 2 * summary.nodes_joined,
        "{summary:?}"
    );
    assert!(
        summary.pulls_on_new_nodes >= summary.nodes_joined,
        "{summary:?}"
    );
    let truth = signals.iter().filter(|signal| signal.truth);
    for signal in truth {
        assert!(matches!(
            signal.fact,
            Fact::PodStarted(_) | Fact::ImagePulled(_)
        ));
    }
}

#[test]
fn the_same_spec_and_seed_give_the_same_file_and_another_seed_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str, seed: u64| {
        let file = Path::new("small.toml");
        let spec = parse(file, SMALL).unwrap();
        let cast = cast(&spec, file, Some(seed)).unwrap();
        let out = folder.path().join(name);
        write(&spec, &cast, &out, |_| {}).unwrap();
        std::fs::read(out).unwrap()
    };
    assert_eq!(bytes("a.jsonl.gz", 3), bytes("b.jsonl.gz", 3));
    assert_ne!(bytes("a.jsonl.gz", 3), bytes("c.jsonl.gz", 4));
}

#[test]
fn karpenter_names_its_claims_and_nodes_answer_to_them() {
    let text = SMALL.replace(
        "[pools.general]",
        "[autoscaler]\nkind = \"karpenter\"\n[pools.general]",
    );
    let (signals, summary) = composed(&text, 1).unwrap();
    assert_sound(&signals);
    assert!(summary.nodes_joined >= 4, "{summary:?}");
    let requested: BTreeSet<&String> = signals
        .iter()
        .filter_map(|signal| match &signal.fact {
            Fact::NodeRequested(requested) => requested.request.as_ref(),
            _ => None,
        })
        .collect();
    let start: Timestamp = "2026-03-02T08:00:00Z".parse().unwrap();
    for signal in signals.iter().filter(|signal| signal.observedtime > start) {
        if let Fact::NodeJoined(joined) = &signal.fact {
            assert!(
                requested.contains(joined.request.as_ref().unwrap()),
                "{}",
                joined.node
            );
        }
    }
}

#[test]
fn every_contradiction_is_listed_with_its_key_and_mend() {
    let text = SMALL
        .replace("max = 60", "max = 1")
        .replace("container = \"front\"", "container = \"back\"")
        .replace("requests = { cpu = 2,", "requests = { cpu = 200,")
        .replace("image = \"r.example/log:1\"", "image = \"r.example/log:9\"")
        .replace("per_replica = 100", "per_replica = -1")
        + "[[events]]\nat = \"5m\"\nkind = \"spot-reclaim\"\npool = \"nowhere\"\nshare = 0.5\n\
           [[events]]\nat = \"6m\"\nkind = \"zone-outage\"\nzone = \"region-9z\"\nfor = \"5m\"\n";
    let found = faults(&text);
    let keys: Vec<&str> = found.iter().map(|fault| fault.key.as_str()).collect();
    for key in [
        "workloads[0].hpa.min",
        "workloads[0].rollouts[0].container",
        "workloads[0].load.per_replica",
        "workloads[1].containers[0].image",
        "workloads[2].containers",
        "events[0].pool",
        "events[1].zone",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
    assert!(
        found
            .iter()
            .all(|fault| !fault.reason.is_empty() && !fault.mend.is_empty())
    );
}

#[test]
fn a_pod_whose_image_has_no_architecture_of_its_pools_is_refused() {
    let image = "[images.\"r.example/front:1\"]\narchs = [\"amd64\", \"arm64\"]";
    let text = SMALL.replace(image, "[images.\"r.example/front:1\"]\narchs = [\"amd64\"]");
    let found = faults(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].reason.contains("no arm64 in r.example/front:1"),
        "{found:?}"
    );
}

#[test]
fn a_recorded_scenario_is_not_composed() {
    let text = "name = \"a\"\nstory = \"\"\nlicence = \"\"\n[recorded]\nby = \"forelay import\"\n";
    let error = composed(text, 1).unwrap_err().to_string();
    assert!(error.contains("made by `forelay import`"), "{error}");
}

#[test]
fn a_table_with_holes_is_played_and_one_with_text_is_refused_with_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("load.csv");
    let spec = SMALL.replace(
        "points = [[\"0s\", 300], [\"4m\", 2400], [\"15m\", 2400], [\"18m\", 300]]",
        &format!("file = {table:?}\ntime = \"ts\"\nvalue = \"v\"\nhole_max = \"20m\""),
    );
    std::fs::write(
        &table,
        "ts,v\n0,300\n60,300\n120,\n180,NaN\n240,2400\n1000,300\n1900,300\n",
    )
    .unwrap();
    let (_, summary) = composed(&spec, 1).unwrap();
    assert!(summary.nodes_joined > 0, "{summary:?}");
    std::fs::write(&table, "ts,v\n0,300\n60,many\n1900,300\n").unwrap();
    let found = faults(&spec);
    assert_eq!(found[0].key, "workloads[0].load");
    assert!(found[0].reason.contains("row 2, column `v`"), "{found:?}");
}

#[test]
fn reclaims_outages_failures_and_drains_take_nodes_and_pods_come_back() {
    let text = SMALL.to_owned()
        + "[[events]]\nat = \"8m\"\nkind = \"spot-reclaim\"\npool = \"arm\"\nshare = 1.0\nhint = \"2m\"\n\
           [[events]]\nat = \"9m\"\nkind = \"zone-outage\"\nzone = \"region-1b\"\nfor = \"8m\"\n\
           [[events]]\nat = \"10m\"\nkind = \"node-failure\"\npool = \"general\"\ncount = 1\n\
           [[events]]\nat = \"11m\"\nkind = \"drain\"\npool = \"general\"\ncount = 2\n\
           [[events]]\nat = \"2m\"\nkind = \"buffer\"\nname = \"spare\"\ncount = 5\nworkload = \"Deployment/default/front\"\nfor = \"10m\"\n";
    let (signals, _) = composed(&text, 2).unwrap();
    assert_sound(&signals);
    let removed = signals
        .iter()
        .filter(|signal| matches!(&signal.fact, Fact::NodeRemoved(gone) if gone.node.is_some()));
    assert!(removed.count() >= 4);
    let last = signals.iter().rev().find_map(|signal| match &signal.fact {
        Fact::ScalerObserved(scaler) => Some(scaler.clone()),
        _ => None,
    });
    // At the end the load of 300 is carried: 300 / 65 are 5 pods, within the tolerance.
    assert!((4..=7).contains(&last.unwrap().current));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_cluster_its_scenario_is_sound(
        seed in 0u64..1000,
        cpu in 2u32..16,
        memory in 4u32..40,
        ask in 200u32..1900,
        peak in 500u32..4000,
        karpenter in any::<bool>(),
        hard in any::<bool>(),
        pulls in 1u32..4,
    ) {
        let kind = if karpenter { "karpenter" } else { "cluster-autoscaler" };
        let text = SMALL
            .replace(
                "[pools.general]\n",
                &format!("[autoscaler]\nkind = \"{kind}\"\nunneeded = \"2m\"\ndelay_after_add = \"1m\"\n\
                          [pools.general]\ncpu = {cpu}\nmemory = \"{memory}Gi\"\npulls = {pulls}\n"),
            )
            .replace("requests = { cpu = 1, memory = \"2Gi\" }", &format!(
                "requests = {{ cpu = \"{ask}m\", memory = \"1Gi\" }}\nspread = [{{ over = \"zone\", hard = {hard} }}]"
            ))
            .replace("2400", &peak.to_string());
        let (signals, _) = composed(&text, seed).unwrap();
        assert_sound(&signals);
    }
}
