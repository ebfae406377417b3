//! Layers' blobs in the content store: what a pull of the daemon itself would have left there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use forelay::domain::time::Timestamp;
use forelay::plan::policy::Pattern;
use forelay::port::ContainerRuntime;
use forelay::runtime::containerd::{Client, Collect};
use rustix::fs::statvfs;
use serde_json::json;

use crate::between::{Between, Side, Stop};
use crate::equal::Reference;
use crate::image::{Form, Image, Layer, file};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::program::{busybox, busybox_binary};
use crate::registry::{Upstream, sha256};
use crate::relay::{Fault, Relay};
use crate::small::Small;

/// What the content store knows of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    size: i64,
    /// Where it may be had, and what it is unpacked.
    labels: BTreeMap<String, String>,
    /// What it keeps from the collector.
    keeps: BTreeSet<String>,
}

/// Every blob by its digest.
pub async fn kept(client: &Client) -> BTreeMap<String, Kept> {
    let blobs = client.blobs(&[]).await.unwrap();
    let kept = blobs.into_iter().map(|info| {
        let (keeps, labels) = info
            .labels
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(key, _)| key.starts_with("containerd.io/gc.ref."));
        let kept = Kept {
            size: info.size,
            labels,
            keeps: keeps.into_values().collect(),
        };
        (info.digest, kept)
    });
    kept.collect()
}

/// Two layers of a program and one of a few bytes, in two forms.
fn image() -> Image {
    let program = Layer::new(Form::Gzip, |tar| {
        file(tar, "busybox", 0o755, &busybox_binary());
    });
    let plain = Layer::new(Form::Plain, |tar| file(tar, "plain", 0o644, b"plain"));
    let zipped = Layer::new(Form::Gzip, |tar| file(tar, "zipped", 0o644, b"zipped"));
    Image::new(vec![program, plain, zipped], &json!({"Cmd": ["/busybox"]}))
}

/// A registry with the image, a relay before it, and a node whose agents keep blobs.
async fn around(image: &Image, faults: Vec<Fault>) -> (Upstream, Relay, Node) {
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    let relay = Relay::start(origin.address, faults).await;
    let mut node = Node::start(relay.url()).await;
    node.blobs = true;
    (origin, relay, node)
}

/// Lets the daemon collect now.
async fn collect(client: &Client) {
    let lease = client.lease_begin("collect", Timestamp::MAX).await.unwrap();
    client.lease_end(&lease.id, Collect::Now).await.unwrap();
}

fn layers(image: &Image) -> BTreeSet<String> {
    let layers = image.layers.iter();
    layers.map(|layer| layer.digest().to_string()).collect()
}

/// Layers of the image of which the blobs are there.
async fn there(client: &Client, image: &Image) -> BTreeSet<String> {
    let kept = kept(client).await;
    let mut layers = layers(image);
    layers.retain(|layer| kept.contains_key(layer));
    layers
}

fn spooled(node: &Node) -> usize {
    std::fs::read_dir(node.staging().join("spool")).map_or(0, Iterator::count)
}

