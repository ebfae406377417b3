//! Snapshot by snapshot: what an agent delivered, and what containerd itself unpacks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forelay::domain::time::Timestamp;
use forelay::runtime::containerd::label::Labels;
use forelay::runtime::containerd::{Client, Collect};
use serde_json::json;
use tar::EntryType;

use crate::blobs::{Kept, kept};
use crate::debian;
use crate::image::{Form, Image, Layer, entry, file, folder};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::registry::Upstream;
use crate::relay::Relay;
use crate::tree::{count, differences};

/// The directory of each snapshot of an image, base first.
pub async fn trees(client: &Client, image: &Image) -> Vec<PathBuf> {
    let lease = client.lease_begin("look", Timestamp::MAX).await.unwrap().id;
    let mut trees: Vec<PathBuf> = Vec::new();
    for (i, chain) in image.chain_ids().iter().enumerate() {
        let key = format!("look-{i}");
        let mounts = client.prepare(&lease, &key, Some(chain), Labels::default());
        let mounts = mounts.await.unwrap().overlay().unwrap();
        client.remove_snapshot(&key).await.unwrap();
        trees.push(mounts.lowers[0].clone());
    }
    client.lease_end(&lease, Collect::Later).await.unwrap();
    trees
}

/// What the daemon itself makes of an image.
pub struct Reference {
    node: Node,
    trees: Vec<PathBuf>,
}

impl Reference {
    pub async fn pull(origin: &Upstream, image: &Image) -> Self {
        let node = Node::start(format!("http://{}", origin.address)).await;
        node.daemon.mirror(NAME, &origin.address.to_string());
        let mut cri = Cri::new(node.daemon.channel().await);
        cri.pull(&named("team/web:1")).await.unwrap();
        let trees = trees(&node.daemon.client().await, image).await;
        Self { node, trees }
    }

    /// Every difference between its snapshots and those on another daemon.
    pub async fn differences(&self, client: &Client, image: &Image) -> Vec<String> {
        let ours = trees(client, image).await;
        assert_eq!(ours.len(), self.trees.len(), "{}", self.node.daemon.log());
        let pairs = ours.iter().zip(&self.trees);
        pairs
            .flat_map(|(ours, theirs)| differences(ours, theirs))
            .collect()
    }

    /// What is in its content store.
    pub async fn kept(&self) -> BTreeMap<String, Kept> {
        kept(&self.node.daemon.client().await).await
    }

    pub fn entries(&self) -> usize {
        self.trees.iter().map(|tree| count(tree)).sum()
    }
}

/// Pulls by one daemon, delivers into another, compares.
async fn assert_equal(image: &Image, unlisted: &[&str]) -> usize {
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    let reference = Reference::pull(&origin, image).await;
    let relay = Relay::start(origin.address, []).await;
    let node = Node::start(relay.url()).await;
    let status = node.deliver(&[("team/web:1", image)]).await;
    assert_eq!(status.present, 1, "{status:?}");
    let client = node.daemon.client().await;
    let mut found = reference.differences(&client, image).await;
    // Directories that no layer lists are as old as their unpacking.
    let is_new = |line: &String| {
        let mut names = unlisted.iter();
        names.any(|name| line.starts_with(&format!("{name}: time")))
    };
    found.retain(|line| !is_new(line));
    assert!(found.is_empty(), "{}", found.join("\n"));
    reference.entries()
}

#[tokio::test]
async fn a_language_with_its_packages_is_equal_in_every_form() {
    for form in [Form::Gzip, Form::Zstd, Form::Plain] {
        // An empty comparison would be equal, too.
        assert!(assert_equal(&debian::python(form), &[]).await > 1_000);
    }
}

#[tokio::test]
async fn an_image_with_one_large_layer_is_equal() {
    assert_equal(&debian::large(Form::Gzip), &[]).await;
}

#[tokio::test]
async fn many_small_files_are_equal() {
    assert!(assert_equal(&debian::small_files(Form::Gzip), &[]).await > 3_000);
}

#[tokio::test]
async fn what_layers_say_of_each_other_is_equal() {
    let base = Layer::new(Form::Gzip, |tar| {
        folder(tar, "usr/", 0o755);
        folder(tar, "usr/lib/", 0o2775);
        file(tar, "usr/lib/a", 0o4755, b"a");
        file(tar, "usr/lib/b", 0o640, b"b");
        folder(tar, "var/", 0o700);
        folder(tar, "var/old/", 0o755);
        file(tar, "var/old/x", 0o644, b"x");
        entry(tar, "dev-null", EntryType::Char, 0o666, b"");
        entry(tar, "pipe", EntryType::Fifo, 0o600, b"");
        // Removes what is not there, at the bottom of all.
        file(tar, "usr/.wh.nothing", 0o644, b"");
    });
    let top = Layer::new(Form::Gzip, |tar| {
        // Directories that only the layer below lists.
        file(tar, "usr/lib/c", 0o644, b"c");
        file(tar, "usr/.wh.b", 0o644, b"");
        file(tar, "usr/lib/.wh.b", 0o644, b"");
        // One that nobody lists.
        file(tar, "srv/deep/er/d", 0o644, b"d");
        folder(tar, "var/old/", 0o750);
        file(tar, "var/old/.wh..wh..opq", 0o644, b"");
        file(tar, "var/old/y", 0o644, b"y");
    });
    let linked = Layer::new(Form::Gzip, |tar| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        header.set_mode(0o644);
        file(tar, "usr/lib/first", 0o644, b"first");
        tar.append_link(&mut header, "usr/lib/second", "usr/lib/first")
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mtime(77);
        tar.append_link(&mut header, "usr/lib/pointer", "../../etc/x")
            .unwrap();
    });
    let image = Image::new(vec![base, top, linked], &json!({"Cmd": ["/a"]}));
    // And marks of what is gone have no time of their own.
    let unlisted = [
        "usr",
        "usr/lib",
        "usr/b",
        "usr/lib/b",
        "var",
        "srv",
        "srv/deep",
        "srv/deep/er",
    ];
    assert_equal(&image, &unlisted).await;
}

#[tokio::test]
async fn a_directory_where_a_lower_layer_has_a_link_is_what_the_daemon_makes_of_it() {
    let base = Layer::new(Form::Gzip, |tar| {
        folder(tar, "usr/", 0o755);
        folder(tar, "usr/lib/", 0o755);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "lib", "usr/lib").unwrap();
    });
    // As packages of a merged `/usr` are unpacked: `lib` is a link below.
    let top = Layer::new(Form::Gzip, |tar| file(tar, "lib/through", 0o644, b"x"));
    let above = Layer::new(Form::Gzip, |tar| file(tar, "plain", 0o644, b"x"));
    let image = Image::new(vec![base, top, above], &json!({"Cmd": ["/a"]}));
    assert_equal(&image, &["lib"]).await;
}
