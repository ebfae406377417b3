//! A recorded catalogue, whole, through the cache to many nodes at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use forelay::cache::{Cache, Options};
use forelay::domain::image::{Digest, ImageManifest, ImageRef};
use forelay::domain::quantity::ByteSize;
use forelay::embedded::origin::Origin;
use forelay::port::{BlobSource, BlobWanted, Clock, ImageResolver};
use forelay::registry::{Options as ClientOptions, Registry};
use forelay::source::scenario::{ScenarioReader, Strictness};
use forelay::store::Store;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Nodes that want everything at the same time.
const NODES: usize = 6;

/// Every image of the catalogue into one node's store, each blob once, several at a time.
async fn pull_all(registry: &Registry, origin: &Origin, store: &Store) {
    let mut blobs: BTreeMap<Digest, (ImageRef, ByteSize)> = BTreeMap::new();
    for (image, expected) in origin.catalogue() {
        let found = registry.resolve(image).await.unwrap();
        let digests = |manifests: &[ImageManifest]| {
            manifests
                .iter()
                .map(|m| m.digest.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(digests(&found), digests(expected), "{image}");
        for layer in found.iter().flat_map(|manifest| &manifest.layers) {
            blobs.insert(layer.digest.clone(), (image.clone(), layer.size));
        }
    }
    let fetched = stream::iter(blobs).map(async |(digest, (image, size))| {
        let wanted = BlobWanted {
            image,
            digest,
            offset: 0,
            avoid: Vec::new(),
        };
        let mut blob = registry.blob(&wanted).await.unwrap();
        assert_eq!((blob.from, blob.size), ("cache", Some(size)));
        let mut writer = store.writer(&wanted.digest, Some(size)).await.unwrap();
        while let Some(chunk) = blob.chunks.try_next().await.unwrap() {
            writer.append(chunk).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    fetched.buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_catalogue_leaves_its_origin_once_however_many_nodes_want_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("scenarios/ca-flash-crowd.jsonl.zst");
    let (header, _) = ScenarioReader::open(&path, Strictness::Strict).unwrap();
    let origin = Origin::new(&header, 400);
    let end = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstreams = origin.upstreams(listener.local_addr().unwrap());
    let (serving, ended) = (origin.clone(), end.clone());
    tokio::spawn(async move { serving.serve(listener, ended).await });

    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let mut options = Options::new(folder.path().join("cache"), upstreams, clock);
    options.client.system_proxy = false;
    let cache = Cache::open(options, &mut Metrics::new("cache")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap());
    let (serving, ended) = (cache.clone(), end.clone());
    tokio::spawn(async move { serving.serve(listener, ended).await });

    let nodes = (0..NODES).map(|node| {
        let registry = Registry::new(ClientOptions {
            mirrors: vec![mirror.clone()],
            use_origins: false,
            system_proxy: false,
            ..ClientOptions::default()
        });
        let root = folder.path().join(format!("node-{node}"));
        let (store, _) = Store::open(&root, SystemClock.now()).unwrap();
        let origin = origin.clone();
        tokio::spawn(async move {
            pull_all(&registry.unwrap(), &origin, &store).await;
            store.used()
        })
    });
    let used: Vec<ByteSize> = join_all(nodes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();

    let layers: BTreeMap<&Digest, ByteSize> = origin
        .catalogue()
        .values()
        .flatten()
        .flat_map(|manifest| &manifest.layers)
        .map(|layer| (&layer.digest, layer.size))
        .collect();
    let once: ByteSize = layers.values().copied().sum();
    assert_eq!(used, [once; NODES]);
    assert_eq!(origin.served_bytes(), cache.origin_bytes());
    let beside = cache.origin_bytes() - once;
    assert!(
        beside < ByteSize(1_000_000),
        "configs and manifests took {beside}"
    );
    assert!(cache.served_bytes() >= ByteSize(once.0 * NODES as u64));
    for (digest, _) in cache.store().entries() {
        cache.store().verify(&digest).await.unwrap();
    }
    end.cancel();
}
