//! The agent between an API server, a real registry and a layout on disk.

use std::process::Command;
use std::time::Duration;

use forelay::api::{ImagePhase, NodePrefetch, Phase};
use forelay::domain::image::ImageRef;
use forelay::domain::plan::{Priority, Target};
use forelay::domain::signal::Fact;
use forelay::port::Clock;
use forelay::telemetry::clock::SystemClock;
use futures::StreamExt;
use kube::Client;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};

use crate::cache::NAME;
use crate::node::{Cluster, NODE, POOL, blob, client, entry, listed, options, start, until};
use crate::relay::{Fault, Relay};
use crate::upstream::{Pushed, Upstream, sha256};

fn image(name: &str) -> ImageRef {
    format!("{NAME}/team/{name}").parse().unwrap()
}

fn own() -> Target {
    Target::Node(NODE.into())
}

/// Runs skopeo; it has to succeed.
fn skopeo(arguments: &[&str]) -> String {
    let run = Command::new("skopeo").args(arguments).output();
    let run = run.unwrap_or_else(|e| panic!("skopeo: {e}; apt-get install skopeo"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "skopeo {arguments:?}: {said}");
    String::from_utf8(run.stdout).unwrap()
}

/// How often the node's object changes until its plan is done.
async fn states_until_ready(client: Client) -> usize {
    let api: Api<NodePrefetch> = Api::all(client);
    let mut states = std::pin::pin!(watcher(api, Config::default()).applied_objects());
    let mut count = 0;
    while let Some(state) = states.next().await {
        count += 1;
        let status = state.unwrap().status;
        if status.is_some_and(|status| status.phase == Phase::Ready) {
            break;
        }
    }
    count
}

fn assert_ready(object: &NodePrefetch) {
    let status = object.status.as_ref().unwrap();
    assert_eq!((status.wanted, status.present, status.failed), (2, 2, 0));
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert_eq!(status.bytes_present, status.bytes_total);
    let phases = status.images.iter().map(|image| image.phase);
    assert!(phases.eq([ImagePhase::Present; 2]));
    let ready = &status.conditions[0];
    assert_eq!(
        (ready.type_.as_str(), ready.status.as_str()),
        ("Ready", "True")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_the_pools_and_the_nodes_plan_are_laid_down_and_reported() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let (base, web) = (image("base:1"), image("web:1"));
    let pushed_base = origin.push(&base, &[(1, 300_000)]).await;
    let pushed_web = origin.push(&web, &[(1, 300_000), (2, 2_000_000)]).await;
    let url = format!("http://{}", origin.address);
    let pool = Target::Pool(POOL.into());
    cluster.publish(pool, vec![entry(&base, &pushed_base, Priority::Predicted)]);
    let mut agent = start(&cluster.url, options(layout, &[], Some(url)));
    let name =
        |image: &ImageRef, pushed: &Pushed| (image.to_string(), pushed.manifest.digest.to_string());

    // The node's own object does not exist yet.
    until("the pool's image is there", async || {
        !listed(layout).is_empty()
    })
    .await;
    assert_eq!(listed(layout), [name(&base, &pushed_base)]);

    let counted = tokio::spawn(states_until_ready(client(&cluster.url)));
    // From now on the node's own plan counts alone: it repeats what the node still needs.
    let own_plan = vec![
        entry(&web, &pushed_web, Priority::Pending),
        entry(&base, &pushed_base, Priority::Predicted),
    ];
    cluster.publish(own(), own_plan);
    let states = counted.await.unwrap();
    assert!(states <= 5, "one plan, {states} states");
    assert_eq!(
        listed(layout),
        [name(&base, &pushed_base), name(&web, &pushed_web)]
    );

    assert_ready(&cluster.node_prefetch().await);
    let mut moved = 0;
    let mut whole = Vec::new();
    while whole.len() < 2 {
        match agent.signals.recv().await.unwrap().fact {
            Fact::TransferFinished(transfer) => {
                assert_eq!(transfer.from, "origin");
                moved += transfer.bytes.0;
            }
            Fact::PrefetchFinished(finished) => whole.push(finished.image),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(whole, [base, web.clone()]);
    assert_eq!(moved, 2_300_000, "the shared layer travels once");
    agent.stop().await;

    let from = format!("oci:{}:{web}", layout.display());
    let copy = folder.path().join("copy");
    skopeo(&["copy", &from, &format!("dir:{}", copy.display())]);
    let manifest = std::fs::read(copy.join("manifest.json")).unwrap();
    assert_eq!(sha256(&manifest), pushed_web.manifest.digest);
}

#[tokio::test]
async fn a_wrong_layer_is_discarded_and_fetched_elsewhere() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let web = image("web:1");
    let pushed = origin.push(&web, &[(1, 900_000)]).await;
    // The first blob that is asked for is the config, the second the layer.
    let faults = [Fault::Flip(3), Fault::Flip(400_000)];
    let mirror = Relay::start(origin.address, faults).await;
    mirror.spoil_manifests([Fault::Flip(9)]);
    let url = format!("http://{}", origin.address);
    cluster.publish(own(), vec![entry(&web, &pushed, Priority::Pending)]);
    let mut agent = start(
        &cluster.url,
        options(folder.path(), &[mirror.url()], Some(url)),
    );

    until("the image is there", async || {
        !listed(folder.path()).is_empty()
    })
    .await;
    let layer = &pushed.manifest.layers[0].digest;
    let stored = std::fs::read(blob(folder.path(), layer)).unwrap();
    assert_eq!(stored, pushed.layers[0]);
    assert_eq!(mirror.seen().len(), 2, "the liar is not asked again");
    loop {
        if let Fact::TransferFinished(transfer) = agent.signals.recv().await.unwrap().fact {
            assert_eq!(
                (transfer.from.as_str(), transfer.bytes.0),
                ("origin", 1_800_000)
            );
            break;
        }
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_cut_layer_is_resumed_and_a_dead_mirror_is_passed_over() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let web = image("web:1");
    let pushed = origin.push(&web, &[(1, 2_000_000)]).await;
    let faults = [Fault::None, Fault::Cut(700_000), Fault::Cut(500_000)];
    let relay = Relay::start(origin.address, faults).await;
    let dead = Relay::start(origin.address, []).await;
    let gone = dead.url();
    drop(dead);
    cluster.publish(own(), vec![entry(&web, &pushed, Priority::Pending)]);
    let agent = start(
        &cluster.url,
        options(folder.path(), &[gone], Some(relay.url())),
    );

    until("the image is there", async || {
        !listed(folder.path()).is_empty()
    })
    .await;
    let ranges: Vec<_> = relay.seen().into_iter().map(|seen| seen.range).collect();
    let resumed = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(ranges, [None, None, resumed(700_000), resumed(1_200_000)]);
    agent.stop().await;
}

#[tokio::test]
async fn an_expired_image_is_dropped_and_images_of_others_are_not_touched() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let (web, old, theirs) = (image("web:1"), image("old:1"), image("theirs:1"));
    let shared = (1, 100_000);
    let pushed_web = origin.push(&web, &[shared, (2, 1000)]).await;
    let pushed_old = origin.push(&old, &[shared, (3, 1000)]).await;
    let pushed_theirs = origin.push(&theirs, &[shared, (4, 1000)]).await;
    let from = format!("docker://{}/team/theirs:1", origin.address);
    let to = format!("oci:{}:theirs", layout.display());
    // Without it skopeo compresses layers on their way.
    let as_is = "--preserve-digests";
    skopeo(&["copy", "--src-tls-verify=false", as_is, &from, &to]);
    let foreign = listed(layout);
    assert_eq!(foreign.len(), 1);

    let mut dying = entry(&old, &pushed_old, Priority::Predicted);
    dying.expires = SystemClock.now() + std::time::Duration::from_secs(2);
    cluster.publish(
        own(),
        vec![entry(&web, &pushed_web, Priority::Pending), dying],
    );
    let url = format!("http://{}", origin.address);
    let agent = start(&cluster.url, options(layout, &[], Some(url)));
    until("three images are listed", async || {
        listed(layout).len() == 3
    })
    .await;
    until("one is dropped", async || listed(layout).len() == 2).await;
    let layers = |pushed: &Pushed| pushed.manifest.layers.clone();
    let own_layer = blob(layout, &layers(&pushed_old)[1].digest);
    until("its own layer is gone", async || !own_layer.exists()).await;
    for layer in layers(&pushed_web).iter().chain(&layers(&pushed_theirs)) {
        assert!(blob(layout, &layer.digest).exists(), "{}", layer.digest);
    }
    assert!(listed(layout).contains(&foreign[0]));
    agent.stop().await;
    skopeo(&["inspect", "--raw", &to]);
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_reported_with_the_reason() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let web = image("web:1");
    let mut pushed = origin.push(&web, &[(1, 10)]).await;
    pushed.manifest.digest = sha256(b"never pushed");
    let url = format!("http://{}", origin.address);
    cluster.publish(own(), vec![entry(&web, &pushed, Priority::Pending)]);
    let agent = start(&cluster.url, options(folder.path(), &[], Some(url)));
    until("the plan is degraded", async || {
        let status = cluster.node_prefetch().await.status;
        status.is_some_and(|status| status.phase == Phase::Degraded)
    })
    .await;
    let status = cluster.node_prefetch().await.status.unwrap();
    let message = status.images[0].message.clone().unwrap();
    assert!(message.contains("does not exist"), "{message}");
    assert_eq!(status.conditions[0].status, "False");
    assert!(listed(folder.path()).is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_tag_that_moves_after_delivery_takes_its_record_with_it_and_no_others() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    // One manifest under two tags.
    let (web, same) = (image("web:1"), image("web:2"));
    let pushed = origin.push(&web, &[(1, 1000)]).await;
    let also = origin.push(&same, &[(1, 1000)]).await;
    assert_eq!(pushed.manifest.digest, also.manifest.digest);
    let entries = [&web, &same].map(|tag| entry(tag, &pushed, Priority::Predicted));
    cluster.publish(own(), entries.into());
    let url = format!("http://{}", origin.address);
    let mut options = options(layout, &[], Some(url));
    options.recheck = Duration::from_millis(50);
    let agent = start(&cluster.url, options);
    until("both are listed", async || listed(layout).len() == 2).await;
    // The plan still names what the tag meant.
    origin.push(&web, &[(2, 1000)]).await;
    until("it is listed no more", async || listed(layout).len() == 1).await;
    let name = |tag: &ImageRef| (tag.to_string(), pushed.manifest.digest.to_string());
    assert_eq!(listed(layout), [name(&same)]);
    until("its status says why", async || {
        let status = cluster.node_prefetch().await.status.unwrap_or_default();
        let message = status
            .images
            .first()
            .and_then(|image| image.message.clone());
        message.is_some_and(|message| message.contains("something else"))
    })
    .await;
    let status = cluster.node_prefetch().await.status.unwrap();
    let phases: Vec<ImagePhase> = status.images.iter().map(|image| image.phase).collect();
    assert_eq!(phases, [ImagePhase::Failed, ImagePhase::Present]);
    agent.stop().await;
}

#[tokio::test]
async fn what_an_earlier_run_laid_down_and_no_plan_names_any_more_is_dropped() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let (web, old) = (image("web:1"), image("old:1"));
    let pushed_web = origin.push(&web, &[(1, 1000)]).await;
    let pushed_old = origin.push(&old, &[(1, 1000), (2, 1000)]).await;
    let web_entry = entry(&web, &pushed_web, Priority::Pending);
    let old_entry = entry(&old, &pushed_old, Priority::Predicted);
    let origins = Some(format!("http://{}", origin.address));
    cluster.publish(own(), vec![web_entry.clone(), old_entry]);
    let first = start(&cluster.url, options(layout, &[], origins.clone()));
    until("both are listed", async || listed(layout).len() == 2).await;
    first.stop().await;

    cluster.publish(own(), vec![web_entry]);
    let second = start(&cluster.url, options(layout, &[], origins));
    until("one is dropped", async || listed(layout).len() == 1).await;
    assert_eq!(listed(layout)[0].0, web.to_string());
    let shared = blob(layout, &pushed_web.manifest.layers[0].digest);
    let gone = blob(layout, &pushed_old.manifest.layers[1].digest);
    until("its own layer is gone", async || !gone.exists()).await;
    assert!(shared.exists());
    second.stop().await;
}
