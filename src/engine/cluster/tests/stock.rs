//! What agents list of their nodes' images.

use super::build::*;
use crate::domain::inventory::{NodeInventory, StoredImage};
use crate::domain::signal::{Fact, Signal};
use crate::engine::cluster::{Applied, Cluster};

const WEB: &str = "ReplicaSet/shop/web";

/// A node to which a pod with this image has come, and no word of the image.
fn with_pod() -> Cluster {
    let web = needs(1000, &["web"]);
    fed(&[
        resolved(0, "web", 100),
        joined(10, "n1", "general"),
        bound(20, "web-1", WEB, "n1", &web),
    ])
}

fn told(secs: u64, listed: u64, (names, planned): (&[&str], &[&str]), complete: bool) -> Signal {
    let stored = |name: &&str, names: Vec<_>, planned: Vec<_>| StoredImage {
        digest: manifest(name, "amd64", 100).digest,
        names,
        planned,
        bytes: None,
    };
    let theirs = names.iter().map(|n| stored(n, vec![image(n)], Vec::new()));
    let ours = planned
        .iter()
        .map(|n| stored(n, Vec::new(), vec![image(n)]));
    let fact = NodeInventory {
        node: "n1".into(),
        listed: at(listed),
        images: theirs.chain(ours).collect(),
        complete,
    };
    signal(secs, Fact::NodeInventory(fact))
}

#[test]
fn an_image_that_only_the_agent_knows_of_is_not_planned_again() {
    let mut cluster = with_pod();
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
    feed(&mut cluster, &[told(30, 29, (&["web"], &[]), false)]);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn an_image_that_went_away_is_planned_again() {
    let mut cluster = with_pod();
    feed(&mut cluster, &[told(30, 29, (&["web"], &[]), true)]);
    assert!(node_plan(&cluster, "n1").is_empty());
    // The kubelet made room, and a pod comes that needs it.
    let web = needs(1000, &["web"]);
    let news = [
        told(200, 199, (&["other"], &[]), true),
        bound(201, "web-2", WEB, "n1", &web),
    ];
    feed(&mut cluster, &news);
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
}

#[test]
fn a_list_of_a_part_takes_nothing_away() {
    let mut cluster = with_pod();
    feed(&mut cluster, &[told(30, 29, (&["web"], &[]), true)]);
    feed(&mut cluster, &[told(200, 199, (&["other"], &[]), false)]);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn what_is_there_for_the_plan_alone_stays_in_the_plan() {
    let mut cluster = with_pod();
    // Were it dropped, the agent would take the record back, list it no more, and be asked for it again.
    feed(&mut cluster, &[told(30, 29, (&[], &["web"]), true)]);
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
}

#[test]
fn a_clock_that_was_ahead_is_forgiven_when_it_is_set_right() {
    let mut cluster = with_pod();
    feed(&mut cluster, &[told(30, 9_999, (&["web"], &[]), true)]);
    assert!(node_plan(&cluster, "n1").is_empty());
    feed(&mut cluster, &[told(200, 199, (&[], &[]), true)]);
    let web = needs(1000, &["web"]);
    feed(&mut cluster, &[bound(201, "web-2", WEB, "n1", &web)]);
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
}

#[test]
fn a_list_from_before_the_node_was_made_is_another_machines() {
    let mut cluster = fed(&[resolved(0, "web", 100), joined(1000, "n1", "general")]);
    let old = told(1001, 900, (&["web"], &[]), true);
    let Applied::Ignored(why) = cluster.apply(&old) else {
        panic!("it is heard");
    };
    assert!(why.contains("earlier node"), "{why}");
    let unknown = cluster.apply(&node_removed(1002, "n1"));
    assert_eq!(unknown, Applied::Changed);
    assert!(matches!(cluster.apply(&old), Applied::Ignored(_)));
}
