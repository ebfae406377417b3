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

/// 150 times two kinds waited, one ten seconds longer than the other, and the older or the younger one was
/// bound first; now eight pods of each wait, as many as a node holds, the young ones for so much shorter, and
/// two nodes come.
fn plans_after(older_first: bool, apart: u64) -> (Vec<String>, Vec<String>) {
    let mut cluster = fed(&[
        resolved(0, "old", 500),
        resolved(0, "young", 500),
        joined(0, "n0", "general"),
        ready(1, "n0"),
    ]);
    let kind = |name: &str| needs(1000, &[name]);
    let owner = |name: &str| format!("Deployment/shop/{name}");
    let waits = |at: u64, name: &str, n: u64| {
        pending(at, &format!("{name}-{n}"), &owner(name), &kind(name))
    };
    let first = if older_first { "old" } else { "young" };
    for n in 0..150 {
        let at = 100 + n * 40;
        let pod = format!("{first}-{n}");
        feed(
            &mut cluster,
            &[
                waits(at, "old", n),
                waits(at + 10, "young", n),
                bound(at + 20, &pod, &owner(first), "n0", &kind(first)),
                pod_removed(at + 21, &format!("old-{n}")),
                pod_removed(at + 21, &format!("young-{n}")),
            ],
        );
    }
    for n in 1000..1008 {
        let both = [waits(9001, "old", n), waits(9001 + apart, "young", n)];
        feed(&mut cluster, &both);
    }
    let come = [joined(9060, "n1", "general"), joined(9061, "n2", "general")];
    feed(&mut cluster, &come);
    (node_plan(&cluster, "n1"), node_plan(&cluster, "n2"))
}

#[test]
fn where_the_scheduler_takes_the_oldest_first_the_first_node_is_for_the_oldest() {
    let (first, second) = plans_after(true, 10);
    assert_eq!(first, ["old"]);
    assert_eq!(second[0], "young");
}

#[test]
fn where_younger_pods_pass_those_that_back_off_the_first_node_is_for_the_youngest() {
    let (first, second) = plans_after(false, 10);
    assert_eq!(first, ["young"]);
    assert_eq!(second[0], "old");
}

#[test]
fn of_pods_that_are_equally_old_nobody_knows_who_is_first() {
    let (first, _) = plans_after(true, 0);
    assert_eq!(first.len(), 2);
}

#[test]
fn a_pod_that_is_stuck_for_a_reason_that_nobody_tells_says_nothing_of_the_order() {
    let mut cluster = fed(&[
        joined(0, "n0", "general"),
        ready(1, "n0"),
        pending(2, "stuck", "Deployment/shop/stuck", &web()),
    ]);
    for n in 0..60 {
        // From a quarter of an hour on nobody waits for it any more.
        let (at, name) = (1_000 + n * 40, format!("web-{n}"));
        let made = pending(at, &name, "Deployment/shop/web", &web());
        let comes = bound(at + 20, &name, "Deployment/shop/web", "n0", &web());
        feed(&mut cluster, &[made, comes, pod_removed(at + 21, &name)]);
    }
    assert_eq!(cluster.order.lean(), 0.0);
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
