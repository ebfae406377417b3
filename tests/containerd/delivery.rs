//! An agent's delivery into the real daemon: pods start from it, and nothing wrong ever gets in.

use std::time::Duration;

use forelay::api::ImagePhase;
use forelay::domain::time::Timestamp;
use forelay::plan::policy::Pattern;
use forelay::port::ContainerRuntime;
use forelay::runtime::containerd::Collect;
use serde_json::json;

use crate::image::{Form, Image, Layer, file, folder};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::program::{busybox, busybox_binary};
use crate::registry::{Upstream, sha256};
use crate::relay::{Fault, Relay};
use crate::small::Small;

/// Three layers in three forms: the upper ones replace and remove what lies below.
fn layered() -> Image {
    let base = Layer::new(Form::Gzip, |tar| {
        folder(tar, "bin/", 0o755);
        file(tar, "bin/busybox", 0o755, &busybox_binary());
        folder(tar, "etc/", 0o755);
        file(tar, "etc/old", 0o644, b"old");
        file(tar, "etc/gone", 0o644, b"gone");
    });
    let middle = Layer::new(Form::Zstd, |tar| {
        folder(tar, "etc/", 0o755);
        file(tar, "etc/.wh.gone", 0o644, b"");
        file(tar, "etc/old", 0o600, b"new");
    });
    // Nobody lists `etc` here: it is the lower layers' to say what it is.
    let top = Layer::new(Form::Plain, |tar| file(tar, "etc/added", 0o644, b"added"));
    let process = json!({"Entrypoint": ["/bin/busybox", "sleep", "1000000"]});
    Image::new(vec![base, middle, top], &process)
}

/// Pushes the image and the sandbox's, and starts a node.
async fn around(image: &Image, faults: Vec<Fault>) -> (Upstream, Relay, Node) {
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    busybox(Form::Gzip, "pause")
        .push(&origin, "pause", "1")
        .await;
    let relay = Relay::start(origin.address, faults).await;
    let node = Node::start(relay.url()).await;
    (origin, relay, node)
}

#[tokio::test]
async fn a_delivered_image_starts_with_the_registry_switched_off() {
    let image = layered();
    let (mut origin, _relay, node) = around(&image, Vec::new()).await;
    let pause = busybox(Form::Gzip, "pause");
    let status = node
        .deliver(&[("team/web:1", &image), ("pause:1", &pause)])
        .await;
    assert_eq!(status.present, 2, "{status:?}");
    origin.kill();
    let mut cri = Cri::new(node.daemon.channel().await);
    let seen = cri.image(&named("team/web:1")).await.expect("CRI sees it");
    assert_eq!(seen.id, sha256(&image.config).to_string());
    let digests = [format!("{}@{}", named("team/web"), sha256(&image.index))];
    assert_eq!(
        seen.repo_digests, digests,
        "what a kubelet would have pulled"
    );
    let pod = cri.sandbox("one").await;
    let script =
        "test ! -e /etc/gone && test $(cat /etc/old) = new && test $(cat /etc/added) = added";
    let shell = ["/bin/busybox", "sh", "-c", script];
    // The shell finds its commands in the one binary.
    let container = cri.start(&pod, &named("team/web:1"), &shell).await.unwrap();
    assert_eq!(cri.ended(&container).await, 0);
    cri.remove(pod).await;
}

