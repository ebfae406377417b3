//! One node on the demo's stage: link, disk, kubelet, and in Forelay's run an agent.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cli::demo::ledger::Happening;
use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::scenario::PoolWorld;
use crate::domain::signal::NodeJoined;
use crate::domain::time::Timestamp;
use crate::embedded::kubelet::{self, Kubelet, PodOrder};
use crate::embedded::link::{Link, Rate};
use crate::embedded::machine::Machine;
use crate::embedded::objects::seconds;
use crate::port::Clock;
use crate::registry::{self, Registry};
use crate::runtime::oci_layout::OciLayout;
use crate::store::{Durability, Store};

/// From a pod's last image to the status that says that its containers run.
const START_DELAY: Duration = Duration::from_secs(1);

/// What all nodes of one run have in common.
pub struct Surroundings {
    /// The run's API server.
    pub client: Client,
    /// Scenario time.
    pub clock: Arc<dyn Clock>,
    /// Recorded seconds per second, and recorded bytes per byte.
    pub scale: crate::cli::demo::summary::Scale,
    /// Where the run's cache listens.
    pub cache: std::net::SocketAddr,
    /// The cache's way out, shared by all nodes.
    pub uplink: Arc<Rate>,
    /// What references mean at the embedded origin.
    pub catalogue: Arc<BTreeMap<ImageRef, Vec<ImageManifest>>>,
    /// Pods that started in the recording: the ones that count.
    pub recorded: Arc<BTreeSet<String>>,
    /// Folder for the nodes' disks.
    pub disks: PathBuf,
    /// Where everything is written down.
    pub ledger: mpsc::UnboundedSender<Happening>,
}

/// A node that plays.
pub struct Node {
    /// As it joined.
    pub joined: NodeJoined,
    /// Its disk.
    pub machine: Arc<Machine>,
    /// What its disk holds, in bytes that travel.
    pub room: ByteSize,
    /// Registry client over its link, for kubelet and agent alike.
    pub source: Arc<Registry>,
    /// Ends everything of the node.
    pub stop: CancellationToken,
    ready: watch::Sender<Option<Timestamp>>,
    _link: Link,
}

impl Node {
    /// Brings a node on stage: its link, its disk and its kubelet run from now on.
    ///
    /// # Errors
    /// When no port or folder can be had.
    pub async fn enter(
        around: &Arc<Surroundings>,
        joined: NodeJoined,
        world: &PoolWorld,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let real = |recorded: f64| recorded * around.scale.time / around.scale.bytes as f64;
        let rates = vec![around.uplink.clone(), Rate::new(real(world.link.0))];
        let link = Link::open(around.cache, rates).await?;
        let source = Arc::new(Registry::new(registry::Options {
            mirrors: vec![format!("http://{}", link.address())],
            use_origins: false,
            system_proxy: false,
            ..registry::Options::default()
        })?);
        let root = around.disks.join(&joined.node);
        let (store, _) = Store::open_with(&root, around.clock.now(), Durability::Temporary)?;
        let layout = OciLayout::open(&root, Arc::new(store))?;
        let machine = Machine::new(Arc::new(layout), real(world.unpack.0));
        let (ready, is_ready) = watch::channel(None);
        let (landed, mut blobs) = mpsc::unbounded_channel();
        let kubelet = Kubelet::start(kubelet::Options {
            node: joined.node.clone(),
            machine: machine.clone(),
            source: source.clone(),
            clock: around.clock.clone(),
            sandbox: Duration::from_secs_f64(world.sandbox_s),
            pull_overhead: Duration::from_secs_f64(world.pull_overhead_s),
            unpack_bytes_per_s: world.unpack.0 / around.scale.bytes as f64,
            ready: is_ready,
            landed,
            stop: stop.clone(),
        });
        let (book, clock, name) = (
            around.ledger.clone(),
            around.clock.clone(),
            joined.node.clone(),
        );
        let scale = around.scale.bytes;
        tokio::spawn(async move {
            while let Some((digest, bytes)) = blobs.recv().await {
                let (node, at) = (name.clone(), clock.now());
                let bytes = bytes * scale;
                let _ = book.send(Happening::Landed {
                    node,
                    digest,
                    bytes,
                    ahead: false,
                    at,
                });
            }
        });
        let arch = joined.shape.architecture().unwrap_or("amd64").to_owned();
        let pods = follow_pods(around.clone(), kubelet, joined.node.clone(), arch);
        tokio::spawn(stop.clone().run_until_cancelled_owned(pods));
        Ok(Self {
            joined,
            machine,
            room: ByteSize(world.disk.0 / around.scale.bytes),
            source,
            stop,
            ready,
            _link: link,
        })
    }

