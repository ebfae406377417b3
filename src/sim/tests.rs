//! Played worlds give the times that can be worked out by hand.

pub mod build;
mod policies;
mod remaining;

use proptest::prelude::*;

use crate::domain::scenario::Header;
use crate::domain::signal::{Fact, ImagePulled, NodeRemoved, Signal};
use crate::domain::workload::PodRef;
use crate::forecast::model::Model;
use crate::sim::agent::Schedule;
use crate::sim::calibrate::{calibrate, modelled_wait, with_links_scaled};
use crate::sim::facts::Facts;
use crate::sim::policy::{Policy, Replay, replay};
use crate::sim::score::{Tally, quantile};
use crate::sim::tests::build::{AGENT_START, Build, LINK, OVERHEAD, UNPACK, at, image_name, secs};
use crate::sim::world::{Mover, Notes, Planner, Stage, World};

pub fn play(header: &Header, signals: &[Signal], planner: Planner) -> (Facts, Notes) {
    let facts = Facts::gather(header, signals).unwrap();
    let stage = Stage::new(header, &facts, signals);
    let notes = World::new(stage, planner).run();
    (facts, notes)
}

/// Seconds from the start at which each pod had its images, under the kubelet alone.
fn reactive(build: Build) -> Vec<f64> {
    let (header, signals) = build.done();
    let (_, notes) = play(&header, &signals, Planner::Nobody);
    notes
        .pods
        .iter()
        .map(|pod| secs(pod.unwrap().ready))
        .collect()
}

pub fn close(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-4, "{left} is not {right}");
}

#[test]
fn a_pull_is_overhead_then_transfer_then_unpacking() {
    let ready = reactive(
        Build::new()
            .image(1, &[(1, 1000)])
            .node("a", 10.0, 20.0)
            .pod("p", "a", 30.0, &[1]),
    );
    close(ready[0], 30.0 + OVERHEAD + 1000.0 / LINK + 1000.0 / UNPACK);
}

#[test]
fn layers_are_a_flow_shop_each_unpacked_after_its_own_bytes_and_the_layer_below() {
    let ready = reactive(
        Build::new()
            .image(1, &[(1, 300), (2, 600)])
            .node("a", 10.0, 20.0)
            .pod("p", "a", 30.0, &[1]),
    );
    // Both share the link until the first is whole: 300 bytes at half the rate, then 300 at the
    // full one. Unpacking the first (300 / 50 = 6 s) ends before the second is whole? No: after.
    let first = 300.0 / (LINK / 2.0);
    let second = first + 300.0 / LINK;
    let unpacked = (first + 300.0 / UNPACK).max(second) + 600.0 / UNPACK;
    close(ready[0], 30.0 + OVERHEAD + unpacked);
}

#[test]
fn no_more_than_three_layers_of_a_pull_are_in_transfer_at_once() {
    let mut build = Build::new().image(1, &[(1, 300), (2, 300), (3, 300), (4, 300)]);
    build.world().unpack.0 = 0.0;
    let ready = reactive(build.node("a", 10.0, 20.0).pod("p", "a", 30.0, &[1]));
    let three = 300.0 / (LINK / 3.0);
    close(ready[0], 30.0 + OVERHEAD + three + 300.0 / LINK);
}

#[test]
fn pulls_of_a_node_are_served_one_after_the_other_and_shared_layers_travel_once() {
    let build = Build::new()
        .image(1, &[(1, 500), (2, 100)])
        .image(2, &[(1, 500), (3, 200)]);
    let ready = reactive(build.node("a", 10.0, 20.0).pod("p", "a", 30.0, &[1]).pod(
        "q",
        "a",
        30.0,
        &[2],
    ));
    let second = OVERHEAD + 200.0 / LINK + 200.0 / UNPACK;
    close(ready[1], ready[0] + second);
}