/// Containerd's own client, in words.
fn ctr(node: &Node, words: &[&str]) -> String {
    let socket = node.daemon.socket();
    let run = Command::new("ctr")
        .args([
            "--address",
            socket.to_str().unwrap(),
            "--namespace",
            "k8s.io",
        ])
        .args(words)
        .output();
    let run = run.unwrap_or_else(|e| panic!("ctr: {e}; apt-get install containerd"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{words:?}: {said}");
    String::from_utf8(run.stdout).unwrap()
}

#[tokio::test]
async fn an_image_with_its_blobs_is_as_after_a_pull_and_can_be_exported_and_pushed() {
    let image = image();
    let (origin, _relay, node) = around(&image, Vec::new()).await;
    let reference = Reference::pull(&origin, &image).await;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!(status.present, 1, "{status:?}");
    let client = node.daemon.client().await;
    // What only our lease held would be gone.
    collect(&client).await;
    assert_eq!(client.leases().await.unwrap(), []);
    assert_eq!(kept(&client).await, reference.kept().await);
    assert_eq!(spooled(&node), 0);

    let name = named("team/web:1");
    let complete = ctr(
        &node,
        &["images", "check", "--quiet", &format!("name=={name}")],
    );
    assert_eq!(complete.trim(), name);
    let tar = node.staging().join("export.tar");
    ctr(&node, &["images", "export", tar.to_str().unwrap(), &name]);
    let mut tar = tar::Archive::new(std::fs::File::open(&tar).unwrap());
    let exported: BTreeSet<String> = tar
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    for layer in image.layers.iter().map(Layer::digest) {
        let path = format!("blobs/sha256/{}", layer.hex());
        assert!(exported.contains(&path), "{exported:?}");
    }
    let elsewhere = Upstream::start();
    let copy = format!("{}/copy:1", elsewhere.address);
    ctr(&node, &["images", "push", "--plain-http", &copy, &name]);
}

#[tokio::test]
async fn without_the_option_only_documents_are_kept_and_nothing_is_spooled() {
    let image = image();
    let (_origin, _relay, mut node) = around(&image, Vec::new()).await;
    node.blobs = false;
    node.deliver(&[("team/web:1", &image)]).await;
    let client = node.daemon.client().await;
    assert_eq!(kept(&client).await.len(), 3, "config, manifest, index");
    assert!(!node.staging().join("spool").exists());
}

#[tokio::test]
async fn a_layer_that_the_node_has_is_not_fetched_again_for_its_blob() {
    let image = image();
    let (_origin, relay, mut node) = around(&image, Vec::new()).await;
    node.blobs = false;
    node.deliver(&[("team/web:1", &image)]).await;
    let before = relay.seen().len();
    node.blobs = true;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!(status.present, 1, "{status:?}");
    assert_eq!(relay.seen().len(), before, "{:?}", relay.seen());
    let client = node.daemon.client().await;
    assert!(there(&client, &image).await.is_empty());
}

#[tokio::test]
async fn blobs_of_an_image_that_is_only_held_are_held_with_it_and_stay_with_whoever_pulls_it() {
    let image = image();
    let (_origin, relay, mut node) = around(&image, Vec::new()).await;
    node.unrecorded = vec![Pattern::new("*")];
    let runtime = Arc::new(node.runtime().await);
    node.deliver_by(runtime.clone(), &[("team/web:1", &image)])
        .await;
    let client = node.daemon.client().await;
    collect(&client).await;
    assert_eq!(there(&client, &image).await, layers(&image));
    let before = relay.seen().len();
    node.daemon.mirror(NAME, &relay.address.to_string());
    let mut cri = Cri::new(node.daemon.channel().await);
    cri.pull(&named("team/web:1")).await.unwrap();
    assert_eq!(relay.seen().len(), before, "{:?}", relay.seen());
    runtime.release(&sha256(&image.manifest)).await.unwrap();
    collect(&client).await;
    assert_eq!(there(&client, &image).await, layers(&image));
}

#[tokio::test]
async fn blobs_go_with_the_record_of_their_image() {
    for release in [true, false] {
        let image = image();
        let (_origin, _relay, node) = around(&image, Vec::new()).await;
        let runtime = Arc::new(node.runtime().await);
        node.deliver_by(runtime.clone(), &[("team/web:1", &image)])
            .await;
        let client = node.daemon.client().await;
        assert_eq!(there(&client, &image).await, layers(&image));
        let manifest = sha256(&image.manifest);
        if release {
            runtime.release(&manifest).await.unwrap();
        } else {
            runtime.withdraw(&manifest, None).await.unwrap();
        }
        collect(&client).await;
        assert!(kept(&client).await.is_empty(), "release: {release}");
        assert_eq!(spooled(&node), 0);
    }
}

#[tokio::test]
async fn a_blob_that_was_cut_or_came_wrong_at_first_is_kept_right() {
    let image = image();
    // The config comes first.
    for fault in [Fault::Cut(400_000), Fault::Flip(300_000)] {
        let faults = vec![Fault::None, fault, Fault::None, fault];
        let (origin, _relay, node) = around(&image, faults).await;
        let reference = Reference::pull(&origin, &image).await;
        let status = node.deliver(&[("team/web:1", &image)]).await;
        assert_eq!(status.present, 1, "{fault:?}: {status:?}");
        let client = node.daemon.client().await;
        assert_eq!(kept(&client).await, reference.kept().await, "{fault:?}");
    }
}

#[tokio::test]
async fn of_a_registry_that_only_has_wrong_bytes_nothing_is_kept() {
    let image = image();
    let flips = std::iter::repeat_n(Fault::Flip(20), 200);
    let faults = std::iter::once(Fault::None).chain(flips).collect();
    let (_origin, _relay, node) = around(&image, faults).await;
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!(status.failed, 1, "{status:?}");
    let client = node.daemon.client().await;
    assert!(kept(&client).await.is_empty());
    assert!(client.ingests().await.unwrap().is_empty());
    assert_eq!(spooled(&node), 0);
}

#[tokio::test]
async fn a_spool_that_was_spoiled_meanwhile_is_refused_and_thrown_away() {
    let image = image();
    let (_origin, _relay, node) = around(&image, Vec::new()).await;
    let stop = Stop {
        method: "Images/Create",
        number: 1,
        side: Side::Before,
    };
    let between = Between::start(&node.daemon.socket(), Some(stop)).await;
    let mut site = node.site();
    site.socket = between.socket();
    let runtime = Arc::new(site.runtime().await);
    let images = [("team/web:1", &image)];
    let spoilt = async {
        between.stopped().await;
        // As a power cut might.
        let spool = node.staging().join("spool");
        let spool = spool.join(image.layers[0].digest().hex());
        let mut bytes = std::fs::read(&spool).unwrap();
        bytes[1_000] ^= 1;
        std::fs::write(&spool, bytes).unwrap();
        between.go_on();
    };
    let (status, ()) = tokio::join!(site.deliver_by(runtime, &images), spoilt);
    assert_eq!(status.present, 1, "{status:?}");
    let client = node.daemon.client().await;
    let mut right = layers(&image);
    right.remove(image.layers[0].digest().as_str());
    assert_eq!(there(&client, &image).await, right);
    assert!(client.ingests().await.unwrap().is_empty());
    assert_eq!(spooled(&node), 0);
}

#[tokio::test]
async fn a_blob_that_somebody_pulled_is_taken_as_it_is_and_may_be_had_from_both_repositories() {
    let image = image();
    let (origin, relay, node) = around(&image, Vec::new()).await;
    let other = Image::new(image.layers[..1].to_vec(), &json!({"Cmd": ["/other"]}));
    other.push(&origin, "team/other", "1").await;
    node.daemon.mirror(NAME, &relay.address.to_string());
    let mut cri = Cri::new(node.daemon.channel().await);
    cri.pull(&named("team/other:1")).await.unwrap();
    let status = node.deliver(&[("team/web:1", &image)]).await;
    assert_eq!(status.present, 1, "{status:?}");
    let client = node.daemon.client().await;
    assert_eq!(there(&client, &image).await, layers(&image));
    let kept = kept(&client).await;
    let source = format!("containerd.io/distribution.source.{NAME}");
    let of = |layer: &Layer| kept[layer.digest().as_str()].labels[&source].clone();
    assert_eq!(of(&image.layers[0]), "team/other,team/web");
    assert_eq!(of(&image.layers[1]), "team/web");
}

#[tokio::test]
async fn a_disk_that_is_full_when_a_blob_is_written_keeps_the_image_and_nothing_else() {
    // Bytes that do not get smaller: 4 MB of them in the tree, and in the spool.
    let noise: Vec<u8> = (0u32..1 << 20)
        .flat_map(|i| {
            i.wrapping_mul(0x9E37_79B9)
                .rotate_left(i % 31)
                .to_le_bytes()
        })
        .collect();
    let layer = Layer::new(Form::Plain, |tar| file(tar, "noise", 0o644, &noise));
    let image = Image::new(vec![layer], &json!({"Cmd": ["/a"]}));
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    let disk = Small::mount("128m");
    let filler = disk.path.join("filler");
    let mut node = Node::start_on(disk, format!("http://{}", origin.address)).await;
    node.blobs = true;
    // Config, manifest and index come first.
    let stop = Stop {
        method: "Content/Write",
        number: 4,
        side: Side::Before,
    };
    let between = Between::start(&node.daemon.socket(), Some(stop)).await;
    let mut site = node.site();
    site.socket = between.socket();
    let runtime = Arc::new(site.runtime().await);
    let fill = async {
        between.stopped().await;
        let told = statvfs(filler.parent().unwrap()).unwrap();
        // The daemon's database needs some pages.
        let free = told.f_bavail * told.f_frsize - (1 << 20);
        std::fs::write(&filler, vec![0; usize::try_from(free).unwrap()]).unwrap();
        between.go_on();
    };
    let images = [("team/web:1", &image)];
    let (status, ()) = tokio::join!(site.deliver_by(runtime, &images), fill);
    assert_eq!(status.present, 1, "{status:?}");
    std::fs::remove_file(&filler).unwrap();
    let client = node.daemon.client().await;
    assert!(there(&client, &image).await.is_empty());
    assert!(client.ingests().await.unwrap().is_empty());
    assert_eq!(client.leases().await.unwrap(), []);
    assert_eq!(spooled(&node), 0);
    let mut cri = Cri::new(node.daemon.channel().await);
    assert!(cri.image(&named("team/web:1")).await.is_some());
    collect(&client).await;
    assert!(
        client
            .snapshot(&image.chain_ids()[0])
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn an_agent_that_keeps_no_blobs_clears_away_what_an_earlier_one_spooled() {
    let origin = Upstream::start();
    let image = busybox(Form::Gzip, "one");
    image.push(&origin, "team/web", "1").await;
    let mut node = Node::start(format!("http://{}", origin.address)).await;
    let spool = node.staging().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    let needed_by_nobody = sha256(b"nobody");
    for name in [needed_by_nobody.hex(), "half.part"] {
        std::fs::write(spool.join(name), b"bytes").unwrap();
    }
    node.blobs = true;
    drop(node.runtime().await);
    assert_eq!(spooled(&node), 0);
    std::fs::write(spool.join(needed_by_nobody.hex()), b"bytes").unwrap();
    node.blobs = false;
    node.deliver(&[("team/web:1", &image)]).await;
    assert!(!spool.exists());
}
