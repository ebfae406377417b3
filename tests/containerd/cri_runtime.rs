//! An agent that has only CRI: the real daemon pulls, and only what is ours is ever taken back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forelay::api::{ImagePhase, NodePrefetchStatus};
use forelay::domain::image::Digest;
use forelay::domain::quantity::ByteSize;
use forelay::domain::time::Timestamp;
use forelay::plan::policy::Pattern;
use forelay::port::{
    Clock, ContainerRuntime, RawManifest, RuntimeChange, RuntimeError, Show, Whole,
};
use forelay::runtime::cri::{CriRuntime, Options};
use forelay::store::{Durability, Store};
use forelay::telemetry::clock::SystemClock;
use futures::StreamExt;
use futures::future::{BoxFuture, Ready, ready};
use serde_json::json;

use crate::image::{Form, Image, Layer, OCI_INDEX, file};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::{Upstream, sha256};
use crate::relay::{Fault, Relay};
use crate::small::Small;

/// Time in which every pause is short: what the runtime looks at now and then it looks at soon.
struct Hurry;

impl Clock for Hurry {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(20)))
    }
}

/// A node whose daemon pulls from a registry that has `team/web:1` and `pause:1`.
struct Site {
    node: Node,
    origin: Upstream,
    web: Image,
    pause: Image,
}

impl Site {
    async fn start() -> Self {
        Self::start_on(Small::mount("1g"), busybox(Form::Gzip, "web")).await
    }

    async fn start_on(disk: Small, web: Image) -> Self {
        let origin = Upstream::start();
        let pause = busybox(Form::Gzip, "pause");
        web.push(&origin, "team/web", "1").await;
        pause.push(&origin, "pause", "1").await;
        let node = Node::start_on(disk, format!("http://{}", origin.address)).await;
        node.daemon.mirror(NAME, &origin.address.to_string());
        Self {
            node,
            origin,
            web,
            pause,
        }
    }

    fn state(&self) -> PathBuf {
        self.node.daemon.stage().join("state")
    }

    /// What a starting agent opens.
    async fn runtime(&self) -> Arc<CriRuntime> {
        let state = self.state();
        let (store, _) =
            Store::open_with(&state, SystemClock.now(), Durability::Temporary).unwrap();
        let options = Options {
            socket: self.node.daemon.socket(),
            state,
            clock: Arc::new(Hurry),
        };
        Arc::new(CriRuntime::open(options, Arc::new(store)).await.unwrap())
    }

    async fn deliver(&self, runtime: &Arc<CriRuntime>) -> NodePrefetchStatus {
        let images = [("team/web:1", &self.web)];
        self.node.deliver_by(runtime.clone(), &images).await
    }

    async fn cri(&self) -> Cri {
        Cri::new(self.node.daemon.channel().await)
    }

    fn manifest(&self) -> Digest {
        sha256(&self.web.manifest)
    }

    async fn is_there(&self, name: &str) -> bool {
        self.cri().await.image(&named(name)).await.is_some()
    }
}

/// What an agent asks for once it has manifest and config.
async fn whole(runtime: &CriRuntime, image: &Image) -> Whole {
    for document in [&image.manifest, &image.config] {
        let mut writer = runtime.open(&sha256(document), None).await.unwrap();
        if writer.offset() == 0 {
            writer.write(document.clone()).await.unwrap();
        }
        writer.commit().await.unwrap();
    }
    Whole {
        image: named("team/web:1").parse().unwrap(),
        digest: sha256(&image.manifest),
        index: Some(RawManifest {
            digest: sha256(&image.index),
            media_type: OCI_INDEX.to_owned(),
            bytes: image.index.clone(),
        }),
        show: Show::Record,
    }
}

/// Told at every look that finds other images.
fn is_no_list(change: &RuntimeChange) -> Ready<bool> {
    ready(*change != RuntimeChange::Images)
}