#[test]
fn a_pull_that_finds_nothing_missing_costs_its_overhead() {
    let build = Build::new().image(1, &[(1, 500)]);
    let ready = reactive(build.node("a", 10.0, 20.0).pod("p", "a", 30.0, &[1]).pod(
        "q",
        "a",
        31.0,
        &[1],
    ));
    close(ready[1], ready[0] + OVERHEAD);
}

#[test]
fn a_pod_whose_images_are_there_is_warm() {
    let build = Build::new().image(1, &[(1, 500)]);
    let (header, signals) = build
        .node("a", 10.0, 20.0)
        .pod("p", "a", 30.0, &[1])
        .pod("q", "a", 200.0, &[1])
        .done();
    let (facts, notes) = play(&header, &signals, Planner::Nobody);
    assert!(!notes.pods[0].unwrap().warm);
    assert!(notes.pods[1].unwrap().warm);
    assert_eq!(Tally::of(&facts, &notes).warm_pods, 1);
}

#[test]
fn nodes_that_exist_at_the_start_hold_their_pods_images_and_are_not_scored() {
    let build = Build::new().image(1, &[(1, 500)]).image(2, &[(2, 500)]);
    let (header, signals) = build
        .node("a", 0.0, 0.0)
        .pod("p", "a", 0.0, &[1])
        .pod("q", "a", 30.0, &[1])
        .pod("r", "a", 30.0, &[2])
        .done();
    let (facts, notes) = play(&header, &signals, Planner::Nobody);
    assert_eq!(notes.pods[0], None, "it ran before");
    assert!(notes.pods[1].unwrap().warm);
    let tally = Tally::of(&facts, &notes);
    assert!(tally.waits_s.is_empty());
    assert_eq!(tally.needed_bytes, 500.0);
}

pub fn list(images: &[u32]) -> Planner {
    let schedule = Schedule {
        images: images.to_vec(),
        concurrency: 4,
        yields: false,
    };
    Planner::Listed([(0, schedule)].into())
}

#[test]
fn an_agent_unpacks_while_bytes_arrive_at_one_cores_rate_per_stream() {
    let build = Build::new().image(1, &[(1, 500)]);
    let (header, signals) = build
        .node("a", 10.0, 20.0)
        .pod("p", "a", 100.0, &[1])
        .done();
    let (facts, notes) = play(&header, &signals, list(&[0]));
    let span = notes.spans[0];
    assert_eq!(span.mover, Mover::Agent);
    close(secs(span.from), 10.0 + AGENT_START);
    close(secs(span.to), 10.0 + AGENT_START + 500.0 / UNPACK);
    assert!(notes.pods[0].unwrap().warm);
    assert_eq!(Tally::of(&facts, &notes).wait_s(), 0.0);
}

#[test]
fn a_layer_that_the_agent_is_fetching_is_joined_by_the_kubelet() {
    let build = Build::new().image(1, &[(1, 1000)]);
    let (header, signals) = build.node("a", 10.0, 20.0).pod("p", "a", 20.0, &[1]).done();
    let (facts, notes) = play(&header, &signals, list(&[0]));
    let whole = 10.0 + AGENT_START + 1000.0 / UNPACK;
    close(secs(notes.pods[0].unwrap().ready), whole);
    let tally = Tally::of(&facts, &notes);
    assert_eq!(tally.node_bytes, 1000.0, "it travelled once");
}

#[test]
fn bytes_that_no_pod_of_the_node_uses_in_time_are_wasted() {
    let build = Build::new()
        .image(1, &[(1, 500)])
        .image(2, &[(1, 500), (2, 70)])
        .node("a", 10.0, 20.0)
        .node("b", 10.0, 20.0)
        .pod("p", "a", 100.0, &[1])
        .pod("q", "b", 100.0, &[2]);
    let (header, signals) = build.done();
    let (facts, notes) = play(&header, &signals, list(&[0, 1]));
    let tally = Tally::of(&facts, &notes);
    assert_eq!(tally.wasted_bytes, 70.0);
    assert_eq!(tally.needed_bytes, 500.0 + 570.0);
    let score = tally.score(0.0, 0.0);
    assert_eq!(score.gain, None, "nobody would have waited");
    assert_eq!(score.waste_node, Some(0.065_421));
}

