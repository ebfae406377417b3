//! Every image of a real daemon is listed, and what changes of them reaches the node's object.

use std::sync::Arc;
use std::time::Duration;

use forelay::agent;
use forelay::api::{self, INVENTORY_MANAGER, Inventory, NodePrefetch, NodePrefetchSpec};
use forelay::domain::image::{Digest, ImageRef};
use forelay::domain::inventory::StoredImage;
use forelay::domain::plan::{Plan, Target};
use forelay::domain::quantity::ByteSize;
use forelay::embedded::apiserver::{ApiServer, Handle, Options};
use forelay::port::{Clock, ContainerRuntime, RuntimeChange};
use forelay::runtime::wire::cri::RemoveImageRequest;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::Api;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::image::{Form, Image};
use crate::node::{NAME, Node, entry, named};
use crate::pod::{Cri, spec};
use crate::program::busybox;
use crate::registry::{Upstream, sha256};

const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon and a registry with `team/web:1` and `team/theirs:1`.
struct Site {
    node: Node,
    _origin: Upstream,
    web: Image,
    theirs: Image,
}

impl Site {
    async fn start() -> Self {
        let origin = Upstream::start();
        let (web, theirs) = (busybox(Form::Gzip, "web"), busybox(Form::Gzip, "theirs"));
        web.push(&origin, "team/web", "1").await;
        theirs.push(&origin, "team/theirs", "1").await;
        let node = Node::start(format!("http://{}", origin.address)).await;
        node.daemon.mirror(NAME, &origin.address.to_string());
        Self {
            node,
            _origin: origin,
            web,
            theirs,
        }
    }

    async fn cri(&self) -> Cri {
        Cri::new(self.node.daemon.channel().await)
    }

    /// As the kubelet's collector does.
    async fn remove(&self, name: &str) {
        let image = Some(spec(&named(name)));
        let mut cri = self.cri().await;
        cri.images
            .remove_image(RemoveImageRequest { image })
            .await
            .unwrap();
    }
}

fn bytes(image: &Image) -> ByteSize {
    let layers = image.layers.iter().map(|layer| layer.blob.len() as u64);
    ByteSize(layers.sum())
}

/// By tag, and by the digest of the index that the tag leads to.
fn both_names(repository: &str, image: &Image) -> Vec<ImageRef> {
    let names = [
        format!("{}:1", named(repository)),
        format!("{}@{}", named(repository), sha256(&image.index)),
    ];
    names.map(|name| name.parse().unwrap()).into()
}

async fn listed(runtime: &dyn ContainerRuntime) -> Vec<StoredImage> {
    let mut images = runtime.images().await.unwrap().expect("containerd tells");
    for image in &mut images {
        image.names.sort();
        image.planned.sort();
    }
    images
}

fn of<'a>(images: &'a [StoredImage], image: &Image) -> &'a StoredImage {
    let digest = sha256(&image.manifest);
    let found = images.iter().find(|image| image.digest == digest);
    found.unwrap_or_else(|| panic!("{digest} in {images:?}"))
}

#[tokio::test]
async fn every_image_is_listed_by_its_manifest_whoever_brought_it() {
    let site = Site::start().await;
    let runtime = Arc::new(site.node.runtime().await);
    let images = [("team/web:1", &site.web)];
    let status = site.node.deliver_by(runtime.clone(), &images).await;
    assert_eq!(status.present, 1, "{status:?}");
    let mut changes = runtime.changes();
    assert_eq!(changes.next().await, Some(RuntimeChange::Unseen));
    let mut cri = site.cri().await;
    cri.pull(&named("team/theirs:1")).await.unwrap();
    let told = changes.any(|change| std::future::ready(change == RuntimeChange::Images));
    assert!(tokio::time::timeout(PATIENCE, told).await.unwrap());

    let images = listed(&*runtime).await;
    let theirs = of(&images, &site.theirs);
    assert_eq!(theirs.names, both_names("team/theirs", &site.theirs));
    assert_eq!(
        (theirs.planned.len(), theirs.bytes),
        (0, Some(bytes(&site.theirs)))
    );
    let ours = of(&images, &site.web);
    assert_eq!(ours.planned, both_names("team/web", &site.web));
    assert_eq!((ours.names.len(), ours.bytes), (0, Some(bytes(&site.web))));
    assert_eq!(images.len(), 2, "{images:?}");

    // A pod runs from ours when its plan is over: from then on it is anybody's.
    cri.pull(&named("team/web:1")).await.unwrap();
    site.remove("team/theirs:1").await;
    // A record whose documents are not there has no size, and is there all the same.
    let client = site.node.daemon.client().await;
    let mut target = client
        .image(&named("team/web:1"))
        .await
        .unwrap()
        .unwrap()
        .target;
    let nowhere = Digest::from_sha256(&[7; 32]);
    target.as_mut().unwrap().digest = nowhere.to_string();
    let labels = forelay::runtime::containerd::label::Labels::new();
    let name = named("team/hollow:1");
    client
        .create_image(&name, target.unwrap(), labels)
        .await
        .unwrap();
    let images = listed(&*runtime).await;
    let digests: Vec<&Digest> = images.iter().map(|image| &image.digest).collect();
    let web = sha256(&site.web.manifest);
    let mut wanted = [&web, &nowhere];
    wanted.sort();
    assert_eq!(digests, wanted);
    let hollow = images.iter().find(|image| image.digest == nowhere).unwrap();
    assert_eq!((hollow.bytes, hollow.names.len()), (None, 1));
}

