//! What each policy sends in worlds small enough to say it beforehand.

use std::time::Duration;

use super::build::{AGENT_START, Build, LINK, OVERHEAD, UNPACK, at, image_name, secs};
use super::{close, play};
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{Fact, PodWanted, Workload};
use crate::domain::workload::{ImageRole, ImageUse, PodNeeds, PodRef, WorkloadRef};
use crate::forecast::model::Model;
use crate::sim::agent::Schedule;
use crate::sim::facts::Facts;
use crate::sim::perturb::Trouble;
use crate::sim::policy::{Policy, Replay, Run, Setting, replay_in, run};
use crate::sim::world::{Mover, Planner, Rules, Stage};

fn needs(images: &[u8]) -> PodNeeds {
    let uses = images.iter().map(|image| ImageUse {
        image: image_name(*image),
        container: format!("c{image}"),
        role: ImageRole::Main,
        always_pull: false,
    });
    PodNeeds {
        images: uses.collect(),
        ..PodNeeds::default()
    }
}

fn under(build: Build, policy: Policy) -> (Facts, Run) {
    let (header, signals) = build.done();
    let facts = Facts::gather(&header, &signals).unwrap();
    let stage = Stage::new(&header, &facts, &signals);
    let run = run(stage, policy, &Model::default());
    (facts, run)
}

/// Layers that agents brought, by node, each once.
fn sent(facts: &Facts, run: &Run) -> Vec<(String, u32)> {
    let by_agent = run.notes.spans.iter().filter(|s| s.mover == Mover::Agent);
    let sent = by_agent.map(|span| (facts.nodes[span.node].name.clone(), span.layer));
    let mut sent: Vec<(String, u32)> = sent.collect();
    sent.sort();
    sent
}

/// Node `old` ran image 1 twice and image 2 once before the start; `new` joins and will run image 2.
fn old_and_new() -> Build {
    let build = Build::new()
        .image(1, &[(1, 500)])
        .image(2, &[(2, 300)])
        .image(3, &[(3, 200)]);
    build
        .node("old", 0.0, 0.0)
        .pod("a", "old", 0.0, &[1])
        .pod("b", "old", 0.0, &[1])
        .pod("c", "old", 0.0, &[2])
        .node("new", 10.0, 20.0)
        .pod("d", "new", 100.0, &[2])
}

#[test]
fn reactive_pulls_once_per_node_from_the_origin_and_reactive_cache_once_for_all() {
    let build = || {
        let mut build = Build::new().image(1, &[(1, 1000)]);
        build.header.shared.origin.0 = LINK;
        build.world().unpack.0 = 0.0;
        build
            .node("a", 10.0, 20.0)
            .node("b", 10.0, 20.0)
            .pod("p", "a", 30.0, &[1])
            .pod("q", "b", 30.0, &[1])
    };
    let (_, direct) = under(build(), Policy::Reactive);
    assert_eq!(
        (direct.notes.origin_bytes, direct.notes.cache_bytes),
        (2000.0, 0.0)
    );
    let ready = secs(direct.notes.pods[0].unwrap().ready);
    close(ready, 30.0 + OVERHEAD + 2000.0 / LINK);
    let (_, cached) = under(build(), Policy::ReactiveCache);
    assert_eq!(
        (cached.notes.origin_bytes, cached.notes.cache_bytes),
        (1000.0, 2000.0)
    );
    let ready = secs(cached.notes.pods[0].unwrap().ready);
    // To within what the network takes as caught up: all of so small a blob.
    assert!(ready <= 30.0 + OVERHEAD + 1000.0 / LINK + 0.01, "{ready}");
}

#[test]
fn static_sends_what_ran_at_the_start_to_every_node_and_nothing_that_did_not() {
    let (facts, run) = under(old_and_new(), Policy::Static);
    let sent = sent(&facts, &run);
    assert_eq!(sent, [("new".to_owned(), 0), ("new".to_owned(), 1)]);
    assert_eq!(run.tally.wasted_bytes, 500.0, "nobody runs image 1 there");
    assert_eq!(run.tally.warm_pods, 1);
}

