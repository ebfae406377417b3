//! The three processes as a cluster starts them: one binary, configuration files, SIGTERM.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelay::api;
use forelay::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use forelay::domain::quantity::{Bandwidth, ByteSize};
use forelay::domain::scenario::{Header, HeaderType, SharedWorld};
use forelay::embedded::apiserver::{self, ApiServer, Handle};
use forelay::embedded::origin::Origin;
use forelay::port::Clock;
use forelay::telemetry::clock::SystemClock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; what waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

const IMAGE: &str = "docker.io/library/web:1";

/// A running process of the binary; killed when dropped.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    fn start(command: &str, config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_forelay"))
            .args([command, "--log-format", "json", "--config"])
            .arg(config)
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, heard) = (child.stderr.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| json!(line));
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// The address that a log line tells.
    async fn address(&self, message: &str) -> SocketAddr {
        let told = || {
            let lines = self.lines.lock().unwrap();
            let line = lines.iter().find(|line| line["message"] == message)?;
            line["address"].as_str()?.parse().ok()
        };
        self.eventually(message, told).await
    }

    async fn eventually<T>(&self, what: &str, probe: impl Fn() -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = probe() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        let said = || panic!("never: {what}; it said: {:#?}", self.lines.lock().unwrap());
        found.unwrap_or_else(|_| said())
    }

    /// Ends as a pod does; its exit code.
    async fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        let said = || {
            panic!(
                "it does not end; it said: {:#?}",
                self.lines.lock().unwrap()
            )
        };
        ended.unwrap_or_else(|_| said())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A catalogue of one image with two layers.
fn header() -> Header {
    let layer = |salt: u8, size| Layer {
        digest: Digest::from_sha256(&[salt; 32]),
        size: ByteSize(size),
        unpacked: None,
    };
    let manifest = ImageManifest {
        digest: Digest::from_sha256(&[3; 32]),
        platform: Platform::linux("amd64"),
        layers: vec![layer(1, 100_000), layer(2, 3_000_000)],
    };
    let image: ImageRef = IMAGE.parse().unwrap();
    let now = SystemClock.now();
    Header {
        kind: HeaderType::V1,
        name: "one-image".into(),
        story: String::new(),
        provenance: String::new(),
        licence: String::new(),
        start: now,
        end: now,
        pools: BTreeMap::new(),
        shared: SharedWorld {
            cache_uplink: Bandwidth(1e9),
            origin: Bandwidth(1e9),
        },
        images: [(image, vec![manifest])].into(),
    }
}

async fn origin() -> BTreeMap<String, String> {
    let origin = Origin::new(&header(), 1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstreams = origin.upstreams(listener.local_addr().unwrap());
    tokio::spawn(async move { origin.serve(listener, CancellationToken::new()).await });
    upstreams
}

/// An API server with a DaemonSet and a policy; its handle, and a kubeconfig that names it.
async fn cluster(folder: &Path) -> Handle {
    let server = ApiServer::new(apiserver::Options::new(Arc::new(SystemClock)));
    let handle = server.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    for definition in api::crds() {
        handle.put(json!(definition)).unwrap();
    }
    for object in [
        json!({"apiVersion": "forelay.dev/v1alpha1", "kind": "PrefetchPolicy",
            "metadata": {"name": "all"}, "spec": {"mode": "On"}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": IMAGE}]}}}}),
    ] {
        handle.put(object).unwrap();
    }
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
    fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
    handle
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"karpenter.sh/nodepool": "general",
            "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "False"}]}})
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}{path}");
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A configuration file for a process, and the process.
struct Stage<'a> {
    folder: &'a Path,
}

impl Stage<'_> {
    fn start(&self, command: &str, config: &str) -> Process {
        let path = self.folder.join(command).with_extension("toml");
        let kubernetes = format!("[kubernetes]\nkubeconfig = '{}'\n", self.at("kubeconfig"));
        fs::write(&path, kubernetes + config).unwrap();
        Process::start(command, &path)
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn cache(&self, upstreams: &BTreeMap<String, String>) -> Process {
        let upstreams = upstreams
            .iter()
            .map(|(name, url)| format!("'{name}' = '{url}'"));
        let upstreams = upstreams.collect::<Vec<_>>().join(", ");
        let directory = self.at("cache");
        self.start(
            "cache",
            &format!(
                "[cache]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n\
                 directory = '{directory}'\nupstreams = {{{upstreams}}}\n"
            ),
        )
    }

    fn controller(&self, cache: SocketAddr) -> Process {
        self.start(
            "controller",
            &format!(
                "[controller]\nnamespace = 'default'\nlisten = '127.0.0.1:0'\n\
                 caches = ['http://{cache}']\n[controller.lease]\nduration = '3s'\n"
            ),
        )
    }

    /// Layers come through the cache; what a tag means is asked at the origin.
    fn agent(&self, cache: SocketAddr, origins: &BTreeMap<String, String>) -> Process {
        let origin = &origins["docker.io"];
        let layout = self.at("layout");
        self.start(
            "agent",
            &format!(
                "[agent]\nnode_name = 'node-1'\nlisten = '127.0.0.1:0'\nlayout = '{layout}'\n\
                 runtime = 'layout'\ncaches = ['http://{cache}']\n\
                 [agent.origins]\n'docker.io' = '{origin}'\n"
            ),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_reaches_a_new_node_through_all_three_and_they_end_when_told() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let cluster = cluster(folder).await;
    let stage = Stage { folder };
    let origin = origin().await;
    let cache = stage.cache(&origin);
    let address = cache.address("cache").await;
    let (controller, agent) = (stage.controller(address), stage.agent(address, &origin));
    cluster.put(node("node-1")).unwrap();
    let listed = || {
        let index = fs::read_to_string(folder.join("layout/index.json")).ok()?;
        index.contains(IMAGE).then_some(())
    };
    agent
        .eventually("the image is in the node's layout", listed)
        .await;

    for (process, metric) in [
        (
            &controller,
            "forelay_published_plans_total{target=\"node\"}",
        ),
        (&agent, "forelay_fetched_bytes_total{from=\"cache\"}"),
        (&cache, "forelay_upstream_bytes_total"),
    ] {
        let admin = process.address("admin server").await;
        assert_eq!(get(admin, "/livez").await.0, 200);
        assert_eq!(get(admin, "/readyz").await.0, 200);
        let (status, page) = get(admin, "/metrics").await;
        let line = page.lines().find(|line| line.starts_with(metric));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(status == 200 && value > Some(0.0), "{metric}: {line:?}");
    }
    for process in [agent, controller, cache] {
        assert_eq!(process.end().await, Some(0));
    }
}
