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
    let plan = |asked: bool| {
        let mut signals = vec![
            resolved(0, "web", 500),
            joined(0, "n0", "general"),
            ready(1, "n0"),
            bound(2, "full", "Deployment/shop/db", "n0", &needs(7900, &["db"])),
        ];
        if asked {
            signals.push(requested(2000, "general", 2));
        }
        for n in 0..4 {
            let name = format!("a{n}");
            signals.push(pending(2001, &name, "Deployment/shop/web", &web()));
        }
        node_plan(&fed(&signals), "n0")
    };
    assert_eq!(plan(false), ["web"]);
    assert!(plan(true).is_empty());
}
