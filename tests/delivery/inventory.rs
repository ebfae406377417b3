//! What a node has, as its agent writes it to the node's object: all of it once, then what changes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forelay::api::{INVENTORY_MANAGER, Inventory, InventoryImage};
use forelay::domain::image::{Digest, ImageRef};
use forelay::domain::plan::{Priority, Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use crate::cache::NAME;
use crate::node::{Cluster, NODE, entry, listed, options, start, until};
use crate::upstream::{Pushed, Upstream};

fn image(name: &str) -> ImageRef {
    format!("{NAME}/team/{name}").parse().unwrap()
}

/// Somebody else's image, by its whole name.
fn brought_by_skopeo(origin: &Upstream, layout: &Path, name: &str) {
    let from = format!("docker://{}/team/{name}", origin.address);
    let to = format!("oci:{}:{}", layout.display(), image(name));
    // Without the second skopeo compresses layers on their way.
    let arguments = ["--src-tls-verify=false", "--preserve-digests", &from, &to];
    let run = Command::new("skopeo").arg("copy").args(arguments).output();
    let run = run.unwrap_or_else(|e| panic!("skopeo: {e}; apt-get install skopeo"));
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Takes an image out of the layout's index, as `ctr` or a collector would.
fn taken_away(layout: &Path, digest: &Digest) {
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let manifests = index["manifests"].as_array_mut().unwrap();
    manifests.retain(|entry| entry["digest"] != digest.as_str());
    std::fs::write(&path, index.to_string()).unwrap();
}

async fn inventory(cluster: &Cluster) -> Option<Inventory> {
    cluster.node_prefetch().await.status?.inventory
}

/// Waits until exactly these manifests are told of.
async fn tells_of(cluster: &Cluster, images: &[&Pushed]) -> Inventory {
    let mut wanted: Vec<&Digest> = images
        .iter()
        .map(|pushed| &pushed.manifest.digest)
        .collect();
    wanted.sort();
    until(
        &format!("{} images are told of", images.len()),
        async || {
            let told = inventory(cluster).await;
            told.is_some_and(|told| told.images.keys().eq(wanted.iter().copied()))
        },
    )
    .await;
    inventory(cluster).await.unwrap()
}

/// How the images that are there were written: `Apply` for all of them, `Update` for a change.
async fn written(cluster: &Cluster) -> Vec<String> {
    let fields = cluster.node_prefetch().await.metadata.managed_fields;
    let own = fields.into_iter().flatten();
    let own = own.filter(|entry| entry.manager.as_deref() == Some(INVENTORY_MANAGER));
    let writes_images = |entry: &ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().unwrap();
        fields.0["f:status"]["f:inventory"]
            .get("f:images")
            .is_some()
    };
    let own = own.filter(writes_images);
    own.filter_map(|entry| entry.operation).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_is_told_once_then_by_changes_and_anew_after_a_restart() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let (web, next) = (image("web:1"), image("next:1"));
    let pushed_web = origin.push(&web, &[(1, 1000), (2, 500)]).await;
    let pushed_next = origin.push(&next, &[(3, 70_000)]).await;
    let theirs = origin.push(&image("theirs:1"), &[(4, 4000)]).await;
    brought_by_skopeo(&origin, layout, "theirs:1");
    let plan = |entries| cluster.publish(Target::Node(NODE.into()), entries);
    let url = Some(format!("http://{}", origin.address));
    let agent = || {
        let mut options = options(layout, &[], url.clone());
        options.report_pause = Duration::from_millis(100);
        start(&cluster.url, options)
    };

    plan(vec![entry(&web, &pushed_web, Priority::Pending)]);
    let first = agent();
    let told = tells_of(&cluster, &[&pushed_web, &theirs]).await;
    let of = |pushed: &Pushed| -> InventoryImage { told.images[&pushed.manifest.digest].clone() };
    assert_eq!(of(&theirs).names, [image("theirs:1")]);
    assert_eq!(of(&theirs).bytes, Some(theirs.manifest.size()));
    // Ours goes with the plan: a controller that dropped it for being there would have it taken away.
    assert_eq!(
        (of(&pushed_web).names.len(), of(&pushed_web).planned),
        (0, vec![web.clone()])
    );
    // Beside a layout the node has a runtime of its own: its list is never all there is.
    assert_eq!((told.omitted, told.omitted_names), (1, 0));

    // One comes and one goes, and neither the status nor another's image with it.
    plan(vec![entry(&next, &pushed_next, Priority::Pending)]);
    tells_of(&cluster, &[&pushed_next, &theirs]).await;
    assert_eq!(
        written(&cluster).await,
        ["Update"],
        "the last write was a change's"
    );
    until("its status goes on", async || {
        let status = cluster.node_prefetch().await.status.unwrap();
        status.present == 1 && status.images[0].image == next && status.conditions.len() == 1
    })
    .await;
    first.stop().await;

    // What went while no agent was there leaves no key behind.
    taken_away(layout, &theirs.manifest.digest);
    assert_eq!(listed(layout).len(), 1);
    let second = agent();
    tells_of(&cluster, &[&pushed_next]).await;
    assert_eq!(written(&cluster).await, ["Apply"], "all of it");
    second.stop().await;
}

#[tokio::test]
async fn a_node_without_a_plan_of_its_own_tells_nobody() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let web = image("web:1");
    let pushed = origin.push(&web, &[(1, 1000)]).await;
    let pool = Target::Pool(crate::node::POOL.into());
    cluster.publish(pool, vec![entry(&web, &pushed, Priority::Predicted)]);
    let url = format!("http://{}", origin.address);
    let agent = start(&cluster.url, options(folder.path(), &[], Some(url)));
    until("the pool's image is there", async || {
        listed(folder.path()).len() == 1
    })
    .await;
    let api: kube::Api<forelay::api::NodePrefetch> =
        kube::Api::all(crate::node::client(&cluster.url));
    assert!(
        api.get_opt(NODE).await.unwrap().is_none(),
        "nothing is made for it"
    );
    // Its own plan comes, and with it somebody who reads.
    let own = vec![entry(&web, &pushed, Priority::Predicted)];
    cluster.publish(Target::Node(NODE.into()), own);
    tells_of(&cluster, &[&pushed]).await;
    agent.stop().await;
}
