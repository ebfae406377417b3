//! Whole controllers: from a pod that waits to the plan of the node that comes for it.

use std::time::Duration;

use forelay::api::{Entry, NodePrefetch, PolicyMode, PrefetchPolicy, PrefetchPolicySpec};
use forelay::embedded::apiserver::ObjectRef;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::{NAMESPACE, TestCluster, eventually, images, now, of};
use crate::gate::Gate;
use crate::replica::{Chronicle, LEASE_NAME, Replica, STATE_NAME};

const WEB: &str = "docker.io/library/nginx:1.27";
const LOG: &str = "registry.example/ops/logger:3";

fn has(image: &'static str) -> impl Fn(&NodePrefetch) -> bool {
    move |plan| images(plan).iter().any(|found| found == image)
}

async fn daemon_set(cluster: &TestCluster, name: &str, image: &str) {
    let sets: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let set: DaemonSet = of(json!({
        "metadata": {"name": name, "labels": {"forelay.dev/test": "1"}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "forelay.dev/test": "1"}},
                "spec": {"containers": [{"name": "main", "image": image}],
                    "tolerations": [{"operator": "Exists"}]},
            },
        },
    }));
    sets.create(&PostParams::default(), &set).await.unwrap();
}

async fn remove_daemon_set(cluster: &TestCluster, name: &str) {
    let sets: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    drop(sets.delete(name, &DeleteParams::background()).await);
}

async fn leads(replica: &Replica) {
    eventually("it leads", || async { replica.leads().then_some(()) }).await;
}

/// A pod waits, a node joins: its plan has the pod's image, belongs to the Node, goes with it.
pub async fn plan_of_a_node(cluster: &TestCluster) {
    let replica = Replica::start(&cluster.client, "only", |_| {});
    cluster.pod_waits("waits", "nginx:1.27").await;
    let node = cluster.node_joins("plan-1", "general").await;
    let plan = cluster
        .node_plan("plan-1", "the pod's image", has(WEB))
        .await;
    assert!(plan.spec.epoch > 0);
    let owners = plan.metadata.owner_references.unwrap_or_default();
    assert_eq!(owners.len(), 1);
    assert_eq!(Some(&owners[0].uid), node.metadata.uid.as_ref());
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].name.as_str()),
        ("Node", "plan-1")
    );

    cluster
        .nodes()
        .delete("plan-1", &DeleteParams::default())
        .await
        .unwrap();
    let plans = cluster.node_plans();
    eventually("the plan goes with its node", || async {
        plans
            .get_opt("plan-1")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    replica.stop().await;
}

/// The leader is killed; a node that joins then is planned for by the successor, and what any node
/// of its pool wants is there all the time.
pub async fn killed_leader(cluster: &TestCluster) {
    let chronicle = Chronicle::of(&cluster.client);
    daemon_set(cluster, "kill-logger", LOG).await;
    let first = Replica::start(&cluster.client, "first", |_| {});
    cluster.node_joins("kill-1", "general").await;
    cluster
        .node_plan("kill-1", "the DaemonSet's image", has(LOG))
        .await;
    let pools = cluster.pool_plans();
    let pool = eventually("the pool's plan", || async {
        let plan = pools.get_opt("general").await.unwrap()?;
        (!plan.spec.entries.is_empty()).then_some(plan)
    })
    .await;
    let second = Replica::start(&cluster.client, "second", |_| {});
    eventually("the second has heard of the first", || async {
        (second.instruments.epoch.get() > 0.0).then_some(())
    })
    .await;
    assert!(!second.leads());

    first.kill().await;
    cluster.node_joins("kill-2", "general").await;
    let kept = pools.get("general").await.unwrap();
    assert_eq!(kept.spec.entries.len(), pool.spec.entries.len());
    let plan = cluster
        .node_plan("kill-2", "by the successor", has(LOG))
        .await;
    assert!(plan.spec.epoch > pool.spec.epoch);
    second.stop().await;
    remove_daemon_set(cluster, "kill-logger").await;
    chronicle.assert_no_epoch_went_back();
}

/// The leader falls silent in the middle of a write; its successor writes; the past arrives.
pub async fn paused_leader(cluster: &TestCluster) {
    let chronicle = Chronicle::of(&cluster.client);
    let gate = Gate::before_cluster(cluster).await;
    let past = gate.client(cluster);

    let first = Replica::start(&past, "first", |_| {});
    leads(&first).await;
    cluster.node_joins("pause-1", "general").await;
    cluster.pod_waits("pause-a", "nginx:1.27").await;
    let old = cluster.node_plan("pause-1", "by the first", has(WEB)).await;
    let second = Replica::start(&cluster.client, "second", |_| {});

    gate.hold();
    cluster
        .pod_waits("pause-b", "registry.example/ops/logger:3")
        .await;
    eventually("the first is in the middle of a write", || async {
        gate.holds("nodeprefetches/pause-1").then_some(())
    })
    .await;
    leads(&second).await;
    let both = |plan: &NodePrefetch| plan.spec.epoch > old.spec.epoch && has(LOG)(plan);
    let new = cluster.node_plan("pause-1", "by the second", both).await;

    gate.release();
    eventually("the API server refuses the past", || async {
        (first.instruments.outdated_writes() > 0).then_some(())
    })
    .await;
    eventually("the first steps down", || async {
        (!first.leads()).then_some(())
    })
    .await;
    cluster
        .pod_waits("pause-c", "registry.example/ops/probe:1")
        .await;
    let later = cluster
        .node_plan(
            "pause-1",
            "still by the second",
            has("registry.example/ops/probe:1"),
        )
        .await;
    assert_eq!(later.spec.epoch, new.spec.epoch);
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let lease = leases.get(LEASE_NAME).await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some("second"));
    first.stop().await;
    second.stop().await;
    assert!(chronicle.newest() >= new.spec.epoch);
    chronicle.assert_no_epoch_went_back();
}