fn said(status: &NodePrefetchStatus) -> &str {
    status.images[0].message.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn an_image_that_was_pulled_for_us_starts_with_the_registry_switched_off() {
    let mut site = Site::start().await;
    let runtime = site.runtime().await;
    let images = [("team/web:1", &site.web), ("pause:1", &site.pause)];
    let status = site.node.deliver_by(runtime, &images).await;
    assert_eq!(status.present, 2, "{status:?}");
    let bytes: u64 = site.web.layers.iter().map(|l| l.blob.len() as u64).sum();
    assert_eq!(status.images[0].bytes_total.0, bytes);
    assert_eq!(status.bytes_present, status.bytes_total);
    site.origin.kill();
    let mut cri = site.cri().await;
    let pod = cri.sandbox("one").await;
    let command = ["/bin/busybox", "true"];
    let container = cri.start(&pod, &named("team/web:1"), &command).await;
    assert_eq!(cri.ended(&container.unwrap()).await, 0);
    cri.remove(pod).await;
}

#[tokio::test]
async fn what_is_pulled_for_us_fills_the_disk_budget_also_after_a_restart() {
    let mut site = Site::start().await;
    let bytes = |image: &Image| -> u64 { image.layers.iter().map(|l| l.blob.len() as u64).sum() };
    // Room for one of two images of a size.
    site.node.budget = ByteSize(bytes(&site.web) * 3 / 2);
    let runtime = site.runtime().await;
    let images = [("team/web:1", &site.web), ("pause:1", &site.pause)];
    let status = site.node.deliver_by(runtime.clone(), &images).await;
    assert_eq!(status.present, 1, "{status:?}");
    let waits = status.images[1].message.as_deref().unwrap();
    assert!(waits.contains("agent.disk_budget"), "{waits}");
    assert!(!site.is_there("pause:1").await);
    drop(runtime);
    // What an earlier run brought is counted, and found.
    let runtime = site.runtime().await;
    let status = site.node.deliver_by(runtime.clone(), &images).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert!(!site.is_there("pause:1").await);
    drop(runtime);
    // The other one alone: CRI can take a tag back only with its image, which makes room.
    let runtime = site.runtime().await;
    let status = site.node.deliver_by(runtime, &images[1..]).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert!(!site.is_there("team/web:1").await);
}

#[tokio::test]
async fn a_tag_that_moved_before_its_turn_is_not_pulled() {
    let site = Site::start().await;
    let newer = busybox(Form::Gzip, "newer");
    newer.push(&site.origin, "team/web", "1").await;
    let status = site.deliver(&site.runtime().await).await;
    assert_eq!((status.present, status.failed), (0, 1), "{status:?}");
    assert!(
        said(&status).contains(sha256(&newer.index).as_str()),
        "{status:?}"
    );
    assert!(!site.is_there("team/web:1").await);
}

#[tokio::test]
async fn a_tag_that_moves_while_it_is_pulled_is_told_and_taken_back() {
    let site = Site::start().await;
    let runtime = site.runtime().await;
    let wanted = whole(&runtime, &site.web).await;
    let newer = busybox(Form::Gzip, "newer");
    newer.push(&site.origin, "team/web", "1").await;
    let error = runtime.record(&wanted).await.unwrap_err().to_string();
    let came = sha256(&newer.config);
    assert!(
        error.contains("moved") && error.contains(came.as_str()),
        "{error}"
    );
    assert!(
        !site.is_there("team/web:1").await,
        "nobody would ask about it again"
    );
    assert_eq!(runtime.recorded().await.unwrap(), []);
}

#[tokio::test]
async fn what_must_not_be_recorded_is_left_to_the_kubelet() {
    let mut site = Site::start().await;
    site.node.unrecorded = vec![Pattern::new("*/team/*")];
    let status = site.deliver(&site.runtime().await).await;
    assert_eq!((status.present, status.failed), (0, 1), "{status:?}");
    assert_eq!(status.images[0].phase, ImagePhase::Failed);
    for word in ["left to the kubelet", "agent.unrecorded"] {
        assert!(said(&status).contains(word), "{status:?}");
    }
    assert!(!site.is_there("team/web:1").await);
    // Once somebody else has it there is nothing to hide.
    let mut cri = site.cri().await;
    cri.pull(&named("team/web:1")).await.unwrap();
    let site_runtime = site.runtime().await;
    let status = site.deliver(&site_runtime).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert_eq!(site_runtime.recorded().await.unwrap(), []);
}

#[tokio::test]
async fn an_image_that_somebody_else_pulled_is_never_removed() {
    let site = Site::start().await;
    site.cri().await.pull(&named("team/web:1")).await.unwrap();
    let runtime = site.runtime().await;
    let status = site.deliver(&runtime).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert_eq!(runtime.recorded().await.unwrap(), []);
    runtime.withdraw(&site.manifest(), None).await.unwrap();
    runtime.release(&site.manifest()).await.unwrap();
    assert!(site.is_there("team/web:1").await);
}

#[tokio::test]
async fn release_removes_what_was_pulled_for_us_and_nothing_else() {
    let site = Site::start().await;
    let mut cri = site.cri().await;
    cri.pull(&named("pause:1")).await.unwrap();
    let runtime = site.runtime().await;
    site.deliver(&runtime).await;
    assert_eq!(runtime.inventory().await.unwrap(), [site.manifest()]);
    runtime.release(&site.manifest()).await.unwrap();
    assert!(!site.is_there("team/web:1").await);
    assert!(site.is_there("pause:1").await);
    assert_eq!(runtime.inventory().await.unwrap(), []);
    assert_eq!(runtime.recorded().await.unwrap(), []);
    let left = std::fs::read_dir(site.state().join("blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0, "its documents went, too");
}

#[tokio::test]
async fn a_used_image_is_not_removed_and_is_the_kubelets_from_then_on() {
    let site = Site::start().await;
    let runtime = site.runtime().await;
    let images = [("team/web:1", &site.web), ("pause:1", &site.pause)];
    site.node.deliver_by(runtime.clone(), &images).await;
    let mut cri = site.cri().await;
    let pod = cri.sandbox("one").await;
    let command = ["/bin/busybox", "true"];
    let container = cri
        .start(&pod, &named("team/web:1"), &command)
        .await
        .unwrap();
    // It has ended, and may be started again.
    assert_eq!(cri.ended(&container).await, 0);
    let digest = site.manifest();
    let used = RuntimeError::InUse(digest.clone());
    assert_eq!(runtime.withdraw(&digest, None).await, Err(used));
    runtime.release(&digest).await.unwrap();
    assert!(site.is_there("team/web:1").await);
    cri.remove(pod).await;
    assert!(!runtime.recorded().await.unwrap().contains(&digest));
    runtime.release(&digest).await.unwrap();
    assert!(site.is_there("team/web:1").await);
}

#[tokio::test]
async fn an_image_that_somebody_else_also_named_stays() {
    let site = Site::start().await;
    site.web.push(&site.origin, "team/web", "2").await;
    let runtime = site.runtime().await;
    site.deliver(&runtime).await;
    site.cri().await.pull(&named("team/web:2")).await.unwrap();
    let error = runtime.withdraw(&site.manifest(), None).await.unwrap_err();
    assert!(error.to_string().contains("team/web:2"), "{error}");
    runtime.release(&site.manifest()).await.unwrap();
    assert!(site.is_there("team/web:1").await && site.is_there("team/web:2").await);
}

#[tokio::test]
async fn a_full_disk_is_told_as_full() {
    // Zeros travel as nothing: the room for them is not asked for before.
    let layer = Layer::new(Form::Gzip, |tar| {
        file(tar, "zeros", 0o644, &vec![0; 40 << 20]);
    });
    let image = Image::new(vec![layer], &json!({"Cmd": ["/a"]}));
    let site = Site::start_on(Small::mount("24m"), image).await;
    let runtime = site.runtime().await;
    let wanted = whole(&runtime, &site.web).await;
    let error = runtime.record(&wanted).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Full(_)), "{error:?}");
    assert_eq!(runtime.recorded().await.unwrap(), []);
    assert!(!site.is_there("team/web:1").await);
    let room = runtime.room().await.unwrap().expect("its disk is seen");
    assert!(room.0 < 24 << 20, "{room}");
}

#[tokio::test]
async fn a_restart_keeps_what_is_ours_and_only_that() {
    let site = Site::start().await;
    let mut cri = site.cri().await;
    let runtime = site.runtime().await;
    let images = [("team/web:1", &site.web), ("pause:1", &site.pause)];
    site.node.deliver_by(runtime.clone(), &images).await;
    drop(runtime);
    // Somebody removes one of them while no agent runs.
    let request = forelay::runtime::wire::cri::RemoveImageRequest {
        image: Some(crate::pod::spec(&named("pause:1"))),
    };
    cri.images.remove_image(request).await.unwrap();
    let runtime = site.runtime().await;
    assert_eq!(runtime.recorded().await.unwrap(), [site.manifest()]);
    let kept = runtime.read(&site.manifest()).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&site.web.manifest));
    let other = runtime.read(&sha256(&site.pause.manifest)).await.unwrap();
    assert_eq!(other, None, "documents of nothing are dropped");
    // And pulls it again by themselves: it is theirs.
    cri.pull(&named("pause:1")).await.unwrap();
    runtime
        .release(&sha256(&site.pause.manifest))
        .await
        .unwrap();
    assert!(site.is_there("pause:1").await);
    runtime.release(&site.manifest()).await.unwrap();
    assert!(!site.is_there("team/web:1").await);
}

