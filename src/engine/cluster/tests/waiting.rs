//! To which nodes pods are expected to come that wait already.

use super::build::*;
use crate::domain::signal::{Fact, PodNominated};
use crate::domain::workload::PodNeeds;

fn web() -> PodNeeds {
    needs(1000, &["web"])
}

#[test]
fn pods_whose_nominations_never_hold_are_expected_on_any_coming_node() {
    let nominated = |at: u64, name: &str, request: &str| {
        let fact = PodNominated {
            pod: pod(name),
            node: None,
            request: Some(request.into()),
        };
        signal(at, Fact::PodNominated(fact))
    };
    let claimant = |at: u64, node: &str, request: &str| {
        let mut join = joined(at, node, "general");
        if let Fact::NodeJoined(node) = &mut join.fact {
            node.request = Some(request.into());
        }
        join
    };
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