/// What new nodes of a pool ran is known after a restart, when those nodes are gone.
pub async fn restart(cluster: &TestCluster) {
    let first = Replica::start(&cluster.client, "first", |_| {});
    let owner = web_set(cluster).await;
    cluster.node_joins("elsewhere", "other").await;
    pod_runs(cluster, &owner, "web-stays", "elsewhere").await;
    for i in 0..4 {
        let (node, pod) = (format!("learn-{i}"), format!("web-{i}"));
        cluster.node_joins(&node, "general").await;
        pod_runs(cluster, &owner, &pod, &node).await;
        cluster.node_plan(&node, "the pod's image", has(WEB)).await;
    }
    for i in 0..4 {
        let object =
            |kind: &str, namespace: &str, name: &str| ObjectRef::new("v1", kind, namespace, name);
        let handle = cluster.handle();
        handle
            .remove(&object("Pod", NAMESPACE, &format!("web-{i}")))
            .unwrap();
        handle
            .remove(&object("Node", "", &format!("learn-{i}")))
            .unwrap();
    }
    first.stop().await;

    let second = Replica::start(&cluster.client, "second", |_| {});
    leads(&second).await;
    cluster.node_joins("learn-5", "general").await;
    let plan = cluster
        .node_plan("learn-5", "from history alone", has(WEB))
        .await;
    let is_web = |entry: &&Entry| entry.image.as_str() == WEB;
    let entry = plan.spec.entries.iter().find(is_web).unwrap();
    assert_eq!(entry.reason.kind, "History", "{entry:?}");
    second.stop().await;
}

/// A Deployment of one pod, with its ReplicaSet: the reference that its pods carry.
async fn web_set(cluster: &TestCluster) -> serde_json::Value {
    let spec = json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "nginx:1.27"}]},
        },
    });
    let handle = cluster.handle();
    let reference = |kind: &str, object: serde_json::Value| {
        json!({"apiVersion": "apps/v1", "kind": kind, "controller": true,
            "name": object["metadata"]["name"], "uid": object["metadata"]["uid"]})
    };
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
        "metadata": {"name": "web", "namespace": NAMESPACE, "uid": "web-uid", "generation": 1},
        "status": {"replicas": 1, "updatedReplicas": 1, "observedGeneration": 1},
    });
    let deployment = handle.put(deployment).unwrap();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec,
        "metadata": {"name": "web-1", "namespace": NAMESPACE, "uid": "web-1-uid",
            "ownerReferences": [reference("Deployment", deployment)]},
    });
    reference("ReplicaSet", handle.put(set).unwrap())
}

/// A pod that was bound to a node just now.
async fn pod_runs(cluster: &TestCluster, owner: &serde_json::Value, name: &str, node: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("{name}-uid"),
            "ownerReferences": [owner], "creationTimestamp": now()},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "nginx:1.27"}]},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}]},
    });
    cluster.handle().put(pod).unwrap();
}