#[tokio::test]
async fn a_name_that_may_not_be_shown_leaves_the_image_to_its_other_name() {
    let site = Site::start().await;
    let runtime = site.runtime().await;
    site.deliver(&runtime).await;
    let hidden = Whole {
        image: named("team/web:latest").parse().unwrap(),
        show: Show::Warm,
        ..whole(&runtime, &site.web).await
    };
    runtime.record(&hidden).await.unwrap();
    let manifest = site.manifest();
    runtime
        .withdraw(&manifest, Some(&hidden.image))
        .await
        .unwrap();
    assert!(site.is_there("team/web:1").await);
    let shown = named("team/web:1").parse().unwrap();
    runtime.withdraw(&manifest, Some(&shown)).await.unwrap();
    assert!(!site.is_there("team/web:1").await);
}

#[tokio::test]
async fn every_image_is_listed_and_what_was_pulled_for_us_goes_with_its_plan() {
    let site = Site::start().await;
    let runtime = site.runtime().await;
    site.deliver(&runtime).await;
    site.cri().await.pull(&named("pause:1")).await.unwrap();
    let images = runtime.images().await.unwrap().expect("CRI tells");
    assert_eq!(images.len(), 2, "{images:?}");
    let of = |digest: Digest| images.iter().find(|image| image.digest == digest).unwrap();
    let ours = of(site.manifest());
    assert_eq!((ours.names.len(), ours.planned.len()), (0, 2), "{ours:?}");
    // Of what others brought CRI tells no manifest, but what its name leads to.
    let theirs = of(sha256(&site.pause.index));
    assert_eq!(
        (theirs.names.len(), theirs.planned.len()),
        (2, 0),
        "{theirs:?}"
    );
    let layers: u64 = site.pause.layers.iter().map(|l| l.blob.len() as u64).sum();
    // containerd counts the documents, too: some kilobytes.
    let bytes = theirs.bytes.unwrap().0;
    assert!(
        (layers..layers + 10_000).contains(&bytes),
        "{bytes} of {layers}"
    );
}

