//! How many nodes to be ready for, told with the pool's plan.

use super::build::*;
use crate::domain::plan::{Staging, Target};
use crate::domain::signal::Signal;
use crate::engine::cluster::Cluster;

fn staged(cluster: &Cluster) -> Option<Staging> {
    cluster.plan(&Target::Pool("web".into()))?.nodes
}

/// A pool with a node of 8 cores, of which a DaemonSet takes 10 milli, and pods of 3 cores that wait.
fn waiting(pods: std::ops::Range<u64>, secs: u64) -> Vec<Signal> {
    let web = needs(3000, &["web"]);
    pods.map(|pod| pending(secs, &format!("web-{pod}"), "ReplicaSet/shop/web", &web))
        .collect()
}

fn pool() -> Cluster {
    let log = needs(10, &["log"]);
    let signals = [
        resolved(0, "log", 100),
        applied(0, "DaemonSet/kube-system/log", (1, 1), &log),
        joined(10, "web-a", "web"),
        ready(11, "web-a"),
        requested(20, "web", 2),
    ];
    fed(&signals)
}

#[test]
fn who_waits_is_packed_onto_the_pools_shape_and_nodes_on_their_way_count() {
    let mut cluster = pool();
    let nodes = |p50, p90, least| Some(Staging { p50, p90, least });
    // One is on its way, and nobody waits.
    assert_eq!(staged(&cluster), nodes(1, 1, 0));
    // Two pods of three cores a node: nine of them need five; by cores alone 27 000 / 7 990 are four.
    feed(&mut cluster, &waiting(0..9, 40));
    cluster.step(at(45));
    assert_eq!(staged(&cluster), nodes(5, 5, 4));
}

#[test]
fn a_count_is_made_anew_after_a_pause_and_published_when_it_doubles() {
    let mut cluster = pool();
    feed(&mut cluster, &waiting(0..2, 40));
    cluster.step(at(45));
    let before = staged(&cluster);
    // Counted at 40 s at the latest: at 46 s nobody packs again.
    feed(&mut cluster, &waiting(2..40, 46));
    assert_eq!(staged(&cluster), before);
    feed(&mut cluster, &waiting(40..41, 60));
    cluster.step(at(65));
    // 41 pods, two a node.
    assert_eq!(staged(&cluster).map(|nodes| nodes.p90), Some(21));
}

#[test]
fn where_nobody_knows_a_nodes_shape_nothing_is_counted() {
    let mut shape = shape("amd64");
    shape.capacity = None;
    let log = needs(10, &["log"]);
    let cluster = fed(&[
        resolved(0, "log", 100),
        applied(0, "DaemonSet/kube-system/log", (1, 1), &log),
        joined_as(10, "web-a", "web", shape),
        requested(20, "web", 2),
    ]);
    assert_eq!(pool_plan(&cluster, "web"), ["log"]);
    assert_eq!(staged(&cluster), None);
}