#[test]
fn last_n_sends_what_was_started_last_first() {
    let (_, run) = under(old_and_new(), Policy::LastN);
    let by_agent = run.notes.spans.iter().filter(|s| s.mover == Mover::Agent);
    let first = by_agent.clone().min_by_key(|span| span.from).unwrap();
    assert_eq!(by_agent.count(), 2);
    assert_eq!(first.layer, 1, "image 2 was started after image 1");
}

#[test]
fn oracle_images_sends_each_node_what_its_pods_need_and_no_byte_more() {
    let (facts, run) = under(old_and_new(), Policy::OracleImages);
    assert_eq!(sent(&facts, &run), [("new".to_owned(), 1)]);
    assert_eq!(run.tally.wasted_bytes, 0.0);
    close(secs(run.notes.spans[0].from), 10.0 + AGENT_START);
}

#[test]
fn daemonsets_sends_images_of_daemonsets_and_no_others() {
    let mut build = old_and_new();
    let set = Workload {
        workload: WorkloadRef {
            kind: "DaemonSet".into(),
            namespace: "kube-system".into(),
            name: "logs".into(),
        },
        needs: needs(&[3]),
        replicas: 0,
        updated: 0,
        surge: 0,
        schedule: None,
        time_zone: None,
        idle: false,
    };
    build.push(0.0, Fact::WorkloadApplied(set), false);
    let (facts, run) = under(build, Policy::Daemonsets);
    let to_new: Vec<_> = sent(&facts, &run);
    assert!(
        to_new
            .iter()
            .any(|(node, layer)| node == "new" && *layer == 2)
    );
    assert!(to_new.iter().all(|(_, layer)| *layer == 2), "{to_new:?}");
}

#[test]
fn decayed_sends_what_earlier_nodes_of_the_pool_ran() {
    let mut build = Build::new().image(1, &[(1, 500)]).image(2, &[(2, 300)]);
    for node in ["a", "b", "c"] {
        build = build.node(node, 10.0, 20.0);
        build = build.pod(&format!("on-{node}"), node, 25.0, &[1]);
    }
    let build = build
        .node("late", 300.0, 320.0)
        .pod("p", "late", 400.0, &[1]);
    let (facts, run) = under(build, Policy::Decayed);
    assert!(sent(&facts, &run).contains(&("late".to_owned(), 0)));
}

/// A pod is pending from 1 s on; its node joins at 10 s, and takes it at 100 s.
fn pending() -> Build {
    let mut build = Build::new()
        .image(1, &[(1, 500)])
        .node("a", 10.0, 20.0)
        .pod("p", "a", 100.0, &[1]);
    let wanted = PodWanted {
        pod: PodRef {
            name: "default/p".into(),
            uid: "uid-p".into(),
        },
        owner: None,
        needs: needs(&[1]),
        unschedulable: true,
    };
    build.push(1.0, Fact::PodPending(wanted), false);
    build
}

#[test]
fn pending_only_and_forelay_send_what_a_waiting_pod_needs() {
    for policy in [Policy::PendingOnly, Policy::Forelay] {
        let (facts, run) = under(pending(), policy);
        assert_eq!(sent(&facts, &run), [("a".to_owned(), 0)], "{policy}");
        assert_eq!(run.tally.warm_pods, 1, "{policy}");
        let recall = run.tally.recall;
        assert_eq!((recall.needed, recall.at_node), (500.0, 500.0), "{policy}");
        assert_eq!(recall.in_time, 500.0, "{policy}");
        let calibration = run.tally.forecasts.calibration().unwrap();
        assert_eq!(calibration.pairs, 1, "{policy}");
    }
}

#[test]
fn doubled_signals_are_refused_and_change_nothing() {
    let (header, signals) = pending().done();
    let played = |duplicate: f64| -> Replay {
        let trouble = Trouble {
            duplicate,
            ..Trouble::default()
        };
        let setting = Setting {
            trouble,
            ..Setting::default()
        };
        replay_in(&header, &signals, &[Policy::Forelay], &setting, |_| {}).unwrap()
    };
    let (once, twice) = (played(0.0), played(1.0));
    let tally = |replay: &Replay| replay.runs[&Policy::Forelay].tally.clone();
    assert_eq!(tally(&once), tally(&twice));
}

