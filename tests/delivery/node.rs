//! A node with an agent: an API server, a layout on disk, plans.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forelay::agent::nice::Niceness;
use forelay::agent::{self, Options};
use forelay::api::{self, NodePrefetch, NodePrefetchSpec, PoolPrefetchSpec};
use forelay::domain::image::{Digest, ImageRef};
use forelay::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use forelay::domain::quantity::ByteSize;
use forelay::domain::signal::Signal;
use forelay::domain::time::Timestamp;
use forelay::embedded::apiserver::{self, ApiServer, Handle};
use forelay::engine::node::Limits;
use forelay::port::Clock;
use forelay::registry::{Options as ClientOptions, Registry};
use forelay::runtime::oci_layout::OciLayout;
use forelay::store::Store;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use kube::Client;
use kube::api::Api;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache::NAME;
use crate::upstream::Pushed;

pub const NODE: &str = "node-1";
pub const POOL: &str = "pool-1";

/// An API server that knows our resources and one Node; ends when dropped.
pub struct Cluster {
    pub url: String,
    pub handle: Handle,
    _end: DropGuard,
}

/// An agent in this process; ended by `stop`.
pub struct Running {
    pub signals: mpsc::Receiver<Signal>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Cluster {
    pub async fn start() -> Self {
        let server = ApiServer::new(apiserver::Options::new(Arc::new(SystemClock)));
        let handle = server.handle();
        for crd in api::crds() {
            handle.put(json!(crd)).unwrap();
        }
        let labels = json!({"karpenter.sh/nodepool": POOL});
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "labels": labels}});
        handle.put(node).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        tokio::spawn(async move { server.serve(listener, ended).await });
        Self {
            url,
            handle,
            _end: end.drop_guard(),
        }
    }

    /// Publishes the node's plan, or its pool's, as the controller would.
    pub fn publish(&self, target: Target, entries: Vec<PlanEntry>) {
        let plan = Plan {
            entries,
            ..Plan::empty(target, 1, SystemClock.now())
        };
        let (kind, name, spec) = match &plan.target {
            Target::Node(name) => {
                let spec = NodePrefetchSpec::from(&plan);
                ("NodePrefetch", name.clone(), json!(spec))
            }
            Target::Pool(name) => {
                let spec = PoolPrefetchSpec::from(&plan);
                ("PoolPrefetch", api::pool_object_name(name), json!(spec))
            }
        };
        let object = json!({"apiVersion": "forelay.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        let manager = api::CONTROLLER_MANAGER;
        self.handle.apply_object(manager, object, true).unwrap();
    }

    pub async fn node_prefetch(&self) -> NodePrefetch {
        let api: Api<NodePrefetch> = Api::all(client(&self.url));
        api.get(NODE).await.unwrap()
    }
}

impl Running {
    pub async fn stop(self) {
        self.end.cancel();
        self.task.await.unwrap();
    }
}

pub fn client(url: &str) -> Client {
    Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
}

/// An entry that does not expire during any test.
pub fn entry(image: &ImageRef, pushed: &Pushed, priority: Priority) -> PlanEntry {
    PlanEntry {
        image: image.clone(),
        digest: pushed.manifest.digest.clone(),
        platform: pushed.manifest.platform.clone(),
        priority,
        reason: Reason::PendingPod("team/web-1".into()),
        probability: 0.9,
        bytes: pushed.manifest.size(),
        deadline: None,
        expires: SystemClock.now() + Duration::from_hours(1),
    }
}

/// Options of an agent that asks `mirrors` first and then, if it may, `origin`.
pub fn options(layout: &Path, mirrors: &[String], origin: Option<String>) -> Options {
    let (store, _) = Store::open(layout, SystemClock.now()).unwrap();
    let runtime = OciLayout::open(layout, Arc::new(store)).unwrap();
    let source = Registry::new(ClientOptions {
        mirrors: mirrors.to_vec(),
        use_origins: origin.is_some(),
        origins: origin
            .map(|url| (NAME.to_owned(), url))
            .into_iter()
            .collect(),
        system_proxy: false,
        idle_timeout: Duration::from_secs(20),
        pause: Duration::from_millis(1),
        ..ClientOptions::default()
    });
    let source = Arc::new(source.unwrap());
    Options {
        node: NODE.to_owned(),
        pool: None,
        pool_labels: vec!["other".into(), "karpenter.sh/nodepool".into()],
        clock: Arc::new(SystemClock),
        runtime: Arc::new(runtime),
        source: source.clone(),
        tags: Some(source),
        unrecorded: Vec::new(),
        recheck: Duration::ZERO,
        pressed: || false,
        nice: Niceness::none(),
        limits: Limits {
            concurrency: 4,
            disk: ByteSize(1 << 30),
            back_off: Duration::from_millis(50),
            back_off_max: Duration::from_secs(1),
            attempts: 20,
            newcomer: Duration::from_hours(1),
            linger: Duration::ZERO,
            ..Limits::default()
        },
        bandwidth: None,
        report_pause: Duration::from_secs(10),
        signals: None,
        gate: None,
        book: None,
    }
}

pub fn start(url: &str, mut options: Options) -> Running {
    let (tell, signals) = mpsc::channel(100);
    options.signals = Some(tell);
    let end = CancellationToken::new();
    let ended = end.clone();
    let client = client(url);
    let task = tokio::spawn(async move {
        agent::run(client, options, &mut Metrics::new("agent"), ended)
            .await
            .unwrap();
    });
    Running { signals, end, task }
}

/// Names and manifests in a layout's index, read as any other program would.
pub fn listed(layout: &Path) -> Vec<(String, String)> {
    let Ok(text) = std::fs::read(layout.join("index.json")) else {
        return Vec::new();
    };
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut named: Vec<_> = entries
        .map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (text(name), text(&entry["digest"]))
        })
        .collect();
    named.sort();
    named
}

pub fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// Waits until it is so; the patience only ends a test that would fail anyhow.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let patience = Timestamp::from_micros(SystemClock.now().as_micros() + 30_000_000);
    while !so().await {
        assert!(SystemClock.now() < patience, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
