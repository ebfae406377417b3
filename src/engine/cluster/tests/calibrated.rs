//! What is said of new nodes is corrected by what became of it.

use super::build::*;
use crate::domain::plan::Target;
use crate::engine::cluster::Cluster;
use crate::forecast::model::Model;

const SHOP: &str = "Deployment/shop/web";

fn correcting(strength: f64) -> Cluster {
    let mut model = Model::untuned();
    model.history.calibration = strength;
    Cluster::new(model)
}

/// The chance of the workload's image on a node that is on its way.
fn chance(cluster: &Cluster, node: &str, secs: u64) -> f64 {
    let seen = cluster.explain(&Target::Node(node.into()), at(secs));
    let verdicts = seen.unwrap().verdicts;
    verdicts
        .iter()
        .find(|v| v.image == image("web"))
        .unwrap()
        .chance
}

/// So many nodes come one after the other, and none of the pods that a workload lacks.
fn disappointed(cluster: &mut Cluster, nodes: u64) -> u64 {
    let needs = needs(500, &["web"]);
    feed(
        cluster,
        &[resolved(0, "web", 300), applied(0, SHOP, (3, 3), &needs)],
    );
    for n in 0..nodes {
        let (from, node) = (n * 1000 + 10, format!("n{n}"));
        feed(cluster, &[joined(from, &node, "general")]);
        feed(cluster, &[ready(from + 20, &node)]);
        // Past the window, and past the pause after it.
        cluster.step(at(from + 630));
        cluster.step(at(from + 700));
        feed(cluster, &[node_removed(from + 800, &node)]);
    }
    nodes * 1000 + 10
}

#[test]
fn a_wish_that_never_came_true_is_believed_less_and_that_survives_a_restart() {
    let mut old = correcting(1.0);
    let from = disappointed(&mut old, 1);
    feed(&mut old, &[joined(from, "next", "general")]);
    let first = chance(&old, "next", from);
    let mut old = correcting(1.0);
    let from = disappointed(&mut old, 20);
    feed(&mut old, &[joined(from, "next", "general")]);
    let last = chance(&old, "next", from);
    // 20 misses beside eight imagined agreements of 0.7: 5.6 of 28.
    assert!(first > 0.6 && last < 0.4, "{first} {last}");

    let text = old.save(at(from));
    let mut new = correcting(1.0);
    new.load(&text).unwrap();
    assert_eq!(new.save(at(from)), text);
    let needs = needs(500, &["web"]);
    let told = [
        resolved(from, "web", 300),
        applied(from, SHOP, (3, 3), &needs),
        joined(from, "next", "general"),
    ];
    feed(&mut new, &told);
    assert!((chance(&new, "next", from) - last).abs() < 0.02);
}

#[test]
fn a_wish_that_comes_true_is_no_miss_and_strength_zero_corrects_nothing() {
    let mut off = correcting(0.0);
    let from = disappointed(&mut off, 20);
    feed(&mut off, &[joined(from, "next", "general")]);
    let mut on = correcting(1.0);
    let needs = needs(500, &["web"]);
    feed(
        &mut on,
        &[resolved(0, "web", 300), applied(0, SHOP, (3, 3), &needs)],
    );
    let mut uncorrected = 0.0;
    for n in 0..20 {
        let (at, node, pod) = (n * 1000 + 10, format!("n{n}"), format!("p{n}"));
        feed(&mut on, &[joined(at, &node, "general")]);
        if n == 0 {
            uncorrected = chance(&on, &node, at);
        }
        feed(&mut on, &[ready(at + 20, &node)]);
        feed(&mut on, &[bound(at + 22, &pod, SHOP, &node, &needs)]);
        on.step(super::build::at(at + 700));
        feed(
            &mut on,
            &[pod_removed(at + 790, &pod), node_removed(at + 800, &node)],
        );
    }
    feed(&mut on, &[joined(20_010, "next", "general")]);
    assert!((chance(&off, "next", from) - uncorrected).abs() < 1e-9);
    assert!(chance(&on, "next", 20_010) > uncorrected);
}

#[test]
fn a_state_of_a_program_that_did_not_learn_this_is_read() {
    let mut cluster = cluster();
    cluster
        .load(r#"{"version":1,"keys":[],"pools":{}}"#)
        .unwrap();
    assert!(cluster.calibration().is_empty());
}
