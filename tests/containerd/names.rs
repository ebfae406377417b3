//! Records by name: what a moved tag loses, and what a container keeps.

use std::sync::Arc;

use forelay::port::{ContainerRuntime, RuntimeError};
use forelay::runtime::containerd::Containerd as Runtime;
use forelay::runtime::wire::cri::ContainerState;
use serde_json::json;

use crate::image::{Form, Image};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::{Upstream, sha256};

/// A node with an image under two tags, and what sandboxes need.
struct Twice {
    image: Image,
    origin: Upstream,
    node: Node,
    runtime: Arc<Runtime>,
    cri: Cri,
}

impl Twice {
    async fn deliver(tags: &[&str]) -> Self {
        let origin = Upstream::start();
        let (image, pause) = (busybox(Form::Gzip, "one"), busybox(Form::Gzip, "pause"));
        let names: Vec<String> = tags.iter().map(|tag| format!("team/web:{tag}")).collect();
        for tag in tags {
            image.push(&origin, "team/web", tag).await;
        }
        pause.push(&origin, "pause", "1").await;
        let node = Node::start(format!("http://{}", origin.address)).await;
        node.daemon.mirror(NAME, &origin.address.to_string());
        let runtime = Arc::new(node.runtime().await);
        let mut images: Vec<(&str, &Image)> =
            names.iter().map(|name| (name.as_str(), &image)).collect();
        images.push(("pause:1", &pause));
        let status = node.deliver_by(runtime.clone(), &images).await;
        assert_eq!(status.present as usize, images.len(), "{status:?}");
        Self {
            cri: Cri::new(node.daemon.channel().await),
            image,
            origin,
            node,
            runtime,
        }
    }

    /// Takes a tag's record back, as after it moved.
    async fn moved(&self, tag: &str) -> Result<(), RuntimeError> {
        let name = by_tag(tag).parse().unwrap();
        let manifest = sha256(&self.image.manifest);
        self.runtime.withdraw(&manifest, Some(&name)).await
    }

    /// Names of the image's records, CRI's own left out.
    async fn names(&self) -> Vec<String> {
        let client = self.node.daemon.client().await;
        let filter = format!("target.digest=={}", sha256(&self.image.index));
        let records = client.images(&[filter]).await.unwrap().into_iter();
        let names = records.map(|record| record.name);
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("sha256:")).collect();
        names.sort();
        names
    }

    fn by_digest(&self) -> String {
        format!("{}@{}", named("team/web"), sha256(&self.image.index))
    }
}

fn by_tag(tag: &str) -> String {
    named(&format!("team/web:{tag}"))
}

#[tokio::test]
async fn a_tag_that_moved_loses_its_record_and_the_images_other_tag_does_not() {
    let twice = Twice::deliver(&["1", "2"]).await;
    let (one, two, digest) = (by_tag("1"), by_tag("2"), twice.by_digest());
    assert_eq!(twice.names().await, [one, two.clone(), digest.clone()]);
    twice.moved("1").await.unwrap();
    assert_eq!(twice.names().await, [two, digest]);
    // With the last tag goes what it brought.
    twice.moved("2").await.unwrap();
    assert_eq!(twice.names().await, [""; 0]);
    let client = twice.node.daemon.client().await;
    let top = twice.image.chain_ids().pop().unwrap();
    assert!(client.snapshot(&top).await.unwrap().is_some(), "held");
}

#[tokio::test]
async fn the_tag_by_which_a_container_was_started_stays_and_goes_with_it() {
    let mut twice = Twice::deliver(&["1"]).await;
    let pod = twice.cri.sandbox("one").await;
    let name = by_tag("1");
    let id = twice.cri.start(&pod, &name, &[]).await.unwrap();
    let in_use = twice.moved("1").await.unwrap_err();
    assert!(matches!(in_use, RuntimeError::InUse(_)), "{in_use}");
    assert_eq!(twice.names().await, [name, twice.by_digest()]);
    assert_ne!(
        twice.cri.container(&id).await.state(),
        ContainerState::ContainerExited
    );
    twice.cri.remove(pod).await;
    twice.moved("1").await.unwrap();
    assert_eq!(twice.names().await, [""; 0]);
}

