//! What a translator says of objects, where the recordings hold no example.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::{Kind, Object};
use crate::source::kubernetes::{Change, Settings, Translator};

struct Watch {
    translator: Translator,
    now: Timestamp,
}

impl Watch {
    fn new() -> Self {
        Self {
            translator: Translator::new(Settings::default()),
            now: "2026-01-01T00:10:00Z".parse().unwrap(),
        }
    }

    fn observe(&mut self, change: Change, kind: Kind, object: &Value) -> Vec<Signal> {
        let object = Object::from_json(kind, &object.to_string()).unwrap();
        self.translator.observe(change, &object, self.now)
    }

    fn see(&mut self, kind: Kind, object: &Value) -> Vec<Fact> {
        let signals = self.observe(Change::Applied, kind, object);
        signals.into_iter().map(|signal| signal.fact).collect()
    }

    fn gone(&mut self, kind: Kind, object: &Value) -> Vec<Fact> {
        let signals = self.observe(Change::Deleted, kind, object);
        signals.into_iter().map(|signal| signal.fact).collect()
    }
}

fn types(facts: &[Fact]) -> Vec<&'static str> {
    let short = |fact: &Fact| {
        let name = fact.event_type().strip_prefix("dev.forelay.").unwrap();
        name.strip_suffix(".v1").unwrap()
    };
    facts.iter().map(short).collect()
}

fn node(name: &str, extra: &Value) -> Value {
    let mut node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:09:58Z",
            "labels": {"example.com/nodegroup": "general", "kubernetes.io/arch": "amd64"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "pods": "110"}, "conditions": []},
    });
    merge(&mut node, extra);
    node
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn pod(name: &str, extra: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "resourceVersion": "1"},
        "spec": {"containers": [{"name": "main", "image": "nginx:1"}]},
        "status": {"phase": "Pending"},
    });
    merge(&mut pod, extra);
    pod
}

fn event(who: &str, reason: &str, about: (&str, &str), message: &str) -> Value {
    json!({
        "metadata": {"name": "e", "namespace": "default", "uid": "e", "resourceVersion": "7"},
        "involvedObject": {"kind": about.0, "name": about.1, "namespace": "shop", "uid": "u"},
        "reason": reason, "message": message, "source": {"component": who, "host": "n1"},
        "firstTimestamp": "2026-01-01T00:09:59Z", "lastTimestamp": "2026-01-01T00:09:59Z",
    })
}

#[test]
fn a_heartbeat_says_nothing() {
    let mut watch = Watch::new();
    assert_eq!(
        types(&watch.see(Kind::Node, &node("n1", &json!({})))),
        ["node.joined"]
    );
    let beat = json!({"metadata": {"resourceVersion": "2"}});
    assert!(watch.see(Kind::Node, &node("n1", &beat)).is_empty());
}

#[test]
fn a_node_made_again_under_its_old_name_was_removed_in_between() {
    let mut watch = Watch::new();
    watch.see(Kind::Node, &node("n1", &json!({})));
    let again = node("n1", &json!({"metadata": {"uid": "other"}}));
    let facts = watch.see(Kind::Node, &again);
    assert_eq!(types(&facts), ["node.removed", "node.joined"]);
}

#[test]
fn readiness_is_said_each_time_it_is_reached() {
    let mut watch = Watch::new();
    let ready = |status: &str| {
        node(
            "n1",
            &json!({"status": {"conditions": [{"type": "Ready", "status": status}]}}),
        )
    };
    let mut said = Vec::new();
    for status in ["False", "True", "True", "Unknown", "True"] {
        said.push(types(&watch.see(Kind::Node, &ready(status))).contains(&"node.ready"));
    }
    assert_eq!(said, [false, true, false, false, true]);
}

#[test]
fn only_lasting_taints_are_a_part_of_the_shape() {
    let mut watch = Watch::new();
    let taints = json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "startup-taint.cluster-autoscaler.kubernetes.io/cni", "effect": "NoSchedule"},
        {"key": "DeletionCandidateOfClusterAutoscaler", "effect": "PreferNoSchedule"},
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    ]}});
    let facts = watch.see(Kind::Node, &node("n1", &taints));
    let Fact::NodeJoined(joined) = &facts[0] else {
        panic!("{facts:?}")
    };
    let keys: Vec<_> = joined.shape.taints.iter().map(|taint| &taint.key).collect();
    assert_eq!(keys, ["nvidia.com/gpu"]);
}