    /// The node takes pods from now on.
    pub fn set_ready(&self, at: Timestamp) {
        self.ready.send_replace(Some(at));
    }
}

/// Watches the pods that are bound to the node and starts each of them once.
async fn follow_pods(around: Arc<Surroundings>, kubelet: Kubelet, node: String, arch: String) {
    let pods: Api<Pod> = Api::all(around.client.clone());
    let bound = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = std::pin::pin!(watcher(pods, bound));
    let mut seen = BTreeMap::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(pod) | Event::InitApply(pod))) => {
                if let Entry::Vacant(unseen) = seen.entry(pod.uid().unwrap_or_default()) {
                    let (around, kubelet) = (around.clone(), kubelet.clone());
                    let order = order(&pod, &around.catalogue, &arch);
                    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
                    let containers: Vec<_> = containers.map(|c| c.name.clone()).collect();
                    let starting = async move { start(&around, kubelet, order, containers).await };
                    unseen.insert(tokio::spawn(starting).abort_handle());
                }
            }
            // A pod that started in the recording is let start here too, however late it is.
            Ok(Some(Event::Delete(pod))) if !around.recorded.contains(&full_name(&pod)) => {
                if let Some(starting) = seen.get(&pod.uid().unwrap_or_default()) {
                    starting.abort();
                }
            }
            Ok(Some(Event::Delete(_) | Event::Init | Event::InitDone)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(node, %error, "the pod watch starts again"),
        }
    }
}

async fn start(around: &Surroundings, kubelet: Kubelet, order: PodOrder, containers: Vec<String>) {
    let images: Vec<ImageRef> = order
        .images
        .iter()
        .map(|(image, _)| image.clone())
        .collect();
    let pod = order.pod.clone();
    let counts = around.recorded.contains(&pod);
    if counts {
        let (node, images) = (kubelet.node().to_owned(), images.clone());
        let _ = around.ledger.send(Happening::PodBound { node, images });
    }
    let Some(outcome) = kubelet.bring(order).await else {
        return;
    };
    if counts {
        let _ = around.ledger.send(Happening::PodReady { outcome, images });
    }
    // Containers are made and started: the replay takes a second for it too.
    let started = around.clock.now() + START_DELAY;
    around.clock.sleep_until(started).await;
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", &pod));
    let api: Api<Pod> = Api::namespaced(around.client.clone(), namespace);
    let containers: Vec<_> = containers
        .iter()
        .map(|name| {
            json!({"name": name, "started": true, "ready": true,
                "state": {"running": {"startedAt": seconds(started)}}})
        })
        .collect();
    let status = json!({"status": {"phase": "Running", "containerStatuses": containers,
        "conditions": [{"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True"}]}});
    // The recording may have deleted the pod meanwhile.
    let _ = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await;
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// What a kubelet has to bring for a pod, in its order: volumes, init containers, containers.
fn order(pod: &Pod, catalogue: &BTreeMap<ImageRef, Vec<ImageManifest>>, arch: &str) -> PodOrder {
    let name = full_name(pod);
    let Some(spec) = &pod.spec else {
        return PodOrder {
            pod: name,
            images: Vec::new(),
        };
    };
    let volumes = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.image.as_ref()?.reference.clone());
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .filter_map(|c| c.image.clone());
    let main = spec.containers.iter().filter_map(|c| c.image.clone());
    let images = volumes
        .chain(init)
        .chain(main)
        .filter_map(|text| text.parse::<ImageRef>().ok())
        .map(|image| {
            let manifests = catalogue.get(&image).map_or(&[][..], Vec::as_slice);
            let manifest = manifests.iter().find(|m| m.platform.arch == arch).cloned();
            (image, manifest)
        })
        .collect();
    PodOrder { pod: name, images }
}
