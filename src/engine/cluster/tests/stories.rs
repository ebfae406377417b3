//! One small story per source of knowledge.

use super::build::*;
use crate::domain::node::Taint;
use crate::domain::plan::{Priority, Reason, Target};
use crate::domain::signal::{Capacity, Fact, PodNominated, PodOnNode, ScaleLimit};
use crate::engine::cluster::{Applied, Effect, Family, Sizes};
use crate::forecast::model::Model;
use crate::forecast::model::Uses;
use crate::plan::policy::{Mode, Pattern, Policy};

fn web() -> crate::domain::workload::PodNeeds {
    needs(1000, &["web"])
}

#[test]
fn a_pending_pods_image_is_planned_for_the_node_that_joins() {
    let cluster = fed(&[
        resolved(0, "web", 100),
        pending(1, "a", "Deployment/shop/web", &web()),
        requested(2, "general", 1),
        joined(60, "n1", "general"),
    ]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(names(Some(plan)), ["web"]);
    let entry = &plan.entries[0];
    assert_eq!(entry.priority, Priority::Pending);
    assert_eq!(entry.reason, Reason::PendingPod("shop/a".into()));
    assert_eq!(entry.probability, 1.0);
    assert!(entry.expires > plan.made);
    assert!(entry.deadline.unwrap() > at(60));
}

#[test]
fn a_pod_for_other_nodes_is_not_planned() {
    let mut tainted = shape("amd64");
    tainted.taints.push(Taint {
        key: "gpu".into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    });
    let cluster = fed(&[
        resolved(0, "web", 100),
        pending(1, "a", "Deployment/shop/web", &web()),
        joined_as(60, "n1", "gpu", tainted),
    ]);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn an_image_without_a_manifest_for_the_nodes_architecture_is_left_out() {
    let mut signals = vec![
        pending(1, "a", "Deployment/shop/web", &web()),
        joined_as(60, "n1", "general", shape("s390x")),
    ];
    signals.insert(0, resolved(0, "web", 100));
    signals.push(applied(
        2,
        "DaemonSet/kube-system/log",
        (1, 1),
        &needs(10, &["log"]),
    ));
    signals.push(resolved(3, "log", 10));
    let cluster = fed(&signals);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn a_coming_nodes_pool_gets_a_plan_before_the_node_exists() {
    let cluster = fed(&[
        resolved(0, "web", 100),
        resolved(0, "log", 20),
        joined(0, "n0", "general"),
        ready(10, "n0"),
        applied(
            11,
            "DaemonSet/kube-system/log",
            (1, 1),
            &needs(10, &["log"]),
        ),
        pending(12, "a", "Deployment/shop/web", &web()),
        requested(13, "general", 2),
    ]);
    let mut plan = pool_plan(&cluster, "general");
    plan.sort();
    assert_eq!(plan, ["log", "web"]);
}

#[test]
fn the_pools_plan_holds_only_what_any_node_will_want() {
    let mut signals = vec![
        joined(0, "n0", "general"),
        ready(10, "n0"),
        resolved(0, "web", 500),
    ];
    // Two nodes are on their way and one pod waits: only one of them will run it.
    signals.push(pending(12, "a", "Deployment/shop/web", &web()));
    signals.push(requested(13, "general", 3));
    assert!(pool_plan(&fed(&signals), "general").is_empty());
}

#[test]
fn a_bound_pods_image_is_pending_until_the_pod_has_started() {
    let mut cluster = fed(&[
        resolved(0, "web", 100),
        joined(10, "n1", "general"),
        ready(20, "n1"),
        bound(21, "a", "Deployment/shop/web", "n1", &web()),
    ]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(plan.entries[0].reason, Reason::Bound("shop/a".into()));
    let started = PodOnNode {
        pod: pod("a"),
        node: "n1".into(),
    };
    let effects = feed(&mut cluster, &[signal(30, Fact::PodStarted(started))]);
    assert!(matches!(&effects[..], [.., Effect::Publish(plan)] if plan.entries.is_empty()));
}

#[test]
fn a_nominated_pod_belongs_to_its_node_alone() {
    let nominated = PodNominated {
        pod: pod("a"),
        node: None,
        request: Some("claim-1".into()),
    };
    let mut join = joined(60, "n1", "general");
    if let Fact::NodeJoined(node) = &mut join.fact {
        node.request = Some("claim-1".into());
    }
    let cluster = fed(&[
        resolved(0, "web", 500),
        pending(1, "a", "Deployment/shop/web", &web()),
        claimed(2, "general", "claim-1", None),
        signal(3, Fact::PodNominated(nominated)),
        join,
        joined(61, "n2", "general"),
    ]);
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
    assert!(node_plan(&cluster, "n2").is_empty());
}

#[test]
fn a_gated_pod_is_expected_less_than_a_pending_one() {
    let explain = |signal| {
        let cluster = fed(&[resolved(0, "web", 100), signal, joined(60, "n1", "general")]);
        let told = cluster.explain(&Target::Node("n1".into()), at(61)).unwrap();
        told.verdicts[0].clone()
    };
    let waits = explain(pending(1, "a", "Deployment/shop/web", &web()));
    let gated = explain(gated(1, "a", "Deployment/shop/web", &web()));
    assert!(gated.chance < waits.chance);
    assert_eq!(gated.priority, Priority::Predicted);
}

#[test]
fn a_scalers_wish_counts_pods_that_do_not_exist_yet() {
    let mut wish = scaler("Deployment/shop/web", 1, 2);
    wish.ratio = Some(8.0);
    wish.limited = Some(ScaleLimit::ScaleUpLimit);
    let cluster = fed(&[
        resolved(0, "web", 100),
        joined(0, "n0", "general"),
        ready(1, "n0"),
        applied(1, "Deployment/shop/web", (1, 1), &needs(7000, &["web"])),
        bound(2, "a", "Deployment/shop/web", "n0", &needs(7000, &["web"])),
        signal(3, Fact::ScalerObserved(wish)),
        joined(60, "n1", "general"),
    ]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(names(Some(plan)), ["web"]);
    assert_eq!(
        plan.entries[0].reason,
        Reason::ScalerWish("Deployment/shop/web".into())
    );
}

#[test]
fn a_rollout_brings_the_new_image_to_nodes_that_run_the_old_one() {
    let old = needs(1000, &["web-1"]);
    let mut cluster = fed(&[
        resolved(0, "web-1", 100),
        resolved(0, "web-2", 100),
        joined(0, "n0", "general"),
        ready(1, "n0"),
        applied(1, "Deployment/shop/web", (2, 2), &old),
        bound(2, "a", "Deployment/shop/web", "n0", &old),
        bound(2, "b", "Deployment/shop/web", "n0", &old),
    ]);
    feed(
        &mut cluster,
        &[applied(
            5000,
            "Deployment/shop/web",
            (2, 0),
            &needs(1000, &["web-2"]),
        )],
    );
    let plan = cluster.plan(&Target::Node("n0".into())).unwrap();
    assert_eq!(names(Some(plan)), ["web-2"]);
    assert_eq!(
        plan.entries[0].reason,
        Reason::Rollout("Deployment/shop/web".into())
    );
}

#[test]
fn an_updated_daemonset_brings_its_new_image_to_every_node_that_runs_it() {
    let log = "DaemonSet/kube-system/log";
    let mut cluster = fed(&[
        resolved(0, "log-1", 100),
        resolved(0, "log-2", 100),
        joined(0, "n0", "general"),
        ready(1, "n0"),
        applied(1, log, (1, 1), &needs(10, &["log-1"])),
        bound(2, "a", log, "n0", &needs(10, &["log-1"])),
    ]);
    feed(
        &mut cluster,
        &[applied(5000, log, (1, 0), &needs(10, &["log-2"]))],
    );
    assert_eq!(node_plan(&cluster, "n0"), ["log-2"]);
}

#[test]
fn announced_capacity_is_expected_until_it_is_withdrawn() {
    let announce = |secs, count| {
        let capacity = Capacity {
            name: "ProvisioningRequest/ml/train".into(),
            count,
            needs: Some(needs(4000, &["train"])),
            workload: None,
            at: None,
            pool: None,
        };
        signal(secs, Fact::CapacityAnnounced(capacity))
    };
    let mut cluster = fed(&[
        resolved(0, "train", 2000),
        announce(1, 1),
        joined(60, "n1", "gpu"),
    ]);
    assert_eq!(node_plan(&cluster, "n1"), ["train"]);
    feed(&mut cluster, &[announce(70, 0)]);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn an_announcement_is_filled_by_the_pod_that_came_for_it() {
    let train = needs(4000, &["train"]);
    let capacity = Capacity {
        name: "ProvisioningRequest/ml/train".into(),
        count: 1,
        needs: Some(train.clone()),
        workload: None,
        at: None,
        pool: None,
    };
    let mut cluster = fed(&[
        resolved(0, "train", 2000),
        signal(1, Fact::CapacityAnnounced(capacity)),
        joined(60, "n1", "gpu"),
        ready(70, "n1"),
        bound(71, "a", "Job/ml/train", "n1", &train),
        joined(80, "n2", "gpu"),
    ]);
    assert_eq!(node_plan(&cluster, "n1"), ["train"]);
    assert!(node_plan(&cluster, "n2").is_empty());
    feed(&mut cluster, &[pod_removed(90, "a")]);
    assert!(node_plan(&cluster, "n2").is_empty());
}

#[test]
fn pods_that_a_calendar_starts_soon_are_expected_and_a_suspended_calendar_starts_none() {
    let cron = |secs, idle| {
        let mut applied = applied(
            secs,
            "CronJob/shop/report",
            (2, 2),
            &needs(100, &["report"]),
        );
        if let Fact::WorkloadApplied(workload) = &mut applied.fact {
            workload.schedule = Some("*/2 * * * *".into());
            workload.idle = idle;
        }
        applied
    };
    let mut cluster = fed(&[
        resolved(0, "report", 30),
        cron(1, false),
        joined(60, "n1", "general"),
    ]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(names(Some(plan)), ["report"]);
    assert_eq!(
        plan.entries[0].reason,
        Reason::Schedule("CronJob/shop/report".into())
    );
    feed(&mut cluster, &[cron(70, true)]);
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn a_replacement_gets_the_images_of_the_node_that_it_replaces() {
    let mut join = joined(60, "n1", "general");
    if let Fact::NodeJoined(node) = &mut join.fact {
        node.request = Some("claim-2".into());
    }
    let cluster = fed(&[
        resolved(0, "db", 800),
        joined(0, "n0", "general"),
        ready(1, "n0"),
        bound(2, "a", "StatefulSet/shop/db", "n0", &needs(1000, &["db"])),
        claimed(30, "general", "claim-2", Some("n0")),
        join,
    ]);
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(plan.entries[0].reason, Reason::Replacement("n0".into()));
}

#[test]
fn what_new_nodes_of_the_pool_ran_is_expected_on_the_next() {
    let mut signals = vec![
        resolved(0, "web", 100),
        applied(0, "Deployment/shop/web", (5, 5), &web()),
    ];
    for n in 0..5 {
        let node = format!("n{n}");
        signals.push(joined(n * 1000, &node, "general"));
        signals.push(ready(n * 1000 + 10, &node));
        let name = format!("p{n}");
        signals.push(bound(
            n * 1000 + 100,
            &name,
            "Deployment/shop/web",
            &node,
            &web(),
        ));
    }
    signals.push(joined(5000, "new", "general"));
    let cluster = fed(&signals);
    let plan = cluster.plan(&Target::Node("new".into())).unwrap();
    assert_eq!(
        plan.entries[0].reason,
        Reason::History("Deployment/shop/web".into())
    );
    assert_eq!(plan.entries[0].priority, Priority::Predicted);
}

#[test]
fn a_crowd_that_waited_for_earlier_nodes_is_not_expected_on_the_next() {
    let mut signals = vec![
        resolved(0, "web", 100),
        applied(0, "Deployment/shop/web", (5, 5), &web()),
    ];
    for n in 0..5 {
        let (node, name) = (format!("n{n}"), format!("p{n}"));
        signals.push(pending(n * 1000, &name, "Deployment/shop/web", &web()));
        signals.push(joined(n * 1000 + 1, &node, "general"));
        signals.push(ready(n * 1000 + 10, &node));
        signals.push(bound(
            n * 1000 + 11,
            &name,
            "Deployment/shop/web",
            &node,
            &web(),
        ));
    }
    signals.push(joined(5000, "new", "general"));
    assert!(node_plan(&fed(&signals), "new").is_empty());
}

#[test]
fn baselines_are_the_same_machine_with_less_knowledge() {
    let signals = [
        resolved(0, "web", 100),
        resolved(0, "log", 20),
        applied(0, "DaemonSet/kube-system/log", (1, 1), &needs(10, &["log"])),
        pending(1, "a", "Deployment/shop/web", &web()),
        joined(60, "n1", "general"),
    ];
    let with = |uses| {
        let mut cluster = crate::engine::cluster::Cluster::new(Model {
            uses,
            ..Model::untuned()
        });
        feed(&mut cluster, &signals);
        node_plan(&cluster, "n1")
    };
    let nothing = Uses::nothing;
    assert_eq!(
        with(Uses {
            daemonsets: true,
            ..nothing()
        }),
        ["log"]
    );
    assert_eq!(
        with(Uses {
            pods: true,
            ..nothing()
        }),
        ["web"]
    );
    assert!(with(nothing()).is_empty());
}

#[test]
fn a_plan_is_published_again_only_when_it_asks_for_something_else_or_grows_old() {
    let mut cluster = fed(&[
        resolved(0, "log", 20),
        applied(0, "DaemonSet/kube-system/log", (1, 1), &needs(10, &["log"])),
        joined(60, "n1", "general"),
    ]);
    let publishes = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|e| matches!(e, Effect::Publish(_)))
            .count()
    };
    assert_eq!(publishes(&feed(&mut cluster, &[ready(70, "n1")])), 0);
    let wake = cluster.wake_at().unwrap();
    assert!(wake <= at(60 + 300));
    let half = at(60 + 300);
    assert_eq!(publishes(&cluster.step(half)), 2);
    assert!(cluster.plan(&Target::Node("n1".into())).unwrap().made == half);
}

#[test]
fn mode_off_empties_every_plan_at_once() {
    let mut cluster = fed(&[
        resolved(0, "web", 100),
        pending(1, "a", "Deployment/shop/web", &web()),
        joined(60, "n1", "general"),
    ]);
    cluster.set_policy(Policy {
        default: Mode::Off,
        ..Policy::default()
    });
    let effects = cluster.step(at(61));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Publish(p) if p.entries.is_empty()))
    );
    assert!(node_plan(&cluster, "n1").is_empty());
}

#[test]
fn an_excluded_image_is_left_out_and_counted() {
    let mut cluster = cluster();
    cluster.set_policy(Policy {
        exclude: vec![Pattern::new("*/web:*")],
        ..Policy::default()
    });
    feed(
        &mut cluster,
        &[
            resolved(0, "web", 100),
            resolved(0, "log", 20),
            applied(0, "DaemonSet/kube-system/log", (1, 1), &needs(10, &["log"])),
            pending(1, "a", "Deployment/shop/web", &web()),
            joined(60, "n1", "general"),
        ],
    );
    let plan = cluster.plan(&Target::Node("n1".into())).unwrap();
    assert_eq!(names(Some(plan)), ["log"]);
    assert_eq!(plan.left_out["policy"], 1);
}

#[test]
fn a_new_epoch_is_written_into_every_plan() {
    let mut cluster = fed(&[
        resolved(0, "web", 100),
        pending(1, "a", "Deployment/shop/web", &web()),
        joined(60, "n1", "general"),
    ]);
    cluster.set_epoch(7);
    cluster.step(at(61));
    assert_eq!(cluster.plan(&Target::Node("n1".into())).unwrap().epoch, 7);
}

#[test]
fn every_reference_is_asked_for_once_when_it_is_first_named() {
    let mut cluster = cluster();
    let effects = feed(
        &mut cluster,
        &[pending(1, "a", "Deployment/shop/web", &web())],
    );
    assert_eq!(effects, [Effect::Resolve(image("web"))]);
    assert!(cluster.step(at(2)).is_empty());
    feed(
        &mut cluster,
        &[resolved(3, "web", 100), joined(4, "n1", "general")],
    );
    assert_eq!(node_plan(&cluster, "n1"), ["web"]);
}

#[test]
fn a_removed_node_retracts_its_plan_and_a_late_word_does_not_raise_it() {
    let join = joined(60, "n1", "general");
    let mut cluster = fed(&[
        resolved(0, "web", 100),
        pending(1, "a", "Deployment/shop/web", &web()),
        join.clone(),
    ]);
    let effects = feed(&mut cluster, &[node_removed(100, "n1")]);
    assert!(effects.contains(&Effect::Retract(Target::Node("n1".into()))));
    assert!(matches!(cluster.apply(&join), Applied::Ignored(_)));
    assert_eq!(cluster.sizes().nodes, 0);
}

#[test]
fn what_a_relist_does_not_name_again_is_gone() {
    let mut cluster = fed(&[
        joined(0, "n1", "general"),
        joined(0, "n2", "general"),
        bound(1, "a", "Deployment/shop/web", "n1", &web()),
    ]);
    cluster.relisting(Family::Nodes);
    cluster.apply(&joined(10, "n2", "general"));
    cluster.relisted(Family::Nodes, at(11));
    assert_eq!(cluster.sizes().nodes, 1);
    cluster.relisting(Family::Pods);
    cluster.relisted(Family::Pods, at(12));
    assert_eq!(cluster.sizes().pods, 0);
}

#[test]
fn deleting_everything_leaves_empty_indexes() {
    let mut cluster = fed(&[
        resolved(0, "web", 100),
        applied(0, "Deployment/shop/web", (3, 3), &web()),
        joined(0, "n1", "general"),
        ready(1, "n1"),
        bound(2, "a", "Deployment/shop/web", "n1", &web()),
        pending(2, "b", "Deployment/shop/web", &web()),
        claimed(3, "general", "claim-1", None),
    ]);
    let gone = crate::domain::signal::NodeRemoved {
        request: Some("claim-1".into()),
        ..Default::default()
    };
    feed(
        &mut cluster,
        &[
            pod_removed(10, "a"),
            pod_removed(10, "b"),
            workload_removed(10, "Deployment/shop/web"),
            node_removed(10, "n1"),
            signal(10, Fact::NodeRemoved(gone)),
        ],
    );
    cluster.step(at(10 + 2 * 3600));
    assert_eq!(cluster.sizes(), Sizes::default());
    // Nor does a name keep its number.
    assert_eq!((cluster.owners.named(), cluster.nodes.named()), (0, 0));
}