#[test]
fn a_node_that_leaves_is_interrupted_once_and_again_after_it_was_called_off() {
    let mut watch = Watch::new();
    watch.see(Kind::Node, &node("n1", &json!({})));
    let spot = json!({"spec": {"taints": [
        {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"}]}});
    let facts = watch.see(Kind::Node, &node("n1", &spot));
    let Fact::NodeInterrupted(interrupted) = &facts[0] else {
        panic!("{facts:?}")
    };
    assert_eq!(interrupted.deadline.unwrap().secs_since(watch.now), 30.0);
    assert!(watch.see(Kind::Node, &node("n1", &spot)).is_empty());
    watch.see(Kind::Node, &node("n1", &json!({})));
    let drained = json!({"spec": {"unschedulable": true}});
    assert_eq!(
        types(&watch.see(Kind::Node, &node("n1", &drained))),
        ["node.interrupted"]
    );
}

#[test]
fn a_spot_notice_names_the_node_of_its_claim() {
    let mut watch = Watch::new();
    let claim = json!({
        "metadata": {"name": "c1", "uid": "c", "resourceVersion": "1",
            "labels": {"karpenter.sh/nodepool": "spot"}},
        "spec": {}, "status": {"nodeName": "n1"},
    });
    assert!(watch.see(Kind::NodeClaim, &claim).is_empty());
    watch.see(Kind::Node, &node("n1", &json!({})));
    let notice = event("karpenter", "SpotInterrupted", ("NodeClaim", "c1"), "soon");
    let facts = watch.see(Kind::Event, &notice);
    let Fact::NodeInterrupted(interrupted) = &facts[0] else {
        panic!("{facts:?}")
    };
    let happened: Timestamp = "2026-01-01T00:09:59Z".parse().unwrap();
    assert_eq!(interrupted.deadline.unwrap().secs_since(happened), 120.0);
    assert_eq!(interrupted.node, "n1");
}

#[test]
fn both_forms_of_an_event_are_one_signal() {
    let text = "Scale-up: setting group g size to 4 instead of 3 (max: 9)";
    let core = event(
        "cluster-autoscaler",
        "ScaledUpGroup",
        ("ConfigMap", "s"),
        text,
    );
    let new = json!({
        "metadata": core["metadata"], "regarding": core["involvedObject"], "note": text,
        "reason": "ScaledUpGroup", "reportingController": "cluster-autoscaler",
        "deprecatedFirstTimestamp": core["firstTimestamp"], "eventTime": null,
        "deprecatedLastTimestamp": core["lastTimestamp"],
    });
    let core = Watch::new().observe(Change::Applied, Kind::Event, &core);
    assert_eq!(core.len(), 1);
    assert_eq!(
        Watch::new().observe(Change::Applied, Kind::Event, &new),
        core
    );
}

#[test]
fn an_hour_old_event_asks_for_nothing() {
    let mut watch = Watch::new();
    let text = "Scale-up: setting group g size to 4 instead of 3 (max: 9)";
    let old = event(
        "cluster-autoscaler",
        "ScaledUpGroup",
        ("ConfigMap", "s"),
        text,
    );
    watch.now = "2026-01-01T01:00:00Z".parse().unwrap();
    assert!(watch.see(Kind::Event, &old).is_empty());
    assert_eq!(watch.translator.skipped()["event too old"], 1);
}

#[test]
fn a_confirmation_repeats_nothing_and_a_pod_of_it_does() {
    let mut watch = Watch::new();
    let ca = |reason, about, text| event("cluster-autoscaler", reason, about, text);
    let group = ("ConfigMap", "s");
    let decided = "Scale-up: setting group g size to 4 instead of 3 (max: 9)";
    let confirmed = "Scale-up: group g size set to 4 instead of 3 (max: 9)";
    let pods = "pod triggered scale-up: [{g 3->4 (max: 9)}]";
    assert_eq!(
        watch
            .see(Kind::Event, &ca("ScaledUpGroup", group, decided))
            .len(),
        1
    );
    assert!(
        watch
            .see(Kind::Event, &ca("ScaledUpGroup", group, confirmed))
            .is_empty()
    );
    let facts = watch.see(Kind::Event, &ca("TriggeredScaleUp", ("Pod", "p1"), pods));
    let Fact::NodeRequested(requested) = &facts[0] else {
        panic!("{facts:?}")
    };
    assert_eq!(
        (requested.target, requested.pods.as_slice()),
        (Some(4), &["shop/p1".into()][..])
    );
}

#[test]
fn an_event_text_that_is_not_understood_is_counted() {
    let mut watch = Watch::new();
    let strange = event(
        "cluster-autoscaler",
        "ScaledUpGroup",
        ("ConfigMap", "s"),
        "Up!",
    );
    assert!(watch.see(Kind::Event, &strange).is_empty());
    assert_eq!(watch.translator.skipped()["event text not understood"], 1);
}

#[test]
fn a_cloud_s_group_id_is_the_pool_that_its_nodes_name() {
    let mut watch = Watch::new();
    let labels = json!({"metadata": {"labels": {"example.com/nodegroup": "batch"}}});
    watch.see(Kind::Node, &node("n1", &json!({})));
    watch.see(Kind::Node, &node("n2", &labels));
    let mut pool = |group: &str| {
        let text = format!("Scale-up: setting group {group} size to 9 instead of 1 (max: 9)");
        let grown = event(
            "cluster-autoscaler",
            "ScaledUpGroup",
            ("ConfigMap", "s"),
            &text,
        );
        match watch.see(Kind::Event, &grown).remove(0) {
            Fact::NodeRequested(requested) => requested.pool,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pool("eks-general-1ac2f6d0"), "general");
    assert_eq!(
        pool("https://x/zones/b/instanceGroups/gke-prod-batch-77aa-grp"),
        "batch"
    );
    assert_eq!(pool("eks-generality-1ac2"), "eks-generality-1ac2");
}

#[test]
fn a_falling_target_is_told_so_that_nobody_waits_for_nodes() {
    let mut watch = Watch::new();
    let status = |target: u32, registered: u32, back: &str| {
        let text = format!(
            "nodeGroups:\n- name: g\n  health:\n    cloudProviderTarget: {target}\n    \
             nodeCounts:\n      registered:\n        total: {registered}\n  scaleUp:\n    \
             status: {back}\n"
        );
        json!({"metadata": {"name": "cluster-autoscaler-status", "uid": "s",
            "resourceVersion": "1"}, "data": {"status": text}})
    };
    let mut see = |target, registered, back| {
        let facts = watch.see(Kind::ConfigMap, &status(target, registered, back));
        facts
            .into_iter()
            .map(|fact| match fact {
                Fact::NodeRequested(requested) => (requested.count, requested.target),
                Fact::NodeRemoved(removed) => (0, removed.pool.map(|_| 0)),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        see(3, 3, "NoActivity"),
        [],
        "nothing is on its way at the start"
    );
    assert_eq!(see(5, 3, "InProgress"), [(2, Some(5))]);
    assert_eq!(see(5, 4, "InProgress"), []);
    assert_eq!(see(4, 4, "Backoff"), [(0, Some(4)), (0, Some(0))]);
    assert_eq!(see(4, 4, "Backoff"), []);
}

#[test]
fn devices_are_expected_of_a_young_node_of_a_pool_that_has_them() {
    let mut watch = Watch::new();
    let old = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}}});
    watch.see(Kind::Node, &node("n1", &old));
    let mut devices =
        |name: &str, extra: &Value| match watch.see(Kind::Node, &node(name, extra)).remove(0) {
            Fact::NodeJoined(joined) => joined.shape.capacity.unwrap().extended,
            other => panic!("{other:?}"),
        };
    assert_eq!(devices("n2", &json!({}))["nvidia.com/gpu"], 2);
    let broken = json!({"metadata": {"creationTimestamp": "2025-12-31T00:00:00Z"}});
    assert!(
        devices("n3", &broken).is_empty(),
        "its plugin has had its time"
    );
}

#[test]
fn an_unregistered_node_gets_what_its_possible_claims_have_in_common() {
    let mut watch = Watch::new();
    let claim = |name: &str, zone: &str| {
        json!({
            "metadata": {"name": name, "uid": name, "resourceVersion": "1",
                "labels": {"karpenter.sh/nodepool": "general", "topology.kubernetes.io/zone": zone}},
            "spec": {}, "status": {"conditions": [{"type": "Launched", "status": "True"}]},
        })
    };
    for (name, zone) in [("c1", "a"), ("c2", "a"), ("c3", "b")] {
        let facts = watch.see(Kind::NodeClaim, &claim(name, zone));
        assert_eq!(types(&facts), ["node.requested", "node.launched"]);
    }
    let mut joined = |name: &str, zone: &str| {
        let mut young = node(
            name,
            &json!({"spec": {"taints": [
            {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]}}),
        );
        young["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
        match watch.see(Kind::Node, &young).remove(0) {
            Fact::NodeJoined(joined) => (joined.pool, joined.request),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(joined("n1", "a"), ("general".into(), None));
    assert_eq!(joined("n2", "b"), ("general".into(), Some("c3".into())));
    assert_eq!(joined("n3", "c"), (String::new(), None));
}

#[test]
fn a_pod_is_pending_again_when_the_scheduler_has_given_up() {
    let mut watch = Watch::new();
    let mut said = Vec::new();
    let unschedulable = json!({"status": {"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
    let bound = json!({"spec": {"nodeName": "n1"}});
    for extra in [
        json!({}),
        unschedulable.clone(),
        unschedulable,
        bound.clone(),
        bound,
    ] {
        said.extend(types(&watch.see(Kind::Pod, &pod("p", &extra))));
    }
    said.extend(types(&watch.gone(Kind::Pod, &pod("p", &json!({})))));
    assert_eq!(
        said,
        ["pod.pending", "pod.pending", "pod.bound", "pod.removed"]
    );
}

#[test]
fn a_pod_that_was_over_before_anybody_looked_is_not_spoken_of() {
    let mut watch = Watch::new();
    let over = pod(
        "p",
        &json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Succeeded"}}),
    );
    assert!(watch.see(Kind::Pod, &over).is_empty());
    assert!(watch.gone(Kind::Pod, &over).is_empty());
}

#[test]
fn a_short_pod_has_started_and_is_over_in_one_observation() {
    let mut watch = Watch::new();
    watch.see(Kind::Pod, &pod("p", &json!({"spec": {"nodeName": "n1"}})));
    let over = json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Succeeded",
        "containerStatuses": [{"state": {"terminated": {
            "startedAt": "2026-01-01T00:09:00Z", "finishedAt": "2026-01-01T00:09:05Z"}}}]}});
    let signals = watch.observe(Change::Applied, Kind::Pod, &pod("p", &over));
    let truth: Vec<_> = signals
        .iter()
        .map(|s| (s.truth, s.time.to_string()))
        .collect();
    assert_eq!(truth[0], (true, "2026-01-01T00:09:00.000000Z".into()));
    assert_eq!(truth[1], (false, "2026-01-01T00:09:05.000000Z".into()));
}

#[test]
fn the_owner_of_a_pod_is_what_stands_at_the_top() {
    let mut watch = Watch::new();
    let owned = |kind: &str, name: &str, labels: Value| {
        pod(
            "p",
            &json!({"metadata": {"uid": name, "labels": labels, "ownerReferences": [
            {"apiVersion": "x", "kind": kind, "name": name, "uid": format!("uid-{name}"),
             "controller": true}]}}),
        )
    };
    let job = json!({
        "metadata": {"name": "j1", "namespace": "shop", "uid": "uid-j1", "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly",
                "uid": "c", "controller": true}]},
        "spec": {"template": {"spec": {"containers": []}}},
    });
    assert!(
        watch.see(Kind::Job, &job).is_empty(),
        "its CronJob stands for it"
    );
    let mut owner =
        |kind, name, labels| match watch.see(Kind::Pod, &owned(kind, name, labels)).remove(0) {
            Fact::PodPending(wanted) => wanted.owner.unwrap().to_string(),
            other => panic!("{other:?}"),
        };
    assert_eq!(owner("Job", "j1", json!({})), "CronJob/shop/nightly");
    let hash = json!({"pod-template-hash": "7c5"});
    assert_eq!(owner("ReplicaSet", "web-7c5", hash), "Deployment/shop/web");
    assert_eq!(owner("StatefulSet", "db", json!({})), "StatefulSet/shop/db");
}

#[test]
fn an_announcement_waits_for_its_template_and_ends_with_its_object() {
    let mut watch = Watch::new();
    let buffer = json!({
        "metadata": {"name": "b", "namespace": "ml", "uid": "b", "resourceVersion": "1"},
        "spec": {"podTemplateRef": {"name": "t"}, "replicas": 3},
    });
    let template = json!({
        "metadata": {"name": "t", "namespace": "ml", "uid": "t", "resourceVersion": "1"},
        "template": {"spec": {"containers": [{"name": "c", "image": "a:1"}]}},
    });
    let mut said = watch.see(Kind::CapacityBuffer, &buffer);
    said.extend(watch.see(Kind::PodTemplate, &template));
    assert!(watch.see(Kind::CapacityBuffer, &buffer).is_empty());
    said.extend(watch.gone(Kind::CapacityBuffer, &buffer));
    let said = said.iter().map(|fact| match fact {
        Fact::CapacityAnnounced(capacity) => (capacity.count, capacity.needs.is_some()),
        other => panic!("{other:?}"),
    });
    assert_eq!(said.collect::<Vec<_>>(), [(3, false), (3, true), (0, true)]);
}

#[test]
fn scaling_alone_is_no_rollout() {
    let mut watch = Watch::new();
    let mut updated = |image: &str, replicas: u32, generation: u32, status: [u32; 3]| {
        let [observed, all, new] = status;
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "d", "resourceVersion": "1",
                "generation": generation},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                {"name": "c", "image": image}]}}},
            "status": {"observedGeneration": observed, "replicas": all, "updatedReplicas": new},
        });
        let facts = watch.see(Kind::Deployment, &deployment);
        facts.first().map(|fact| match fact {
            Fact::WorkloadApplied(workload) => (workload.updated, workload.surge),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(updated("a:1", 4, 1, [1, 4, 4]), Some((4, 1)));
    assert_eq!(
        updated("a:1", 8, 2, [1, 4, 4]),
        Some((8, 2)),
        "scaled, not seen yet"
    );
    assert_eq!(updated("a:1", 8, 2, [2, 8, 8]), None);
    assert_eq!(
        updated("a:2", 8, 3, [2, 8, 8]),
        Some((0, 2)),
        "a template nobody runs"
    );
    assert_eq!(updated("a:2", 8, 3, [3, 9, 5]), Some((5, 2)));
    assert_eq!(updated("a:2", 8, 3, [3, 8, 8]), Some((8, 2)));
}

#[test]
fn a_new_list_takes_away_what_it_does_not_hold() {
    let mut watch = Watch::new();
    watch.see(Kind::Pod, &pod("kept", &json!({})));
    watch.see(Kind::Pod, &pod("lost", &json!({})));
    watch.see(Kind::Node, &node("n1", &json!({})));
    let kept = HashSet::from(["uid-kept".to_owned()]);
    let now = watch.now;
    let signals = watch.translator.relisted(Kind::Pod, &kept, now);
    let ids: Vec<_> = signals.iter().map(|signal| signal.id.as_str()).collect();
    assert_eq!(ids, ["uid-lost/relist/removed"]);
    assert!(watch.translator.relisted(Kind::Pod, &kept, now).is_empty());
    let signals = watch.translator.relisted(Kind::Node, &HashSet::new(), now);
    assert_eq!(signals.len(), 1);
}

#[test]
fn the_largest_of_all_metrics_is_the_scaler_s_ratio() {
    let mut watch = Watch::new();
    let scaler = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "h", "resourceVersion": "1"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 9,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "External", "external": {"metric": {"name": "q"},
                    "target": {"type": "AverageValue", "averageValue": "30"}}}]},
        "status": {"currentReplicas": 4, "desiredReplicas": 0, "currentMetrics": [
            {"type": ""},
            {"type": "External", "external": {"metric": {"name": "q"},
                "current": {"value": "300"}}}],
            "conditions": [{"type": "ScalingLimited", "status": "True", "reason": "ScaleUpLimit"}]},
    });
    let facts = watch.see(Kind::HorizontalPodAutoscaler, &scaler);
    let Fact::ScalerObserved(scaler) = &facts[0] else {
        panic!("{facts:?}")
    };
    assert_eq!(
        scaler.ratio,
        Some(2.5),
        "300 over 4 pods, 30 wanted of each"
    );
    assert_eq!(scaler.desired, 4, "no wish before the first metric");
    assert!(scaler.limited.is_some());
}

#[test]
fn a_binding_that_is_seen_before_its_condition_takes_no_time_from_the_older_one() {
    let condition = |status: &str, at: &str| {
        json!({"status": {"conditions": [{"type": "PodScheduled", "status": status,
            "reason": "Unschedulable", "lastTransitionTime": at}]}})
    };
    let bound = json!({"spec": {"nodeName": "a"}});
    let time = |status: &str, at: &str| {
        let mut watch = Watch::new();
        let mut object = pod("p", &condition("False", "2026-01-01T00:08:00Z"));
        watch.see(Kind::Pod, &object);
        merge(&mut object, &bound);
        merge(&mut object, &condition(status, at));
        let signals = watch.observe(Change::Applied, Kind::Pod, &object);
        assert_eq!(signals.len(), 1);
        (signals[0].time, watch.now)
    };
    let (said, now) = time("True", "2026-01-01T00:09:59Z");
    assert_eq!(now.secs_since(said), 1.0);
    let (said, now) = time("False", "2026-01-01T00:08:00Z");
    assert_eq!(said, now);
}