/// State of a version that is not known is left alone until there is something to replace it.
pub async fn unknown_state(cluster: &TestCluster) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let map: ConfigMap = of(json!({
        "metadata": {"name": STATE_NAME}, "data": {"state.json": r#"{"version":999}"#},
    }));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let replica = Replica::start(&cluster.client, "only", |_| {});
    cluster.pod_waits("unknown", "nginx:1.27").await;
    cluster.node_joins("unknown-1", "general").await;
    cluster
        .node_plan("unknown-1", "all the same", has(WEB))
        .await;
    replica.stop().await;
}

/// A controller that runs before its definitions are installed publishes when they are.
pub async fn late_definitions(cluster: &TestCluster) {
    let replica = Replica::start(&cluster.client, "only", |_| {});
    cluster.pod_waits("late", "nginx:1.27").await;
    cluster.node_joins("late-1", "general").await;
    eventually("a write finds no definition", || async {
        (replica.instruments.undefined_writes() > 0).then_some(())
    })
    .await;
    cluster.install().await;
    cluster
        .node_plan("late-1", "after the installation", has(WEB))
        .await;
    replica.stop().await;
}

/// Observe writes nothing, On writes, Off withdraws at once what is there.
pub async fn modes(cluster: &TestCluster) {
    let replica = Replica::start(&cluster.client, "only", |options| {
        options.default_mode = PolicyMode::Observe;
    });
    cluster.pod_waits("mode-a", "nginx:1.27").await;
    cluster.node_joins("mode-1", "general").await;
    leads(&replica).await;
    eventually("a plan is made", || async {
        (replica.instruments.node_plans_made() > 0).then_some(())
    })
    .await;
    let plans = cluster.node_plans();
    assert!(plans.get_opt("mode-1").await.unwrap().is_none());

    let policies: Api<PrefetchPolicy> = Api::all(cluster.client.clone());
    let spec = PrefetchPolicySpec {
        mode: PolicyMode::On,
        exclude: vec!["registry.example/*".into()],
        ..PrefetchPolicySpec::default()
    };
    let policy = PrefetchPolicy::new("all", spec);
    policies
        .create(&PostParams::default(), &policy)
        .await
        .unwrap();
    cluster.node_plan("mode-1", "switched on", has(WEB)).await;
    cluster.pod_waits("mode-b", LOG).await;
    cluster.pod_waits("mode-c", "redis:7").await;
    let redis = has("docker.io/library/redis:7");
    let plan = cluster
        .node_plan("mode-1", "what is not excluded", redis)
        .await;
    assert!(!has(LOG)(&plan));

    let off = Patch::Merge(json!({"spec": {"mode": "Off"}}));
    policies
        .patch("all", &PatchParams::default(), &off)
        .await
        .unwrap();
    let is_empty = |plan: &NodePrefetch| plan.spec.entries.is_empty();
    cluster.node_plan("mode-1", "withdrawn", is_empty).await;
    let pools = cluster.pool_plans();
    eventually("the pool's plan is withdrawn", || async {
        let plan = pools.get_opt("general").await.unwrap();
        plan.is_none_or(|plan| plan.spec.entries.is_empty())
            .then_some(())
    })
    .await;
    eventually("the policy says that it is in force", || async {
        let status = policies.get("all").await.unwrap().status?;
        let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready")?;
        (ready.status == "True" && ready.observed_generation == Some(2)).then_some(())
    })
    .await;
    replica.stop().await;
}

/// A pod that appears while the watches have expired is in the plan after they are begun again.
pub async fn expired_watches(cluster: &TestCluster) {
    let replica = Replica::start(&cluster.client, "only", |options| {
        options.lease.duration = Duration::from_secs(5);
    });
    cluster.pod_waits("expire-a", "nginx:1.27").await;
    cluster.node_joins("expire-1", "general").await;
    cluster.node_plan("expire-1", "before", has(WEB)).await;
    let handle = cluster.handle();
    let pod = cluster.pods().get("expire-a").await.unwrap();
    let mut pod = serde_json::to_value(pod).unwrap();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] = json!({"name": "expire-b", "namespace": NAMESPACE, "uid": "expire-b"});
    pod["spec"]["containers"][0]["image"] = json!(LOG);
    handle.pause();
    handle.put(pod).unwrap();
    handle.expire_watches();
    handle.resume();
    cluster.node_plan("expire-1", "after", has(LOG)).await;
    replica.stop().await;
}