#[test]
fn a_node_that_goes_takes_its_agents_transfers_with_it() {
    let build = Build::new().image(1, &[(1, 1000)]);
    let mut build = build.node("a", 10.0, 20.0).pod("p", "a", 500.0, &[1]);
    let removed = NodeRemoved {
        node: Some("a".into()),
        ..NodeRemoved::default()
    };
    build.push(16.0, Fact::NodeRemoved(removed), false);
    let (header, signals) = build.done();
    let (facts, notes) = play(&header, &signals, list(&[0]));
    close(secs(notes.spans[0].to), 16.0);
    close(Tally::of(&facts, &notes).wasted_bytes, UNPACK);
}

#[test]
fn a_blob_comes_from_the_origin_once_for_all_nodes() {
    // Sizes far above what the network takes as "caught up".
    let link = LINK * 1e6;
    let mut build = Build::new().image(1, &[(1, 1_000_000_000)]);
    build.header.shared.origin.0 = link / 4.0;
    build.world().link.0 = link;
    build.world().unpack.0 = 0.0;
    let (header, signals) = build
        .node("a", 10.0, 20.0)
        .node("b", 10.0, 20.0)
        .pod("p", "a", 30.0, &[1])
        .pod("q", "b", 60.0, &[1])
        .done();
    let (facts, notes) = play(&header, &signals, Planner::Cache);
    assert_eq!(Tally::of(&facts, &notes).origin_bytes, 1e9);
    // The first reader moves at the origin's rate. The second begins 30 s later, catches up at
    // its own, then both end with the last byte from the origin.
    let arrived = 30.0 + OVERHEAD + 1e9 / (link / 4.0);
    for pod in 0..2 {
        let ready = secs(notes.pods[pod].unwrap().ready);
        assert!((ready - arrived).abs() < 0.01, "{ready} is not {arrived}");
    }
}

#[test]
fn calibration_finds_the_link_that_the_recording_had() {
    let build = |link: f64| {
        let mut build = Build::new()
            .image(1, &[(1, 700), (2, 300)])
            .image(2, &[(1, 700), (3, 900)]);
        build.world().link.0 = link;
        build
            .node("a", 10.0, 20.0)
            .pod("p", "a", 12.0, &[1])
            .pod("q", "a", 30.0, &[2])
    };
    let (header, signals) = build(LINK).done();
    let (facts, notes) = play(&header, &signals, Planner::Nobody);
    let mut recording = build(LINK * 3.0);
    for (pod, fact) in facts.pods.iter().enumerate() {
        let pulled = ImagePulled {
            node: "a".into(),
            pod: PodRef {
                name: fact.name.clone(),
                uid: fact.uid.clone(),
            },
            container: None,
            image: image_name(1),
            size: None,
            pull_s: 1.0,
            waiting_s: 1.0,
            present: false,
        };
        let ready = secs(notes.pods[pod].unwrap().ready);
        recording.push(ready, Fact::ImagePulled(pulled), true);
    }
    let (header, signals) = recording.done();
    let found = calibrate(&header, &signals).unwrap().unwrap();
    assert!((found.factor - 1.0 / 3.0).abs() < 1e-3, "{found:?}");
    let scaled = with_links_scaled(&header, found.factor);
    let facts = Facts::gather(&scaled, &signals).unwrap();
    let modelled = modelled_wait(&scaled, &facts);
    assert!((modelled - found.recorded_s).abs() < 0.01 * modelled);
}

