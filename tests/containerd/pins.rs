//! Pins: the kubelet is told to leave what is foreseen, where the daemon ends that by itself.

use std::sync::Arc;
use std::time::Duration;

use forelay::port::{Clock, ContainerRuntime};
use forelay::runtime::containerd::label::{CRI_PINNED, EXPIRE};
use forelay::runtime::containerd::{Client, Collect, Containerd as Runtime};
use forelay::runtime::wire::images::Image as Record;
use forelay::telemetry::clock::SystemClock;

use crate::image::{Form, Image};
use crate::node::{Node, named};
use crate::pod::Cri;
use crate::program::busybox;
use crate::recipe::lease;
use crate::registry::{Upstream, sha256};

const TAG: &str = "team/web:1";

async fn delivered() -> (Upstream, Node, Image) {
    let origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/web", "1").await;
    let node = Node::start(format!("http://{}", origin.address)).await;
    (origin, node, image)
}

async fn pinning(node: &Node) -> Arc<Runtime> {
    let mut site = node.site();
    site.pins = true;
    Arc::new(site.runtime().await)
}

async fn pins(client: &Client) -> Vec<Record> {
    let filter = format!("labels.\"{CRI_PINNED}\"==pinned");
    client.images(&[filter]).await.unwrap()
}

/// Since 2.0 records expire.
async fn ends_pins(client: &Client) -> bool {
    let version = client.version().await.unwrap().version;
    !version.trim_start_matches('v').starts_with("1.")
}

/// What CRI tells the kubelet, once it has heard of the change.
async fn wait_for_pinned(node: &Node, pinned: bool) {
    let mut cri = Cri::new(node.daemon.channel().await);
    for _ in 0..2_000 {
        if cri.wait_for(&named(TAG)).await.pinned == pinned {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not {pinned}");
}

#[tokio::test]
async fn what_a_plan_foresees_is_pinned_until_it_does_not_and_only_where_that_ends_by_itself() {
    let (_origin, node, image) = delivered().await;
    let runtime = pinning(&node).await;
    node.deliver_by(runtime.clone(), &[(TAG, &image)]).await;
    let client = node.daemon.client().await;
    let manifest = sha256(&image.manifest);
    // The agent ends with its plan: what it did last may be undone, so that we do it once more.
    let now = SystemClock.now();
    let day = now + Duration::from_hours(24);
    runtime.pin(&manifest, day).await.unwrap();
    if !ends_pins(&client).await {
        assert_eq!(pins(&client).await, []);
        return;
    }
    let [pin] = &pins(&client).await[..] else {
        panic!("one pin for one image");
    };
    let expires: jiff::Timestamp = pin.labels[EXPIRE].parse().unwrap();
    let bound = now.as_micros() + 3_700_000_000;
    assert!(
        expires.as_microsecond() < bound,
        "an hour at most: {expires}"
    );
    wait_for_pinned(&node, true).await;
    let seen = Cri::new(node.daemon.channel().await)
        .image(&named(TAG))
        .await;
    assert_eq!(seen.unwrap().repo_tags, [named(TAG)], "a pin is no name");
    // A later start ends it, until its plan asks again.
    drop(runtime);
    let runtime = pinning(&node).await;
    assert_eq!(pins(&client).await, []);
    wait_for_pinned(&node, false).await;
    runtime.pin(&manifest, day).await.unwrap();
    // The prediction was wrong.
    runtime.withdraw(&manifest, None).await.unwrap();
    assert!(client.images(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pin_of_an_agent_that_never_comes_back_ends() {
    let (_origin, node, image) = delivered().await;
    let runtime = pinning(&node).await;
    node.deliver_by(runtime.clone(), &[(TAG, &image)]).await;
    let soon = SystemClock.now() + Duration::from_secs(1);
    runtime.pin(&sha256(&image.manifest), soon).await.unwrap();
    drop(runtime);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let client = node.daemon.client().await;
    let other = lease(&client).await;
    client.lease_end(&other, Collect::Now).await.unwrap();
    assert_eq!(pins(&client).await, []);
    wait_for_pinned(&node, false).await;
    assert!(
        Cri::new(node.daemon.channel().await)
            .image(&named(TAG))
            .await
            .is_some()
    );
}
