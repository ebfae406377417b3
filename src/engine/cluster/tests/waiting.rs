//! To which nodes pods are expected to come that wait already.

use super::build::*;
use crate::domain::plan::{Reason, Target};
use crate::domain::signal::{Fact, PodNominated, Signal};
use crate::domain::workload::PodNeeds;

fn web() -> PodNeeds {
    needs(1000, &["web"])
}

fn nominated(at: u64, name: &str, request: &str) -> Signal {
    let fact = PodNominated {
        pod: pod(name),
        node: None,
        request: Some(request.into()),
    };
    signal(at, Fact::PodNominated(fact))
}

fn claimant(at: u64, node: &str, request: &str) -> Signal {
    let mut join = joined(at, node, "general");
    if let Fact::NodeJoined(node) = &mut join.fact {
        node.request = Some(request.into());
    }
    join
}

#[test]
fn a_pod_that_comes_in_place_of_another_of_its_kind_keeps_that_ones_promise() {
    let mut cluster = fed(&[
        resolved(0, "web", 500),
        claimed(1, "general", "claim-1", None),
        claimed(1, "general", "claim-2", None),
        pending(2, "a", "Deployment/shop/web", &web()),
        pending(2, "b", "Deployment/shop/web", &web()),
        nominated(3, "a", "claim-1"),
        nominated(3, "b", "claim-2"),
        claimant(30, "n2", "claim-2"),
        ready(40, "n2"),
    ]);
    feed(
        &mut cluster,
        &[bound(41, "a", "Deployment/shop/web", "n2", &web())],
    );
    assert!(cluster.save(at(41)).contains(r#""promises":[1.0,0.0]"#));
    // The one that still waits is expected where the other one was.
    feed(&mut cluster, &[claimant(50, "n1", "claim-1")]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    let reasons: Vec<&Reason> = plan.entries.iter().map(|entry| &entry.reason).collect();
    assert_eq!(reasons, [&Reason::Nominated("shop/b".into())]);
}

#[test]
fn pods_whose_nominations_never_hold_are_expected_on_any_coming_node() {
    let mut signals = vec![
        resolved(0, "web", 500),
        joined(0, "n0", "general"),
        claimed(1, "general", "claim-0", None),
    ];
    for n in 0..40 {
        let name = format!("old-{n}");
        signals.push(pending(2, &name, "Deployment/shop/old", &web()));
        signals.push(nominated(3, &name, "claim-0"));
        signals.push(bound(4, &name, "Deployment/shop/old", "n0", &web()));
        signals.push(pod_removed(5, &name));
    }
    signals.extend([
        pending(1001, "a", "Deployment/shop/web", &web()),
        claimed(1002, "general", "claim-1", None),
        nominated(1003, "a", "claim-1"),
        joined(1060, "n1", "general"),
        claimant(1061, "n2", "claim-1"),
    ]);
    let cluster = fed(&signals);
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
    // It would have stayed with n2 alone, had the earlier ones come where they were nominated to.
    let again = cluster.save(at(1061));
    assert!(again.contains("promises"), "{again}");
}

#[test]
fn who_waits_for_a_coming_node_is_no_reason_to_touch_one_that_serves() {
    let plan = |asked: Option<u64>| {
        let mut signals = vec![
            resolved(0, "web", 500),
            joined(0, "n0", "general"),
            ready(1, "n0"),
            bound(2, "full", "Deployment/shop/db", "n0", &needs(7900, &["db"])),
        ];
        for n in 0..4 {
            let name = format!("a{n}");
            signals.push(pending(2001, &name, "Deployment/shop/web", &web()));
        }
        signals.extend(asked.map(|at| requested(at, "general", 2)));
        signals.sort_by_key(|signal| signal.observedtime);
        let mut cluster = cluster();
        for signal in &signals {
            feed(&mut cluster, std::slice::from_ref(signal));
        }
        node_plan(&cluster, "n0")
    };
    assert_eq!(plan(None), ["web"]);
    for asked in [2000, 2005] {
        assert!(plan(Some(asked)).is_empty(), "asked for at {asked}");
    }
}