#[tokio::test]
async fn a_tag_that_no_pod_named_goes_though_a_container_runs_from_its_image() {
    let mut twice = Twice::deliver(&["1", "2"]).await;
    let pod = twice.cri.sandbox("one").await;
    let name = by_tag("1");
    let sleep = ["/bin/busybox", "sleep", "1000000"];
    let id = twice.cri.start(&pod, &name, &sleep).await.unwrap();
    twice.moved("2").await.unwrap();
    assert!(twice.cri.image(&by_tag("2")).await.is_none());
    // The container does not notice, nor does what the kubelet asks about it.
    assert_eq!(twice.names().await, [name, twice.by_digest()]);
    assert_ne!(
        twice.cri.container(&id).await.state(),
        ContainerState::ContainerExited
    );
    twice.cri.remove(pod).await;
}

#[tokio::test]
async fn a_container_of_another_image_with_the_same_layers_keeps_no_tag() {
    let mut twice = Twice::deliver(&["1"]).await;
    let other = Image::new(
        twice.image.layers.clone(),
        &json!({"Cmd": ["/bin/busybox"]}),
    );
    other.push(&twice.origin, "team/other", "1").await;
    let name = named("team/other:1");
    twice.cri.pull(&name).await.unwrap();
    let pod = twice.cri.sandbox("one").await;
    let sleep = ["/bin/busybox", "sleep", "1000000"];
    twice.cri.start(&pod, &name, &sleep).await.unwrap();
    twice.moved("1").await.unwrap();
    assert!(twice.cri.image(&by_tag("1")).await.is_none());
    twice.cri.remove(pod).await;
}

#[tokio::test]
async fn an_image_without_layers_is_in_use_as_any_other() {
    let origin = Upstream::start();
    let image = Image::new(Vec::new(), &json!({"Cmd": ["/nothing"]}));
    let pause = busybox(Form::Gzip, "pause");
    image.push(&origin, "team/web", "1").await;
    pause.push(&origin, "pause", "1").await;
    let node = Node::start(format!("http://{}", origin.address)).await;
    let runtime = Arc::new(node.runtime().await);
    let images = [("team/web:1", &image), ("pause:1", &pause)];
    let status = node.deliver_by(runtime.clone(), &images).await;
    assert_eq!(status.present, 2, "{status:?}");
    let mut cri = Cri::new(node.daemon.channel().await);
    let (pod, name) = (cri.sandbox("one").await, named("team/web:1"));
    // It has no program to start.
    cri.create(&pod, &name, &[]).await.unwrap();
    let manifest = sha256(&image.manifest);
    let withdrawn = runtime.withdraw(&manifest, None).await.unwrap_err();
    assert!(matches!(withdrawn, RuntimeError::InUse(_)), "{withdrawn}");
    // Nor does the image that keeps the sandbox go.
    let pause = sha256(&pause.manifest);
    let withdrawn = runtime.withdraw(&pause, None).await.unwrap_err();
    assert!(matches!(withdrawn, RuntimeError::InUse(_)), "{withdrawn}");
    cri.remove(pod).await;
    runtime.withdraw(&manifest, None).await.unwrap();
    runtime.withdraw(&pause, None).await.unwrap();
    let client = node.daemon.client().await;
    assert!(client.images(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_kubelet_has_pulled_by_a_name_of_ours_is_not_ours_any_more() {
    let mut twice = Twice::deliver(&["1"]).await;
    let newer = busybox(Form::Gzip, "newer");
    newer.push(&twice.origin, "team/web", "1").await;
    let name = by_tag("1");
    let pulled = twice.cri.pull(&name).await.unwrap();
    assert_eq!(pulled, sha256(&newer.config).to_string());
    let manifest = sha256(&twice.image.manifest);
    twice.runtime.withdraw(&manifest, None).await.unwrap();
    twice.runtime.release(&manifest).await.unwrap();
    let seen = twice.cri.image(&name).await.expect("the kubelet's record");
    assert_eq!(seen.id, pulled);
    assert_eq!(twice.names().await, [""; 0]);
}