#[tokio::test]
async fn what_others_take_and_bring_is_told() {
    let site = Site::start().await;
    let runtime = site.runtime().await;
    site.deliver(&runtime).await;
    let mut cri = site.cri().await;
    let mut changes = runtime.changes().filter(is_no_list);
    let name = named("team/web:1");
    let request = forelay::runtime::wire::cri::RemoveImageRequest {
        image: Some(crate::pod::spec(&name)),
    };
    cri.images.remove_image(request).await.unwrap();
    let gone = RuntimeChange::Gone {
        image: name.parse().unwrap(),
        digest: site.manifest(),
    };
    assert_eq!(changes.next().await, Some(gone));
    assert_eq!(runtime.recorded().await.unwrap(), []);
    cri.pull(&name).await.unwrap();
    let come = RuntimeChange::Present(site.manifest());
    assert_eq!(changes.next().await, Some(come));
    runtime.release(&site.manifest()).await.unwrap();
    assert!(site.is_there("team/web:1").await, "it is theirs now");
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_any_more_is_stopped_and_the_next_one_comes() {
    let site = Site::start().await;
    // Both layers stall for the daemon.
    let stalls = vec![Fault::None, Fault::Stall(10), Fault::Stall(10)];
    let relay = Relay::start(site.origin.address, stalls).await;
    site.node.daemon.mirror(NAME, &relay.address.to_string());
    let runtime = site.runtime().await;
    let wanted = whole(&runtime, &site.web).await;
    let client = site.node.daemon.client().await;
    let under_way = async {
        while client.ingests().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = runtime.record(&wanted) => panic!("{ended:?}"),
        () = under_way => {}
    }
    // What others ask for passes on: the daemon is not kept busy.
    site.node
        .daemon
        .mirror(NAME, &site.origin.address.to_string());
    let again = runtime.record(&wanted);
    let again = tokio::time::timeout(Duration::from_mins(1), again).await;
    again.expect("its turn comes").unwrap();
    assert_eq!(runtime.recorded().await.unwrap(), [site.manifest()]);
}

#[tokio::test]
async fn a_pull_of_somebody_else_is_seen_and_our_own_is_not() {
    let site = Site::start().await;
    let stalls = std::iter::once(Fault::None).chain(std::iter::repeat_n(Fault::Stall(10), 9));
    let relay = Relay::start(site.origin.address, stalls.collect::<Vec<_>>()).await;
    site.node.daemon.mirror(NAME, &relay.address.to_string());
    let runtime = site.runtime().await;
    let wanted = whole(&runtime, &site.web).await;
    let mut changes = runtime.changes().filter(is_no_list);
    let mut cri = site.cri().await;
    let pause = named("pause:1");
    let seen = async {
        // Ours is under way by now, or soon; then somebody else's comes.
        let others = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cri.pull(&pause).await
        };
        tokio::select! {
            ended = runtime.record(&wanted) => panic!("{ended:?}"),
            ended = others => panic!("{ended:?}"),
            change = changes.next() => change,
        }
    };
    let seen = tokio::time::timeout(Duration::from_mins(1), seen).await;
    let Some(RuntimeChange::Foreground { digest, active }) = seen.expect("it is seen") else {
        panic!("another change");
    };
    let blobs = |image: &Image| {
        let layers = image.layers.iter().map(Layer::digest);
        let documents = [&image.config, &image.manifest, &image.index];
        let documents = documents.map(|document| sha256(document));
        layers.chain(documents).collect::<Vec<_>>()
    };
    assert!(active && blobs(&site.pause).contains(&digest), "{digest}");
    assert!(!blobs(&site.web).contains(&digest), "{digest}");
}
