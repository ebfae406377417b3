//! What the watches hear of an API server.

use std::sync::Arc;
use std::time::Duration;

use forelay::api::{LoadQuery, PolicyMode, PrefetchPolicy, PrefetchPolicySpec};
use forelay::controller::metric::Instruments;
use forelay::controller::policy::{Policies, Verdict, follow, report};
use forelay::domain::plan::{Plan, Target};
use forelay::domain::signal::{Fact, Signal};
use forelay::domain::time::Timestamp;
use forelay::embedded::apiserver::ObjectRef;
use forelay::port::Clock;
use forelay::source::kubernetes::Settings;
use forelay::source::kubernetes::watch::{Observation, WatchOptions, watch_cluster};
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::{NAMESPACE, PATIENCE, TestCluster, eventually};

/// The watches of one cluster.
struct Ears {
    heard: mpsc::Receiver<Observation>,
    task: JoinHandle<()>,
    metrics: Metrics,
}

impl Ears {
    fn open(cluster: &TestCluster) -> Self {
        let (out, heard) = mpsc::channel(64);
        let mut metrics = Metrics::new("test");
        let options = WatchOptions {
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
            autoscaler_namespace: "kube-system".into(),
            discovery_interval: Duration::from_millis(200),
            counters: Instruments::register(&mut metrics).watches,
        };
        let task = tokio::spawn(watch_cluster(cluster.client.clone(), options, None, out));
        Self {
            heard,
            task,
            metrics,
        }
    }

    async fn next(&mut self) -> Observation {
        timeout(PATIENCE, self.heard.recv())
            .await
            .expect("something is heard")
            .expect("the watches go on")
    }

    /// Everything until the cluster is listed.
    async fn settled(&mut self) -> Vec<Signal> {
        let mut signals = Vec::new();
        loop {
            match self.next().await {
                Observation::Settled => return signals,
                Observation::Signal(signal) => signals.push(signal),
            }
        }
    }

    /// The next signal that is wanted; others are passed over.
    async fn wait_for(&mut self, what: &str, is_wanted: impl Fn(&Fact) -> bool) -> Signal {
        let search = async {
            loop {
                if let Observation::Signal(signal) = self.next().await
                    && is_wanted(&signal.fact)
                {
                    return signal;
                }
            }
        };
        let signal = timeout(PATIENCE, search).await;
        signal.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn close(self) {
        drop(self.heard);
        timeout(PATIENCE, self.task)
            .await
            .expect("the watches end")
            .unwrap();
    }
}

fn joined(name: &'static str) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::NodeJoined(joined) if joined.node == name)
}

fn removed(name: &'static str) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::NodeRemoved(gone) if gone.node.as_deref() == Some(name))
}

fn pending(name: &'static str) -> impl Fn(&Fact) -> bool {
    let name = format!("{NAMESPACE}/{name}");
    move |fact| matches!(fact, Fact::PodPending(wanted) if wanted.pod.name == name)
}

/// What is there is listed, what comes is watched; a kind that is installed later is noticed.
pub async fn kinds(cluster: &TestCluster) {
    cluster.node_joins("watch-1", "general").await;
    cluster.pod_waits("watch-a", "nginx:1").await;
    let mut ears = Ears::open(cluster);
    let signals = ears.settled().await;
    assert!(signals.iter().any(|s| joined("watch-1")(&s.fact)));
    assert!(signals.iter().any(|s| pending("watch-a")(&s.fact)));

    cluster.pod_waits("watch-b", "nginx:1").await;
    ears.wait_for("the second pod", pending("watch-b")).await;
    let now = DeleteParams::default().grace_period(0);
    cluster.pods().delete("watch-b", &now).await.unwrap();
    let gone = |fact: &Fact| matches!(fact, Fact::PodRemoved(_));
    ears.wait_for("the second pod goes", gone).await;

    if cluster.embedded.is_some() {
        install_claims(cluster).await;
        let requested = |fact: &Fact| matches!(fact, Fact::NodeRequested(r) if r.request.as_deref() == Some("claim-1"));
        ears.wait_for("a claim of a kind that was not there", requested)
            .await;
    }
    cluster
        .nodes()
        .delete("watch-1", &DeleteParams::default())
        .await
        .unwrap();
    ears.wait_for("the node goes", removed("watch-1")).await;
    ears.close().await;
}

async fn install_claims(cluster: &TestCluster) {
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "nodeclaims.karpenter.sh"},
        "spec": {
            "group": "karpenter.sh", "scope": "Cluster",
            "names": {"kind": "NodeClaim", "plural": "nodeclaims", "singular": "nodeclaim"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": anything}}],
        },
    });
    crds.patch(
        "nodeclaims.karpenter.sh",
        &PatchParams::apply("forelay-test"),
        &Patch::Apply(crd),
    )
    .await
    .unwrap();
    let claim = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": {"name": "claim-1", "labels": {"karpenter.sh/nodepool": "general"}},
        "spec": {"requirements": [
            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]},
    });
    eventually("the claim is taken", || async {
        cluster.handle().create("forelay-test", claim.clone()).ok()
    })
    .await;
}

