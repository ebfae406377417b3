//! A guest on the node: pulls of others are seen, and what is put aside for them comes whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forelay::domain::image::{Digest, ImageManifest, Platform};
use forelay::domain::manifest::Manifest;
use forelay::domain::quantity::ByteSize;
use forelay::port::{ContainerRuntime, RuntimeChange, RuntimeError};
use forelay::runtime::containerd::Containerd as Runtime;
use futures::StreamExt;
use serde_json::json;

use crate::image::{Form, Image, Layer, file};
use crate::node::{NAME, Node, named};
use crate::pod::Cri;
use crate::registry::{Upstream, sha256};

/// Incompressible enough that a daemon unpacks it for some hundred milliseconds.
const LARGE: usize = 24 << 20;

/// An image of layers that hold `bytes` each, all different.
fn heavy(layers: u8, bytes: usize) -> Image {
    let layer = |n: u8| {
        let mut state = u64::from(n) + 1;
        let noise = std::iter::repeat_with(|| {
            // xorshift64 (Marsaglia, 2003): noise is all that is asked for.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let noise: Vec<u8> = noise.take(bytes / 8).flatten().collect();
        Layer::new(Form::Gzip, |tar| {
            file(tar, &format!("noise-{n}"), 0o644, &noise);
        })
    };
    Image::new((0..layers).map(layer).collect(), &json!({}))
}

#[tokio::test]
async fn a_pods_own_pull_is_told_from_its_beginning_to_the_end_of_its_unpacking() {
    let (planned, pulled) = (heavy(1, 8), heavy(2, LARGE));
    let origin = Upstream::start();
    planned.push(&origin, "team/planned", "1").await;
    pulled.push(&origin, "team/pulled", "1").await;
    let node = Node::start(format!("http://{}", origin.address)).await;
    node.daemon.mirror(NAME, &origin.address.to_string());
    let runtime = Arc::new(node.runtime().await);
    let status = node
        .deliver_by(runtime.clone(), &[("team/planned:1", &planned)])
        .await;
    assert_eq!(status.present, 1, "{status:?}");
    let changes = runtime.changes();
    let listening = tokio::spawn(async move {
        let mut told: BTreeMap<Digest, Vec<bool>> = BTreeMap::new();
        let mut changes = std::pin::pin!(changes);
        loop {
            // Longer than a pull is waited for after its last sign of life.
            match tokio::time::timeout(Duration::from_secs(5), changes.next()).await {
                Ok(Some(RuntimeChange::Foreground { digest, active })) => {
                    told.entry(digest).or_default().push(active);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return told,
            }
        }
    });
    // The subscription is there before the pull.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut cri = Cri::new(node.daemon.channel().await);
    cri.pull(&named("team/pulled:1")).await.unwrap();
    let told = listening.await.unwrap();
    for chain in pulled.chain_ids() {
        let chain: Digest = chain.parse().unwrap();
        assert_eq!(told.get(&chain), Some(&vec![true, false]), "{told:?}");
    }
}

/// Writes the first half of a layer, and puts it aside.
async fn half(runtime: &Runtime, layer: &Layer) -> Result<(), RuntimeError> {
    let size = ByteSize(layer.blob.len() as u64);
    let mut writer = runtime.open(&layer.digest(), Some(size)).await?;
    let begun = usize::try_from(writer.offset()).unwrap();
    let middle = layer.blob.len() / 2;
    if begun < middle {
        writer.write(layer.blob.slice(begun..middle)).await?;
    }
    writer.suspend().await
}

#[tokio::test]
async fn layers_that_are_put_aside_and_taken_up_in_any_order_come_whole() {
    let image = heavy(5, 1 << 20);
    let origin = Upstream::start();
    image.push(&origin, "team/web", "1").await;
    let node = Node::start(format!("http://{}", origin.address)).await;
    let runtime = Arc::new(node.runtime().await);
    for document in [&image.config, &image.manifest] {
        let digest = sha256(document);
        let size = ByteSize(document.len() as u64);
        let mut writer = runtime.open(&digest, Some(size)).await.unwrap();
        writer.write(Bytes::clone(document)).await.unwrap();
        writer.commit().await.unwrap();
    }
    let manifest = manifest(&image);
    assert_eq!(runtime.lacking(&manifest).await.unwrap().len(), 5);
    // Only two are kept: each that is put aside makes another one go, which somebody else begins anew.
    let rounds = (0..4).flat_map(|_| image.layers.clone());
    let tasks = rounds.map(|layer| {
        let runtime = runtime.clone();
        tokio::spawn(async move { half(&runtime, &layer).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(()) | Err(RuntimeError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let status = node
        .deliver_by(runtime.clone(), &[("team/web:1", &image)])
        .await;
    assert_eq!(status.present, 1, "{status:?}");
}

fn manifest(image: &Image) -> ImageManifest {
    let Manifest::Image(parts) = Manifest::parse(&image.manifest).unwrap() else {
        panic!("an index");
    };
    parts.to_manifest(sha256(&image.manifest), Platform::linux("amd64"))
}