#[test]
fn a_controller_that_takes_over_plans_what_the_dead_one_did_not_live_to() {
    let (header, signals) = pending().done();
    // It dies before the node joins, and is back (15 s later) before the pod is bound.
    let setting = Setting {
        restart_after: Some(Duration::from_secs(5)),
        ..Setting::default()
    };
    let replay = replay_in(&header, &signals, &[Policy::Forelay], &setting, |_| {}).unwrap();
    let run = &replay.runs[&Policy::Forelay];
    assert_eq!(run.tally.warm_pods, 1);
    let span = run.notes.spans[0];
    assert!(span.from >= at(20.0), "nobody planned before the takeover");
}

#[test]
fn kubelets_that_pull_in_parallel_let_a_small_image_pass_a_large_one() {
    let build = Build::new().image(1, &[(1, 5000)]).image(2, &[(2, 100)]);
    let (header, signals) = build
        .node("a", 10.0, 20.0)
        .pod("p", "a", 30.0, &[1])
        .pod("q", "a", 30.0, &[2])
        .done();
    let facts = Facts::gather(&header, &signals).unwrap();
    let ready = |pulls: usize| {
        let mut stage = Stage::new(&header, &facts, &[]);
        stage.rules = Rules {
            pulls,
            ..Rules::default()
        };
        let run = run(stage, Policy::Reactive, &Model::default());
        secs(run.notes.pods[1].unwrap().ready)
    };
    let large = OVERHEAD + 5000.0 / LINK + 5000.0 / UNPACK;
    close(
        ready(1),
        30.0 + large + OVERHEAD + 100.0 / LINK + 100.0 / UNPACK,
    );
    // Half the link for 100 bytes, then one core of its own.
    close(ready(5), 30.0 + OVERHEAD + 200.0 / LINK + 100.0 / UNPACK);
}

#[test]
fn an_agent_begins_nothing_that_nobody_waits_for_while_the_kubelet_pulls() {
    let build = Build::new().image(1, &[(1, 5000)]).image(2, &[(2, 100)]);
    let (header, signals) = build
        .node("a", 10.0, 20.0)
        .pod("p", "a", 12.0, &[1])
        .pod("q", "a", 900.0, &[2])
        .done();
    let schedule = Schedule {
        images: vec![1],
        concurrency: 4,
        yields: true,
    };
    let (_, notes) = play(&header, &signals, Planner::Listed([(0, schedule)].into()));
    let pulled = notes.pods[0].unwrap().ready;
    let sent = notes
        .spans
        .iter()
        .find(|s| s.mover == Mover::Agent)
        .unwrap();
    assert!(sent.from >= pulled, "{sent:?}");
}

#[test]
fn an_agent_fills_no_more_of_a_disk_than_there_is() {
    for policy in [Policy::Static, Policy::LastN, Policy::OracleImages] {
        let mut build = old_and_new();
        build.world().disk = ByteSize(600);
        let (_, run) = under(build, policy);
        assert!(run.tally.agent_bytes <= 600.0, "{policy}");
    }
}

#[test]
fn an_agents_start_is_drawn_around_the_median_and_the_same_for_every_policy() {
    let mut build = Build::new().image(1, &[(1, 500)]);
    build.world().agent_start_sigma = 0.5;
    let count = 201;
    for node in 0..count {
        build = build.node(&format!("n{node}"), 10.0, 20.0);
    }
    let (header, signals) = build.done();
    let starts = || -> Vec<f64> {
        let facts = Facts::gather(&header, &signals).unwrap();
        let mut starts: Vec<f64> = facts.nodes.iter().map(|n| n.world.agent_start_s).collect();
        starts.sort_by(f64::total_cmp);
        starts
    };
    assert_eq!(starts(), starts());
    // The median of 201 draws lies within four standard errors: exp(4 * 1.25 * 0.5 / sqrt(201)).
    let middle = starts()[count / 2] / AGENT_START;
    assert!((0.83..1.2).contains(&middle), "{middle}");
    assert!(starts()[0] < starts()[count - 1]);
}
