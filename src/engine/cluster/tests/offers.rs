//! What an autoscaler is about to decide: expected where there is one choice, and for a minute.

use super::build::*;
use crate::domain::node::{NodeShape, Taint};
use crate::domain::plan::Target;
use crate::domain::signal::{Fact, NodeOffered, NodeRemoved, Signal};
use crate::engine::cluster::{Applied, Cluster};

fn offered(secs: u64, pool: &str, among: u32, shape: NodeShape) -> Signal {
    let fact = NodeOffered {
        pool: pool.into(),
        count: 1,
        among,
        shape,
        pods: Vec::new(),
    };
    signal(secs, Fact::NodeOffered(fact))
}

/// A pod waits; no pool has ever had a node.
fn waiting() -> Cluster {
    let web = needs(3000, &["web"]);
    fed(&[
        resolved(0, "web", 100),
        pending(1, "web-1", "ReplicaSet/shop/web", &web),
    ])
}

fn images(cluster: &Cluster, pool: &str) -> Vec<String> {
    let plan = cluster.plan(&Target::Pool(pool.into()));
    let entries = plan.map(|plan| plan.entries.iter());
    entries
        .into_iter()
        .flatten()
        .map(|entry| entry.image.to_string())
        .collect()
}

#[test]
fn the_only_choice_is_planned_for_before_the_decision_and_forgotten_a_minute_later() {
    let mut cluster = waiting();
    feed(&mut cluster, &[offered(5, "web", 1, shape("amd64"))]);
    cluster.step(at(6));
    assert_eq!(images(&cluster, "web"), [image("web").to_string()]);
    // The pool was never asked for a node, so nothing of it is left.
    cluster.step(at(64));
    assert_eq!(images(&cluster, "web").len(), 1);
    cluster.step(at(66));
    assert!(cluster.plan(&Target::Pool("web".into())).is_none());
}

#[test]
fn a_decision_takes_the_offers_place() {
    let mut cluster = waiting();
    feed(
        &mut cluster,
        &[offered(5, "web", 1, shape("amd64")), requested(6, "web", 1)],
    );
    cluster.step(at(120));
    assert_eq!(images(&cluster, "web").len(), 1);
    // What was offered before the decision and is heard after it says nothing.
    let late = cluster.apply(&offered(5, "web", 1, shape("amd64")));
    assert!(matches!(late, Applied::Ignored(_)), "{late:?}");
    let failed = NodeRemoved {
        pool: Some("web".into()),
        ..NodeRemoved::default()
    };
    feed(&mut cluster, &[signal(130, Fact::NodeRemoved(failed))]);
    cluster.step(at(135));
    assert!(cluster.plan(&Target::Pool("web".into())).is_none());
}

#[test]
fn of_several_choices_none_is_planned_for_but_each_tells_what_its_nodes_would_be() {
    let mut guarded = shape("amd64");
    guarded.taints.push(Taint {
        key: "gpu".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    });
    let mut cluster = waiting();
    feed(
        &mut cluster,
        &[
            offered(5, "web", 2, shape("amd64")),
            offered(5, "gpu", 2, guarded),
        ],
    );
    cluster.step(at(6));
    assert!(cluster.plan(&Target::Pool("web".into())).is_none());
    assert!(cluster.plan(&Target::Pool("gpu".into())).is_none());
    // Decisions tell a name and a size; that the pod does not tolerate the taint only the sample told.
    feed(
        &mut cluster,
        &[requested(7, "web", 1), requested(7, "gpu", 1)],
    );
    cluster.step(at(10));
    assert_eq!(images(&cluster, "web").len(), 1);
    assert_eq!(images(&cluster, "gpu").len(), 0);
}

#[test]
fn offers_do_not_add_up_and_repeat_in_vain() {
    let mut cluster = waiting();
    let again = |secs| offered(secs, "web", 1, shape("amd64"));
    assert_eq!(cluster.apply(&again(5)), Applied::Changed);
    assert!(matches!(cluster.apply(&again(15)), Applied::Ignored(_)));
    cluster.step(at(16));
    let nodes = |cluster: &Cluster| cluster.plan(&Target::Pool("web".into()))?.nodes;
    assert_eq!(nodes(&cluster).map(|nodes| nodes.p90), Some(1));
    // Said again, it is believed for longer.
    cluster.step(at(70));
    assert_eq!(images(&cluster, "web").len(), 1);
    cluster.step(at(76));
    assert_eq!(images(&cluster, "web").len(), 0);
}
