//! The origin, asked by the registry client that Forelay ships.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::json;

use super::*;
use crate::port::{BlobSource, BlobWanted, ImageResolver};
use crate::registry::{Options, Registry};

fn digest(n: u8) -> Digest {
    Digest::from_sha256(&[n; 32])
}

fn header() -> Header {
    let layer = |n, size: u64| json!({"digest": digest(n), "size": size});
    let manifest = |n, arch: &str, layers: serde_json::Value| json!({"digest": digest(n), "platform": {"os": "linux", "arch": arch}, "layers": layers});
    let base = layer(1, 3_000_000);
    serde_json::from_value(json!({
        "type": "dev.forelay.scenario.v1", "name": "t", "story": "", "provenance": "",
        "licence": "", "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:01Z",
        "pools": {}, "shared": {"cache_uplink": 0.0, "origin": 0.0},
        "images": {
            "docker.io/library/web:1": [manifest(10, "amd64", json!([base, layer(2, 900)])),
                manifest(11, "arm64", json!([layer(3, 2_000_000)]))],
            "quay.io/library/web:1": [manifest(12, "amd64", json!([base, layer(4, 5_000)]))],
        }
    }))
    .unwrap()
}

async fn started(origin: &Origin) -> (Registry, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options {
        origins: origin.upstreams(listener.local_addr().unwrap()),
        system_proxy: false,
        ..Options::default()
    };
    let stop = CancellationToken::new();
    let (serving, stopping) = (origin.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(listener, stopping).await });
    (Registry::new(options).unwrap(), stop)
}

#[tokio::test]
async fn every_reference_means_what_the_catalogue_says() {
    let origin = Origin::new(&header(), 10);
    let (registry, stop) = started(&origin).await;
    assert_eq!(origin.catalogue().len(), 2);
    for (image, manifests) in origin.catalogue() {
        let mut expected = manifests.clone();
        for layer in expected.iter_mut().flat_map(|m| &mut m.layers) {
            // What it serves is not compressed.
            layer.unpacked = Some(layer.size);
        }
        assert_eq!(registry.resolve(image).await.unwrap(), expected, "{image}");
    }
    stop.cancel();
}

#[tokio::test]
async fn layers_shared_in_the_catalogue_are_shared_and_others_are_not() {
    let origin = Origin::new(&header(), 10);
    let layers = |image: &str| {
        origin.catalogue()[&image.parse().unwrap()][0]
            .layers
            .clone()
    };
    let (docker, quay) = (layers("web:1"), layers("quay.io/library/web:1"));
    assert_eq!(docker[0], quay[0]);
    assert_eq!(docker[0].size, ByteSize(300_000));
    assert_ne!(docker[1].digest, quay[1].digest);
}

#[tokio::test]
async fn a_layer_can_be_had_from_any_byte_on_and_is_counted() {
    let origin = Origin::new(&header(), 10);
    let (registry, stop) = started(&origin).await;
    let image: ImageRef = "web:1".parse().unwrap();
    let layer = origin.catalogue()[&image][0].layers[0].clone();
    let mut halves = Vec::new();
    for offset in [0, 123_457] {
        let wanted = BlobWanted {
            image: image.clone(),
            digest: layer.digest.clone(),
            offset,
            avoid: Vec::new(),
        };
        let blob = registry.blob(&wanted).await.unwrap();
        assert_eq!((blob.offset, blob.size), (offset, Some(layer.size)));
        let chunks: Vec<Bytes> = blob.chunks.try_collect().await.unwrap();
        halves.push(chunks.concat());
    }
    assert_eq!(halves[0][123_457..], halves[1]);
    let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &halves[0]);
    assert_eq!(Digest::from_sha256(found.as_ref()), layer.digest);
    let sent = (halves[0].len() + halves[1].len()) as u64;
    assert_eq!(origin.served_bytes(), ByteSize(sent));
    stop.cancel();
}

#[tokio::test]
async fn the_same_catalogue_gives_the_same_images() {
    let (a, b) = (Origin::new(&header(), 10), Origin::new(&header(), 10));
    assert_eq!(a.catalogue(), b.catalogue());
    assert!(Arc::strong_count(&a.shared) == 1 && a.served_bytes() == b.served_bytes());
}