#[test]
fn a_quantile_is_the_nearest_rank() {
    let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(quantile(&values, 0.5), Some(50.0));
    assert_eq!(quantile(&values, 0.99), Some(99.0));
    assert_eq!(quantile(&[7.0], 0.1), Some(7.0));
    assert_eq!(quantile(&[], 0.5), None);
}

/// Random small scenarios: a few nodes, images that share layers, pods bound around Ready.
fn scenarios() -> impl Strategy<Value = (Header, Vec<Signal>)> {
    let images = prop::collection::vec(prop::collection::vec(1u8..12, 1..5), 1..6);
    let sizes = prop::collection::vec(1u64..3000, 12);
    let pod = (
        0usize..3,
        0.0f64..60.0,
        prop::collection::vec(0usize..6, 1..4),
    );
    let pods = prop::collection::vec(pod, 1..10);
    (images, sizes, pods, 0u8..2).prop_map(|(images, sizes, pods, narrow)| {
        let mut build = Build::new();
        if narrow == 1 {
            build.header.shared.cache_uplink.0 = 1.5 * LINK;
            build.header.shared.origin.0 = 0.8 * LINK;
        }
        for (image, layers) in images.iter().enumerate() {
            let layers: Vec<(u8, u64)> = layers
                .iter()
                .map(|layer| (*layer, sizes[usize::from(*layer)]))
                .collect();
            build = build.image(image as u8, &layers);
        }
        for node in 0..3u8 {
            let joined = 10.0 + f64::from(node);
            build = build.node(&format!("n{node}"), joined, joined + 10.0);
        }
        for (number, (node, after, uses)) in pods.iter().enumerate() {
            let uses: Vec<u8> = uses.iter().map(|n| (n % images.len()) as u8).collect();
            let node = format!("n{node}");
            build = build.pod(&format!("p{number}"), &node, 15.0 + after, &uses);
        }
        build.done()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_beats_the_oracle_and_every_pod_gets_its_images(scenario in scenarios()) {
        let (header, signals) = scenario;
        let replay: Replay =
            replay(&header, &signals, &Policy::ALL, &Model::default(), |_| {}).unwrap();
        let oracle = replay.runs[&Policy::Oracle].tally.wait_s();
        for (policy, run) in &replay.runs {
            prop_assert!(run.tally.wait_s() >= oracle, "{policy} beats the oracle");
            prop_assert!(run.notes.pods.iter().all(Option::is_some));
            let least: f64 = run.tally.needed_bytes;
            prop_assert!(run.tally.node_bytes >= least - 1.0, "bytes out of nothing");
            prop_assert!(run.tally.wasted_bytes <= run.tally.node_bytes);
        }
    }
}

proptest! {
    #[test]
    fn no_layer_travels_twice_to_a_node_and_no_link_is_overfull(scenario in scenarios()) {
        let (header, signals) = scenario;
        let facts = Facts::gather(&header, &signals).unwrap();
        let all: Vec<u32> = (0..facts.catalogue.images.len() as u32).collect();
        let (facts, notes) = play(&header, &signals, list(&all));
        let mut moved = std::collections::BTreeMap::<(usize, u32), f64>::new();
        for span in &notes.spans {
            *moved.entry((span.node, span.layer)).or_default() += span.bytes;
        }
        for ((_, layer), bytes) in moved {
            prop_assert!(bytes <= facts.bytes(layer) + 1.0);
        }
        for node in 0..facts.nodes.len() {
            let spans = notes.spans.iter().filter(|span| span.node == node);
            let from = spans.clone().map(|span| span.from).min();
            let to = spans.clone().map(|span| span.to).max();
            if let (Some(from), Some(to)) = (from, to) {
                let bytes: f64 = spans.map(|span| span.bytes).sum();
                prop_assert!(bytes <= LINK * (to.secs_since(from) + 1e-3));
            }
        }
        prop_assert!(notes.pods.iter().flatten().all(|pod| pod.ready >= at(10.0)));
    }
}
