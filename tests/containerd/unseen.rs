//! What happens while nobody listens to the daemon is noticed once somebody does again.

use std::sync::Arc;
use std::time::Duration;

use forelay::port::{ContainerRuntime, RuntimeChange};
use forelay::runtime::containerd::Collect;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::between::{Between, Side, Stop};
use crate::image::Form;
use crate::node::{Node, named};
use crate::program::busybox;
use crate::recipe::lease;
use crate::registry::{Upstream, sha256};

/// A subscription is tried every second.
const PATIENCE: Duration = Duration::from_mins(1);

async fn next(changes: &mut BoxStream<'static, RuntimeChange>) -> RuntimeChange {
    let next = tokio::time::timeout(PATIENCE, changes.next()).await;
    next.expect("a change is told").expect("the stream goes on")
}

#[tokio::test]
async fn a_record_that_is_removed_while_the_daemon_starts_anew_is_missed_afterwards() {
    let origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/web", "1").await;
    let mut node = Node::start(format!("http://{}", origin.address)).await;
    // The agent's own subscription is the first, ours the second.
    let stop = Stop {
        method: "Events/Subscribe",
        number: 3,
        side: Side::Before,
    };
    let between = Between::start(&node.daemon.socket(), Some(stop)).await;
    let mut site = node.site();
    site.socket = between.socket();
    let runtime = Arc::new(site.runtime().await);
    let status = site
        .deliver_by(runtime.clone(), &[("team/web:1", &image)])
        .await;
    assert_eq!(status.present, 1, "{status:?}");
    let mut changes = runtime.changes();
    assert_eq!(next(&mut changes).await, RuntimeChange::Unseen);

    node.daemon.restart().await;
    between.stopped().await;
    let (client, name) = (node.daemon.client().await, named("team/web:1"));
    assert!(
        client
            .delete_image(&name, None, Collect::Now)
            .await
            .unwrap()
    );
    between.go_on();
    let gone = RuntimeChange::Gone {
        image: name.parse().unwrap(),
        digest: sha256(&image.manifest),
    };
    assert_eq!(next(&mut changes).await, gone);
    assert_eq!(next(&mut changes).await, RuntimeChange::Unseen);
}

#[tokio::test]
async fn what_a_lease_held_is_held_again_after_the_daemon_has_lost_the_lease() {
    let origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/web", "1").await;
    let mut node = Node::start(format!("http://{}", origin.address)).await;
    let runtime = Arc::new(node.runtime().await);
    let images = [("team/web:1", &image)];
    node.deliver_by(runtime.clone(), &images).await;
    // Held instead of recorded: nothing but our lease keeps its layers.
    let manifest = sha256(&image.manifest);
    runtime.withdraw(&manifest, None).await.unwrap();
    let mut changes = runtime.changes();
    assert_eq!(next(&mut changes).await, RuntimeChange::Unseen);
    let client = node.daemon.client().await;
    let ours = client.leases().await.unwrap();
    // The daemon collects at its start: somebody else keeps the layers meanwhile.
    let other = lease(&client).await;
    let top = image.chain_ids().pop().unwrap();
    assert!(client.hold_snapshot(&other, &top).await.unwrap());
    for lease in ours {
        client.lease_end(&lease.id, Collect::Later).await.unwrap();
    }
    node.daemon.restart().await;
    assert_eq!(next(&mut changes).await, RuntimeChange::Unseen);
    let client = node.daemon.client().await;
    client.lease_end(&other, Collect::Now).await.unwrap();
    assert!(client.snapshot(&top).await.unwrap().is_some());
    let [lease] = &client.leases().await.unwrap()[..] else {
        panic!("one lease for one image");
    };
    assert_eq!(lease.purpose, manifest.hex());
}