#[tokio::test]
async fn an_image_that_is_only_held_is_unknown_and_its_pull_moves_no_layer() {
    let image = layered();
    let (_origin, relay, mut node) = around(&image, Vec::new()).await;
    node.unrecorded = vec![Pattern::new("*/team/*")];
    let runtime = std::sync::Arc::new(node.runtime().await);
    let status = node
        .deliver_by(runtime.clone(), &[("team/web:1", &image)])
        .await;
    assert_eq!(status.present, 1, "{status:?}");
    let mut cri = Cri::new(node.daemon.channel().await);
    assert!(cri.image(&named("team/web:1")).await.is_none());
    let before = relay.seen().len();
    node.daemon.mirror(NAME, &relay.address.to_string());
    cri.pull(&named("team/web:1")).await.unwrap();
    assert_eq!(
        relay.seen().len(),
        before,
        "blobs were asked for: {:?}",
        relay.seen()
    );
    assert!(cri.image(&named("team/web:1")).await.is_some());
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_layer_is_found_and_the_right_bytes_come() {
    let image = layered();
    let middle = image.layers[1].blob.len() / 2;
    for at in [0, 9, middle, image.layers[1].blob.len() - 1] {
        // The first blob asked for is the config.
        let faults = vec![
            Fault::None,
            Fault::Flip(at),
            Fault::Flip(at),
            Fault::Flip(at),
        ];
        let (_origin, _relay, node) = around(&image, faults).await;
        let status = node.deliver(&[("team/web:1", &image)]).await;
        assert_eq!(status.present, 1, "byte {at}: {status:?}");
    }
}

#[tokio::test]
async fn a_registry_that_only_has_wrong_bytes_gets_nothing_into_the_daemon() {
    let image = layered();
    let flips = std::iter::repeat_n(Fault::Flip(100), 200);
    let faults = std::iter::once(Fault::None).chain(flips).collect();
    let (_origin, _relay, node) = around(&image, faults).await;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!((status.present, status.failed), (0, 1), "{status:?}");
    assert_eq!(status.images[0].phase, ImagePhase::Failed);
    let message = status.images[0].message.clone().unwrap();
    assert!(message.contains("sha256:"), "{message}");
    let client = node.daemon.client().await;
    assert!(client.images(&[]).await.unwrap().is_empty());
    let snapshots = client.snapshots(&[]).await.unwrap();
    assert!(snapshots.is_empty(), "{snapshots:?}");
}

#[tokio::test]
async fn a_tag_that_moved_on_the_way_gets_no_record() {
    let image = layered();
    let (origin, _relay, node) = around(&image, Vec::new()).await;
    let newer = busybox(Form::Gzip, "newer");
    newer.push(&origin, "team/web", "1").await;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!((status.present, status.failed), (0, 1), "{status:?}");
    let mut cri = Cri::new(node.daemon.channel().await);
    assert!(cri.image(&named("team/web:1")).await.is_none());
}

#[tokio::test]
async fn a_released_image_leaves_nothing_behind() {
    let image = layered();
    let (_origin, _relay, node) = around(&image, Vec::new()).await;
    let runtime = std::sync::Arc::new(node.runtime().await);
    node.deliver_by(runtime.clone(), &[("team/web:1", &image)])
        .await;
    runtime.release(&sha256(&image.manifest)).await.unwrap();
    let client = node.daemon.client().await;
    assert_eq!(client.leases().await.unwrap(), []);
    assert!(client.images(&[]).await.unwrap().is_empty());
    // Anything collected at once collects the rest.
    let lease = client.lease_begin("collect", Timestamp::MAX).await;
    let lease = lease.unwrap().id;
    client.lease_end(&lease, Collect::Now).await.unwrap();
    assert!(client.snapshots(&[]).await.unwrap().is_empty());
    assert!(client.blobs(&[]).await.unwrap().is_empty());
    let left = std::fs::read_dir(node.staging().join("layers")).unwrap();
    assert_eq!(left.count(), 0);
    let trash = std::fs::read_dir(node.staging().join("trash")).unwrap();
    assert_eq!(trash.count(), 0, "the agent has ended");
}

#[tokio::test]
async fn a_layer_that_is_cut_on_the_way_goes_on_where_it_was() {
    let layer = Layer::new(Form::Gzip, |tar| file(tar, "b", 0o755, &busybox_binary()));
    let image = Image::new(vec![layer], &json!({"Cmd": ["/b"]}));
    // The config comes first.
    let cut = vec![Fault::None, Fault::Cut(400_000)];
    let (_origin, relay, node) = around(&image, cut).await;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!(status.present, 1, "{status:?}");
    let ranges: Vec<String> = relay
        .seen()
        .into_iter()
        .filter_map(|seen| seen.range)
        .collect();
    let resumed = |range: &String| range != "bytes=0-";
    assert!(
        ranges.iter().any(resumed),
        "nothing was resumed: {:?}",
        relay.seen()
    );
}

#[tokio::test]
async fn a_pull_of_the_same_image_at_the_same_moment_spoils_neither() {
    let image = layered();
    for _ in 0..4 {
        let (_origin, relay, node) = around(&image, Vec::new()).await;
        node.daemon.mirror(NAME, &relay.address.to_string());
        let mut cri = Cri::new(node.daemon.channel().await);
        let images = [("team/web:1", &image)];
        let name = named("team/web:1");
        let (status, pulled) = tokio::join!(node.deliver(&images), cri.pull(&name));
        assert_eq!(status.present, 1, "{status:?}");
        assert_eq!(pulled.unwrap(), sha256(&image.config).to_string());
        let client = node.daemon.client().await;
        let mut names: Vec<String> = client
            .snapshots(&[])
            .await
            .unwrap()
            .into_iter()
            .map(|info| info.name)
            .collect();
        names.sort();
        let mut chains = image.chain_ids();
        chains.sort();
        assert_eq!(names, chains);
    }
}

#[tokio::test]
async fn a_delivery_that_stalls_ends_when_the_kubelet_has_pulled_the_image() {
    let image = layered();
    // Every layer stalls for the agent; the kubelet goes to the registry itself.
    let stalls = [Fault::Stall(10), Fault::Stall(10), Fault::Stall(10)];
    let faults = std::iter::once(Fault::None).chain(stalls).collect();
    let (origin, _relay, node) = around(&image, faults).await;
    node.daemon.mirror(NAME, &origin.address.to_string());
    let mut cri = Cri::new(node.daemon.channel().await);
    let name = named("team/web:1");
    let pull = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cri.pull(&name).await
    };
    let images = [("team/web:1", &image)];
    let (status, pulled) = tokio::join!(node.deliver(&images), pull);
    pulled.unwrap();
    assert_eq!(status.present, 1, "{status:?}");
}