/// What happened while the watches were broken is heard after the lists that follow.
pub async fn expiry(cluster: &TestCluster) {
    for name in ["old-1", "old-2"] {
        cluster.node_joins(name, "general").await;
    }
    cluster.pod_waits("stays", "nginx:1").await;
    let mut ears = Ears::open(cluster);
    ears.settled().await;

    let handle = cluster.handle();
    let node = |name: &str| ObjectRef::new("v1", "Node", "", name);
    let mut fresh = handle.get(&node("old-2")).unwrap();
    handle.pause();
    handle.remove(&node("old-1")).unwrap();
    fresh["metadata"] = json!({"name": "new-1", "uid": "new-1-uid",
        "labels": fresh["metadata"]["labels"]});
    handle.put(fresh).unwrap();
    handle.expire_watches();
    handle.resume();

    let mut missing = vec!["removed", "joined"];
    while !missing.is_empty() {
        let news = |fact: &Fact| removed("old-1")(fact) || joined("new-1")(fact);
        let signal = ears.wait_for("news of the silent time", news).await;
        let heard = if joined("new-1")(&signal.fact) {
            "joined"
        } else {
            "removed"
        };
        missing.retain(|what| *what != heard);
    }
    // Nothing that stayed is said to have gone: the next news is the next event.
    cluster.pod_waits("later", "nginx:1").await;
    loop {
        let Observation::Signal(signal) = ears.next().await else {
            panic!("settled twice");
        };
        assert!(!matches!(signal.fact, Fact::PodRemoved(_)), "{signal:?}");
        assert!(!removed("old-2")(&signal.fact), "{signal:?}");
        if pending("later")(&signal.fact) {
            break;
        }
    }
    ears.close().await;
}

/// An object that cannot be decoded is counted, and its neighbours are heard.
pub async fn broken_object(cluster: &TestCluster) {
    let handle = cluster.handle();
    let scaler = |name: &str, current: serde_json::Value| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": name},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name, "apiVersion": "apps/v1"},
                "minReplicas": 1, "maxReplicas": 9},
            "status": {"currentReplicas": current, "desiredReplicas": 3},
        })
    };
    handle.put(scaler("bad", json!({"how": "many"}))).unwrap();
    handle.put(scaler("good", json!(2))).unwrap();
    let mut ears = Ears::open(cluster);
    let signals = ears.settled().await;
    let scalers = signals
        .iter()
        .filter(|s| matches!(s.fact, Fact::ScalerObserved(_)));
    assert_eq!(scalers.count(), 1);
    let page = ears.metrics.encode().unwrap();
    let line = r#"forelay_skipped_objects_total{kind="horizontalpodautoscalers"} 1"#;
    assert!(page.contains(line), "{page}");

    handle.put(scaler("bad", json!(4))).unwrap();
    let mended = |fact: &Fact| matches!(fact, Fact::ScalerObserved(s) if s.scaler.name == "bad");
    ears.wait_for("the mended object", mended).await;
    ears.close().await;
}

/// Policies take effect when they are written, and show that they do.
pub async fn policies(cluster: &TestCluster) {
    let (told, mut seen) = watch::channel(Policies::unknown(PolicyMode::Observe));
    let task = tokio::spawn(follow(cluster.client.clone(), told));
    let empty = Plan::empty(Target::Pool("general".into()), 0, Timestamp::ZERO);
    let mut verdict = async |wanted: Verdict| {
        let is_wanted = |p: &Policies| p.judge("general", &empty) == wanted;
        timeout(PATIENCE, seen.wait_for(is_wanted))
            .await
            .unwrap_or_else(|_| panic!("never: {wanted:?}"))
            .unwrap()
            .clone()
    };
    verdict(Verdict::Withhold(PolicyMode::Observe)).await;

    let api: Api<PrefetchPolicy> = Api::all(cluster.client.clone());
    let policy = PrefetchPolicy::new(
        "all",
        PrefetchPolicySpec {
            mode: PolicyMode::On,
            load_queries: vec![LoadQuery {
                name: "rps".into(),
                query: "sum(rate(requests_total[1m]))".into(),
                workload: Some("web".into()),
            }],
            ..PrefetchPolicySpec::default()
        },
    );
    api.create(&PostParams::default(), &policy).await.unwrap();
    let known = verdict(Verdict::Publish(empty.clone())).await;
    report(cluster.client.clone(), known, true, SystemClock.now()).await;
    let shown = api.get("all").await.unwrap().status.unwrap_or_default();
    let ready = shown
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "InvalidLoadQuery")
    );
    assert!(ready.message.contains("rps"), "{}", ready.message);

    let patch = Patch::Merge(json!({"spec": {"mode": "Off", "loadQueries": []}}));
    api.patch("all", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let known = verdict(Verdict::Withhold(PolicyMode::Off)).await;
    report(cluster.client.clone(), known, true, SystemClock.now()).await;
    let shown = api.get("all").await.unwrap().status.unwrap_or_default();
    let ready = shown
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.status, "True");

    api.delete("all", &DeleteParams::default()).await.unwrap();
    verdict(Verdict::Withhold(PolicyMode::Observe)).await;
    task.abort();
}
