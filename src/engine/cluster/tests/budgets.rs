//! What is everybody's is shared: guesses wait for each other, and no pod waits for a guess.

use super::build::*;
use crate::domain::plan::Target;
use crate::domain::signal::Signal;
use crate::engine::cluster::Cluster;
use crate::forecast::model::Model;
use crate::plan::explain::Fate;

const LOG: &str = "DaemonSet/kube-system/log";

/// A DaemonSet's image of 280 MB, ten seconds of a kubelet's pull, is a guess on two nodes of one zone.
fn two_nodes(model: Model) -> Cluster {
    let mut cluster = Cluster::new(model);
    let zoned = |secs, node| {
        let mut shape = shape("amd64");
        let zone = ("topology.kubernetes.io/zone".into(), "a".into());
        shape.labels.extend([zone]);
        joined_as(secs, node, "web", shape)
    };
    let signals: [Signal; 4] = [
        resolved(0, "log", 280),
        applied(0, LOG, (1, 1), &needs(10, &["log"])),
        zoned(10, "a-1"),
        zoned(10, "a-2"),
    ];
    feed(&mut cluster, &signals);
    cluster
}

fn fate(cluster: &Cluster, node: &str, secs: u64) -> Fate {
    let told = cluster.explain(&Target::Node(node.into()), at(secs));
    told.unwrap().verdicts[0].fate.clone()
}

#[test]
fn a_guess_beyond_the_zones_bytes_waits_until_another_has_come() {
    let mut model = Model::untuned();
    model.guesses.zone_bytes = 300_000_000;
    let mut cluster = two_nodes(model);
    assert_eq!(node_plan(&cluster, "a-1"), ["log"]);
    assert_eq!(node_plan(&cluster, "a-2"), Vec::<String>::new());
    assert_eq!(fate(&cluster, "a-2", 10), Fate::Zone);
    let plan = cluster.plan(&Target::Node("a-2".into())).unwrap();
    assert_eq!(plan.left_out["zone"], 1);
    // It is looked at again by itself, and has its turn when the first one's bytes have come.
    let again = cluster.wake_at().unwrap();
    assert!(again <= at(30), "{again}");
    cluster.step(at(30));
    assert_eq!(node_plan(&cluster, "a-1"), ["log"]);
    assert_eq!(node_plan(&cluster, "a-2"), ["log"]);
}

#[test]
fn a_registry_is_sent_the_guesses_of_one_node_after_those_of_another() {
    let mut model = Model::untuned();
    // A manifest and three layers.
    model.guesses.requests = 4;
    let mut cluster = two_nodes(model);
    assert_eq!(node_plan(&cluster, "a-1"), ["log"]);
    assert_eq!(fate(&cluster, "a-2", 10), Fate::Registry);
    cluster.step(at(60));
    assert_eq!(node_plan(&cluster, "a-2"), Vec::<String>::new());
    cluster.step(at(80));
    assert_eq!(node_plan(&cluster, "a-2"), ["log"]);
}

#[test]
fn what_the_link_cannot_bring_is_no_guess_and_who_waits_gets_it_all_the_same() {
    let mut model = Model::untuned();
    model.guesses.link_rate = 1000.0;
    let mut cluster = two_nodes(model);
    assert_eq!(fate(&cluster, "a-1", 10), Fate::Link);
    let bound = bound(20, "log-1", LOG, "a-1", &needs(10, &["log"]));
    feed(&mut cluster, &[bound]);
    assert_eq!(node_plan(&cluster, "a-1"), ["log"]);
    assert_eq!(fate(&cluster, "a-2", 20), Fate::Link);
}

#[test]
fn what_was_brought_in_vain_is_let_go_and_what_a_pod_uses_is_not() {
    let mut cluster = two_nodes(Model::untuned());
    let web = needs(1000, &["web"]);
    let asks = [
        resolved(20, "web", 100),
        pending(20, "web-1", "ReplicaSet/shop/web", &web),
    ];
    feed(&mut cluster, &asks);
    assert!(node_plan(&cluster, "a-1").contains(&"web".to_owned()));
    let let_go = |cluster: &Cluster, node: &str| -> Vec<String> {
        let plan = cluster.plan(&Target::Node(node.into())).unwrap();
        let names = plan.let_go.iter().map(|gone| gone.image.repository());
        names.map(str::to_owned).collect()
    };
    assert_eq!(let_go(&cluster, "a-1"), Vec::<String>::new());
    // The pod goes to the other node, and nobody else asks for its image.
    let lands = [
        bound(40, "web-1", "ReplicaSet/shop/web", "a-2", &web),
        ready(41, "a-1"),
        ready(41, "a-2"),
    ];
    feed(&mut cluster, &lands);
    cluster.step(at(60));
    assert_eq!(node_plan(&cluster, "a-1"), ["log"]);
    assert_eq!(let_go(&cluster, "a-1"), ["library/web"]);
    assert_eq!(let_go(&cluster, "a-2"), Vec::<String>::new());
    // Wished again, it is an entry again.
    let again = [
        requested(70, "web", 3),
        pending(70, "web-2", "ReplicaSet/shop/web", &web),
        bound(71, "web-2", "ReplicaSet/shop/web", "a-1", &web),
    ];
    feed(&mut cluster, &again);
    assert!(node_plan(&cluster, "a-1").contains(&"web".to_owned()));
    assert_eq!(let_go(&cluster, "a-1"), Vec::<String>::new());
}
