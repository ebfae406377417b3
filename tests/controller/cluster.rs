//! A cluster for one test: the embedded API server, or a real one, with all that the test made gone
//! at its end.

use std::sync::Arc;
use std::time::Duration;

use forelay::api;
use forelay::embedded::apiserver::{ApiServer, Handle, Options};
use forelay::port::Clock;
use forelay::telemetry::clock::SystemClock;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A wait longer than this means that what is waited for does not come.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Namespace of everything that has one.
pub const NAMESPACE: &str = "default";
/// Pool label of the test nodes; one of the defaults.
pub const POOL_LABEL: &str = "karpenter.sh/nodepool";

/// Tests share a real cluster one after the other: controllers see all of it.
static REAL: Mutex<()> = Mutex::const_new(());

/// A running API server.
pub struct TestCluster {
    pub client: Client,
    /// Where it listens.
    pub config: Config,
    pub embedded: Option<Embedded>,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// A server of this process.
pub struct Embedded {
    pub handle: Handle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

/// Waits for a condition and says which one did not come true.
pub async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("never: {what}"))
}

impl TestCluster {
    /// One in this process.
    pub async fn embedded() -> Self {
        let cluster = Self::bare().await;
        cluster.install().await;
        cluster
    }

    /// One in this process, without our definitions.
    pub async fn bare() -> Self {
        // `RUST_LOG=forelay=debug` shows what the controllers say.
        drop(
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_test_writer()
                .try_init(),
        );
        let server = ApiServer::new(Options::new(Arc::new(SystemClock)));
        let handle = server.handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            server.serve(listener, stopped).await
        });
        let config = Config::new(url.parse().unwrap());
        let embedded = Embedded {
            handle,
            stop,
            served,
        };
        Self {
            client: Client::try_from(config.clone()).unwrap(),
            config,
            embedded: Some(embedded),
            _turn: None,
        }
    }

    /// The one that `FORELAY_TEST_KUBECONFIG` names; it has to be there when
    /// `FORELAY_TEST_REQUIRE_KUBE` is 1.
    pub async fn real() -> Option<Self> {
        let required = std::env::var("FORELAY_TEST_REQUIRE_KUBE").is_ok_and(|v| v == "1");
        let Some(path) = std::env::var_os("FORELAY_TEST_KUBECONFIG") else {
            assert!(!required, "FORELAY_TEST_KUBECONFIG names no kubeconfig");
            return None;
        };
        let turn = REAL.lock().await;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let cluster = Self {
            client: Client::try_from(config.clone()).unwrap(),
            config,
            embedded: None,
            _turn: Some(turn),
        };
        cluster.clear().await;
        cluster.install().await;
        Some(cluster)
    }

    /// The handle of the embedded server.
    pub fn handle(&self) -> &Handle {
        &self.embedded.as_ref().expect("an embedded server").handle
    }

    /// Installs our definitions.
    pub async fn install(&self) {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let params = PatchParams::apply("forelay-test").force();
        for crd in api::crds() {
            let name = crd.name_any();
            crds.patch(&name, &params, &Patch::Apply(&crd))
                .await
                .unwrap();
        }
        let plans: Api<api::PrefetchPolicy> = Api::all(self.client.clone());
        eventually("the definitions are served", || async {
            plans.list(&ListParams::default()).await.ok()
        })
        .await;
    }

    /// Removes what tests make.
    async fn clear(&self) {
        let everything = ListParams::default();
        let ours = ListParams::default().labels("forelay.dev/test=1");
        let params = DeleteParams::default().grace_period(0);
        let (c, ns) = (&self.client, NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(c.clone(), ns);
        let nodes: Api<Node> = Api::all(c.clone());
        let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(c.clone(), ns);
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(c.clone(), ns);
        drop(pods.delete_collection(&params, &ours).await);
        drop(nodes.delete_collection(&params, &ours).await);
        for name in ["forelay-test", "forelay-test-state"] {
            drop(leases.delete(name, &params).await);
            drop(maps.delete(name, &params).await);
        }
        let plans: Api<api::NodePrefetch> = Api::all(c.clone());
        drop(plans.delete_collection(&params, &everything).await);
        let pools: Api<api::PoolPrefetch> = Api::all(c.clone());
        drop(pools.delete_collection(&params, &everything).await);
        let policies: Api<api::PrefetchPolicy> = Api::all(c.clone());
        drop(policies.delete_collection(&params, &everything).await);
    }

    /// Ends the server, or leaves the real one as it was.
    pub async fn end(self) {
        match self.embedded {
            None => self.clear().await,
            Some(server) => {
                drop(self.client);
                server.stop.send(()).unwrap();
                timeout(PATIENCE, server.served)
                    .await
                    .expect("the server ends")
                    .unwrap()
                    .unwrap();
            }
        }
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn node_plans(&self) -> Api<api::NodePrefetch> {
        Api::all(self.client.clone())
    }

    pub fn pool_plans(&self) -> Api<api::PoolPrefetch> {
        Api::all(self.client.clone())
    }

    /// A node of a pool joins, and is Ready.
    /// It has been Ready for a while: a pod that is made now was not waited for by it.
    pub async fn node_joins(&self, name: &str, pool: &str) -> Node {
        let node: Node = of(json!({
            "metadata": {"name": name, "labels": {
                POOL_LABEL: pool, "forelay.dev/test": "1",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
            }},
        }));
        let node = self
            .nodes()
            .create(&PostParams::default(), &node)
            .await
            .unwrap();
        let room =
            json!({"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        let status = json!({"status": {
            "capacity": room, "allocatable": room,
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux", "bootID": "",
                "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": ""},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastTransitionTime": a_while_ago()}],
        }});
        let params = PatchParams::default();
        self.nodes()
            .patch_status(name, &params, &Patch::Merge(status))
            .await
            .unwrap();
        node
    }

    /// A pod that the scheduler found no place for.
    pub async fn pod_waits(&self, name: &str, image: &str) -> Pod {
        let pod: Pod = of(json!({
            "metadata": {"name": name, "labels": {"forelay.dev/test": "1"}},
            "spec": {
                "schedulerName": "nobody",
                "containers": [{"name": "main", "image": image,
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}],
            },
        }));
        let pod = self
            .pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
        let status = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "lastTransitionTime": now()}]}});
        let params = PatchParams::default();
        self.pods()
            .patch_status(name, &params, &Patch::Merge(status))
            .await
            .unwrap();
        pod
    }

    /// The images of a node's plan, once `is_wanted` likes them.
    pub async fn node_plan(
        &self,
        node: &str,
        what: &str,
        is_wanted: impl Fn(&api::NodePrefetch) -> bool,
    ) -> api::NodePrefetch {
        let plans = self.node_plans();
        eventually(&format!("plan of {node}: {what}"), || async {
            let plan = plans.get_opt(node).await.unwrap();
            plan.filter(|plan| is_wanted(plan))
        })
        .await
    }
}

/// The images of a plan.
pub fn images(plan: &api::NodePrefetch) -> Vec<String> {
    let names = plan.spec.entries.iter().map(|e| e.image.to_string());
    names.collect()
}

/// An object from its JSON.
pub fn of<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// Now, as API servers write it.
pub fn now() -> String {
    stamp(Duration::ZERO)
}

/// Half a minute before [`now`].
fn a_while_ago() -> String {
    stamp(Duration::from_secs(30))
}

fn stamp(ago: Duration) -> String {
    let now = (SystemClock.now() - ago).as_micros();
    let now = jiff::Timestamp::from_microsecond(now).unwrap();
    format!("{now:.0}")
}