/// What a daemon on a disk of this size has after a delivery for which there was no room.
async fn assert_refused(image: &Image, size: &str) {
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    let url = format!("http://{}", origin.address);
    let node = Node::start_on(Small::mount(size), url).await;
    let status = node.deliver(&[("team/web:1", image)]).await;
    assert_eq!(status.present, 0, "{status:?}");
    let client = node.daemon.client().await;
    assert!(client.images(&[]).await.unwrap().is_empty());
    assert!(client.snapshots(&[]).await.unwrap().is_empty());
    let left = std::fs::read_dir(node.staging().join("layers")).unwrap();
    assert_eq!(left.count(), 0);
    // It still does what it is asked.
    let lease = client.lease_begin("healthy", Timestamp::MAX).await.unwrap();
    client.lease_end(&lease.id, Collect::Now).await.unwrap();
}

#[tokio::test]
async fn a_disk_without_room_gets_nothing() {
    // 1.3 MB travel, so that 5.2 MB are looked for.
    assert_refused(&layered(), "5m").await;
}

#[tokio::test]
async fn a_disk_that_fills_in_the_middle_of_a_layer_is_left_as_it_was() {
    // Zeros travel as nothing: the room for them is not asked for before.
    let layer = Layer::new(Form::Gzip, |tar| {
        file(tar, "zeros", 0o644, &vec![0; 40 << 20]);
    });
    let image = Image::new(vec![layer], &json!({"Cmd": ["/a"]}));
    assert_refused(&image, "24m").await;
}

#[tokio::test]
async fn a_record_of_an_earlier_run_goes_when_its_tag_has_moved_meanwhile() {
    let image = layered();
    let (origin, _relay, node) = around(&image, Vec::new()).await;
    node.deliver(&[("team/web:1", &image)]).await;
    let mut cri = Cri::new(node.daemon.channel().await);
    assert!(cri.image(&named("team/web:1")).await.is_some());
    busybox(Form::Gzip, "newer")
        .push(&origin, "team/web", "1")
        .await;
    node.deliver(&[("team/web:1", &image)]).await;
    let client = node.daemon.client().await;
    assert!(client.images(&[]).await.unwrap().is_empty());
    // What was brought is held for the plan to come.
    assert_eq!(client.snapshots(&[]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn images_that_share_a_layer_in_different_places_both_come() {
    let layer = |name: &str| Layer::new(Form::Gzip, |tar| file(tar, name, 0o644, name.as_bytes()));
    let process = json!({"Cmd": ["/a"]});
    let one = Image::new(vec![layer("a"), layer("shared")], &process);
    let other = Image::new(vec![layer("b"), layer("shared"), layer("c")], &process);
    let turned = Image::new(vec![layer("shared"), layer("d")], &process);
    let origin = Upstream::start();
    let images = [("one:1", &one), ("other:1", &other), ("turned:1", &turned)];
    for (name, image) in images {
        let (repository, tag) = name.split_once(':').unwrap();
        image.push(&origin, repository, tag).await;
    }
    let node = Node::start(format!("http://{}", origin.address)).await;
    let status = node.deliver(&images).await;
    assert_eq!(status.present, 3, "{status:?}");
}

#[tokio::test]
async fn a_snapshot_that_somebody_removed_comes_again_before_the_record() {
    let image = layered();
    let (_origin, _relay, mut node) = around(&image, Vec::new()).await;
    let runtime = std::sync::Arc::new(node.runtime().await);
    node.unrecorded = vec![Pattern::new("*")];
    let images = [("team/web:1", &image)];
    node.deliver_by(runtime.clone(), &images).await;
    let client = node.daemon.client().await;
    let top = image.chain_ids().pop().unwrap();
    assert!(client.remove_snapshot(&top).await.unwrap());
    node.unrecorded.clear();
    let status = node.deliver_by(runtime, &images).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert!(client.snapshot(&top).await.unwrap().is_some());
}
