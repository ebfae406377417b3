//! The recipe of an image without a pull, against the real daemon: who sees it, and what it is.

use std::path::PathBuf;
use std::time::Duration;

use forelay::port::Clock;
use forelay::runtime::containerd::{Client, Collect, LeaseId};
use forelay::telemetry::clock::SystemClock;

use crate::daemon::{Containerd, Options};
use crate::debian;
use crate::image::{Form, Image};
use crate::place::{place, record};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::{Upstream, sha256};
use crate::tree;

const MINUTES: Duration = Duration::from_mins(10);

pub async fn lease(client: &Client) -> LeaseId {
    let expires = SystemClock.now() + MINUTES;
    client.lease_begin("test", expires).await.unwrap().id
}

/// The directory of a committed snapshot: a view of the lowest is a bind mount of it, and of another one an overlay
/// whose nearest lower directory it is.
pub async fn directory(client: &Client, lease: &LeaseId, chain: &str) -> PathBuf {
    let key = format!("view {chain}");
    let mounts = client.view(lease, &key, chain).await.unwrap();
    let mount = &mounts.as_told()[0];
    let lower = mount
        .options
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="));
    let nearest = lower.map_or(mount.source.as_str(), |paths| {
        paths.split(':').next().unwrap()
    });
    let nearest = PathBuf::from(nearest);
    client.remove_snapshot(&key).await.unwrap();
    nearest
}

#[tokio::test]
async fn an_image_that_was_placed_starts_with_the_registry_stopped() {
    let mut origin = Upstream::start();
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let pause = busybox(Form::Gzip, "pause");
    place(&client, &held, &daemon.stage(), &pause).await;
    record(&client, "forelay.test/pause", "1", &pause).await;

    let image = busybox(Form::Zstd, "two");
    let repository = format!("{}/team/tool", origin.address);
    let name = format!("{repository}:1");
    image.push(&origin, "team/tool", "1").await;
    place(&client, &held, &daemon.stage(), &image).await;
    let mut cri = Cri::new(daemon.channel().await);
    assert_eq!(cri.image(&name).await, None, "no record, no image");
    record(&client, &repository, "1", &image).await;
    let seen = cri.wait_for(&name).await;
    assert_eq!(seen.id, sha256(&image.config).to_string());
    let pinned = format!("{repository}@{}", sha256(&image.index));
    cri.wait_for(&pinned).await;
    assert_eq!(cri.image(&name).await.unwrap().repo_digests, [pinned]);
    // The one thing that still needs the registry, as a control that it is really gone.
    assert_eq!(cri.pull(&name).await.unwrap(), seen.id);
    origin.kill();
    cri.pull(&name).await.unwrap_err();

    // From here on the records alone hold it: a collection takes what they do not lead to.
    client.lease_end(&held, Collect::Now).await.unwrap();
    let pod = cri.sandbox("one").await;
    let container = cri
        .start(&pod, &name, &["/bin/busybox", "sh", "-c", "exit 3"])
        .await
        .unwrap();
    assert_eq!(cri.ended(&container).await, 3);
    let pinned = format!("{repository}@{}", sha256(&image.index));
    let pod = (pod, cri.sandbox("two").await);
    let container = cri
        .start(&pod.1, &pinned, &["/bin/busybox", "true"])
        .await
        .unwrap();
    assert_eq!(cri.ended(&container).await, 0);
    cri.remove(pod.0).await;
    cri.remove(pod.1).await;
    origin.run();
    assert_eq!(cri.pull(&name).await.unwrap(), seen.id);
}

#[tokio::test]
async fn a_pull_after_warm_without_record_fetches_no_layer() {
    let origin = Upstream::start();
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let held = lease(&client).await;
    let image = debian::python(Form::Gzip);
    image.push(&origin, "team/tool", "1").await;
    place(&client, &held, &daemon.stage(), &image).await;
    let mut cri = Cri::new(daemon.channel().await);
    let name = format!("{}/team/tool:1", origin.address);
    cri.pull(&name).await.unwrap();
    cri.wait_for(&name).await;
    for layer in &image.layers {
        let stored = client.blob(&layer.digest()).await.unwrap();
        assert_eq!(stored, None, "a layer that is unpacked was fetched");
    }
    client.lease_end(&held, Collect::Now).await.unwrap();
    for chain in image.chain_ids() {
        assert!(
            client.snapshot(&chain).await.unwrap().is_some(),
            "the pull holds it now"
        );
    }
}

/// containerd's own unpacking and ours by `tar`, in two daemons.
async fn compare(image: Image) {
    let origin = Upstream::start();
    image.push(&origin, "team/tool", "1").await;
    let theirs = Containerd::start().await;
    let ours = Containerd::start_in(&std::env::temp_dir(), &Options::default()).await;
    let name = format!("{}/team/tool:1", origin.address);
    Cri::new(theirs.channel().await).pull(&name).await.unwrap();
    let clients = (theirs.client().await, ours.client().await);
    let leases = (lease(&clients.0).await, lease(&clients.1).await);
    place(&clients.1, &leases.1, &ours.stage(), &image).await;
    for chain in image.chain_ids() {
        let left = directory(&clients.0, &leases.0, &chain).await;
        let right = directory(&clients.1, &leases.1, &chain).await;
        assert!(tree::count(&left) > 10);
        assert_eq!(tree::differences(&left, &right), [""; 0], "{chain}");
    }
}

#[tokio::test]
async fn a_python_image_is_what_containerd_makes_of_it() {
    compare(debian::python(Form::Gzip)).await;
}

#[tokio::test]
async fn an_image_with_one_large_layer_is_what_containerd_makes_of_it() {
    compare(debian::large(Form::Zstd)).await;
}

#[tokio::test]
async fn an_image_of_many_small_files_is_what_containerd_makes_of_it() {
    compare(debian::small_files(Form::Plain)).await;
}
