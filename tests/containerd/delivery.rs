//! An agent's delivery into the real daemon: pods start from it, and nothing wrong ever gets in.

use forelay::api::ImagePhase;
use forelay::plan::policy::Pattern;
use forelay::port::ContainerRuntime;
use serde_json::json;

use crate::image::{Form, Image, Layer, file, folder};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::program::{busybox, busybox_binary};
use crate::registry::{Upstream, sha256};
use crate::relay::{Fault, Relay};

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
    let lease = client
        .lease_begin("collect", forelay::domain::time::Timestamp::MAX)
        .await;
    let collect = forelay::runtime::containerd::Collect::Now;
    client.lease_end(&lease.unwrap().id, collect).await.unwrap();
    assert!(client.snapshots(&[]).await.unwrap().is_empty());
    assert!(client.blobs(&[]).await.unwrap().is_empty());
    let left = std::fs::read_dir(node.staging().join("layers")).unwrap();
    assert_eq!(left.count(), 0);
}