/// An API server that knows the node's object with a plan of one image.
async fn api_server(site: &Site, end: &CancellationToken) -> (Client, Handle) {
    let server = ApiServer::new(Options::new(Arc::new(SystemClock)));
    let handle = server.handle();
    for crd in api::crds() {
        handle.put(json!(crd)).unwrap();
    }
    let plan = Plan {
        entries: vec![entry("team/web:1", &site.web)],
        ..Plan::empty(Target::Node("node".into()), 1, SystemClock.now())
    };
    let object = json!({"apiVersion": "forelay.dev/v1alpha1", "kind": "NodePrefetch",
        "metadata": {"name": "node"}, "spec": NodePrefetchSpec::from(&plan)});
    let manager = api::CONTROLLER_MANAGER;
    handle.apply_object(manager, object, true).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ended = end.clone().cancelled_owned();
    tokio::spawn(async move { server.serve(listener, ended).await });
    let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    (client, handle)
}

fn told(object: &NodePrefetch) -> Option<&Inventory> {
    object.status.as_ref()?.inventory.as_ref()
}

/// How the images that are there were written: `Apply` for all of them, `Update` for a change.
fn how_written(object: NodePrefetch) -> Vec<String> {
    let fields = object.metadata.managed_fields.into_iter().flatten();
    let own = fields.filter(|entry| entry.manager.as_deref() == Some(INVENTORY_MANAGER));
    let writes_images = |entry: &ManagedFieldsEntry| {
        let fields = &entry.fields_v1.as_ref().unwrap().0;
        let inventory = &fields["f:status"]["f:inventory"];
        inventory.get("f:images").is_some()
    };
    let own = own.filter(writes_images);
    own.filter_map(|entry| entry.operation).collect()
}

async fn until(client: &Client, what: &str, so: impl Fn(&Inventory) -> bool) -> NodePrefetch {
    let api: Api<NodePrefetch> = Api::all(client.clone());
    let search = async {
        loop {
            let object = api.get("node").await.unwrap();
            if told(&object).is_some_and(&so) {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, search).await;
    found.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_kubelet_pulls_and_removes_reaches_the_nodes_object_as_a_change() {
    let site = Site::start().await;
    let (end, over) = (CancellationToken::new(), CancellationToken::new());
    let (client, _handle) = api_server(&site, &over).await;
    let runtime = Arc::new(site.node.runtime().await);
    let options = agent::Options {
        report_pause: Duration::from_millis(100),
        ..site.node.site().options(runtime)
    };
    let (ended, talks) = (end.clone(), client.clone());
    let working = tokio::spawn(async move {
        let mut metrics = Metrics::new("agent");
        agent::run(talks, options, &mut metrics, ended)
            .await
            .unwrap();
        metrics.encode().unwrap()
    });
    let (web, theirs) = (sha256(&site.web.manifest), sha256(&site.theirs.manifest));
    until(&client, "what was delivered is told", |told| {
        told.images
            .get(&web)
            .is_some_and(|image| !image.planned.is_empty())
    })
    .await;
    site.cri()
        .await
        .pull(&named("team/theirs:1"))
        .await
        .unwrap();
    let names = both_names("team/theirs", &site.theirs);
    let both = until(&client, "what was pulled is told", |told| {
        told.images
            .get(&theirs)
            .is_some_and(|image| image.names == names)
    })
    .await;
    site.remove("team/theirs:1").await;
    let left = until(&client, "what was removed is told no more", |told| {
        told.images.keys().eq([&web])
    })
    .await;
    assert!(told(&both).unwrap().listed < told(&left).unwrap().listed);
    assert_eq!(how_written(left), ["Update"], "a merge patch");
    end.cancel();
    let page = working.await.unwrap();
    let line = page
        .lines()
        .find(|line| line.starts_with("forelay_stored_images "));
    assert_eq!(line.unwrap().split(' ').nth(1).unwrap().parse(), Ok(1.0));
    over.cancel();
}
