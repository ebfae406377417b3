//! The pull-through cache in front of a real registry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forelay::cache::{Cache, Options};
use forelay::domain::image::ImageRef;
use forelay::domain::quantity::ByteSize;
use forelay::port::ImageResolver;
use forelay::registry::{Options as ClientOptions, Registry};
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::relay::{Fault, Relay};
use crate::upstream::{OCI_IMAGE, OCI_INDEX, Pushed, Upstream, client};

/// The registry name under which the origin is known to the cache.
pub const NAME: &str = "registry.test";

/// A cache on a socket; ends when dropped.
pub struct Running {
    pub cache: Cache,
    pub address: SocketAddr,
    _end: DropGuard,
}

pub fn image() -> ImageRef {
    format!("{NAME}/team/web:1").parse().unwrap()
}

pub fn options(folder: &TempDir, origin: &str) -> Options {
    let upstreams = BTreeMap::from([(NAME.to_owned(), origin.to_owned())]);
    let clock = Arc::new(SystemClock);
    let mut options = Options::new(folder.path().to_owned(), upstreams, clock);
    options.back_off.first = Duration::from_millis(1);
    options.client = ClientOptions {
        system_proxy: false,
        idle_timeout: Duration::from_millis(700),
        pause: Duration::from_millis(1),
        ..ClientOptions::default()
    };
    options
}

pub async fn start(options: Options) -> Running {
    let cache = Cache::open(options, &mut Metrics::new("cache")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let end = CancellationToken::new();
    let (serving, ended) = (cache.clone(), end.clone());
    tokio::spawn(async move { serving.serve(listener, ended).await });
    Running {
        cache,
        address,
        _end: end.drop_guard(),
    }
}

impl Running {
    pub fn blob_url(&self, pushed: &Pushed, layer: usize) -> String {
        let digest = &pushed.manifest.layers[layer].digest;
        format!(
            "http://{}/v2/team/web/blobs/{digest}?ns={NAME}",
            self.address
        )
    }

    fn manifest_url(&self, reference: &str) -> String {
        format!(
            "http://{}/v2/team/web/manifests/{reference}?ns={NAME}",
            self.address
        )
    }

    pub async fn blob(&self, pushed: &Pushed, layer: usize) -> Result<Bytes, reqwest::Error> {
        let answer = client().get(self.blob_url(pushed, layer)).send().await?;
        answer.error_for_status()?.bytes().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_readers_of_a_cold_layer_cost_one_upstream_fetch() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, 5_000_000)]).await;
    let relay = Relay::start(origin.address, []).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &relay.url())).await;

    let readers = (0..16).map(|_| running.blob(&pushed, 0));
    for read in join_all(readers).await {
        assert_eq!(read.unwrap(), pushed.layers[0]);
    }
    assert_eq!(relay.seen().len(), 1);
    assert_eq!(running.cache.upstream_fetches(), 1);
    assert_eq!(running.cache.origin_bytes(), ByteSize(5_000_000));
    assert_eq!(running.cache.served_bytes(), ByteSize(80_000_000));

    let digest = &pushed.manifest.layers[0].digest;
    running.cache.store().verify(digest).await.unwrap();
}

#[tokio::test]
async fn manifests_are_served_with_their_exact_bytes_digest_and_type() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, 1000)]).await;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_IMAGE, "digest": pushed.manifest.digest, "size": pushed.bytes.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}]});
    let index = Bytes::from(index.to_string());
    origin
        .put_manifest("team/web", "all", OCI_INDEX, index.clone())
        .await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &format!("http://{}", origin.address))).await;

    let digest = pushed.manifest.digest.to_string();
    for (reference, kind, bytes) in [
        ("1", OCI_IMAGE, &pushed.bytes),
        (digest.as_str(), OCI_IMAGE, &pushed.bytes),
        ("all", OCI_INDEX, &index),
    ] {
        let url = running.manifest_url(reference);
        let head = client().head(&url).send().await.unwrap();
        let get = client().get(&url).send().await.unwrap();
        for answer in [&head, &get] {
            assert_eq!(answer.status(), 200, "{reference}");
            assert_eq!(answer.headers()["content-type"], kind);
            let length = answer.headers()["content-length"].to_str().unwrap();
            assert_eq!(length, bytes.len().to_string());
        }
        assert_eq!(
            head.headers()["docker-content-digest"],
            get.headers()["docker-content-digest"]
        );
        let etag = get.headers()["etag"].clone();
        assert_eq!(get.bytes().await.unwrap(), *bytes);
        let again = client()
            .get(&url)
            .header("if-none-match", etag)
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304);
    }
}

#[tokio::test]
async fn a_cold_layer_is_served_from_any_byte_on() {
    let origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, 400_000)]).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &format!("http://{}", origin.address))).await;
    let url = running.blob_url(&pushed, 0);

    let head = client().head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "400000");
    assert_eq!(running.cache.origin_bytes(), ByteSize(0));

    for (range, expected) in [
        ("bytes=399000-", 399_000..400_000),
        ("bytes=5-9", 5..10),
        ("bytes=0-", 0..400_000),
    ] {
        let answer = client()
            .get(&url)
            .header("range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 206);
        let told = format!("bytes {}-{}/400000", expected.start, expected.end - 1);
        assert_eq!(answer.headers()["content-range"], told.as_str());
        assert_eq!(
            answer.bytes().await.unwrap(),
            pushed.layers[0].slice(expected)
        );
    }
    let beyond = client()
        .get(&url)
        .header("range", "bytes=400000-")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (beyond.status().as_u16(), running.cache.upstream_fetches()),
        (416, 1)
    );
}

#[tokio::test]
async fn what_the_cache_cannot_give_is_a_404_in_the_protocols_words() {
    let origin = Upstream::start();
    origin.push(&image(), &[(1, 10)]).await;
    let folder = tempfile::tempdir().unwrap();
    let running = start(options(&folder, &format!("http://{}", origin.address))).await;
    let missing = format!("sha256:{}", "0".repeat(64));
    for (path, code) in [
        (
            "/v2/team/web/manifests/1?ns=other.test".to_owned(),
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/team/web/manifests/nope?ns={NAME}"),
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/team/web/blobs/{missing}?ns={NAME}"),
            "BLOB_UNKNOWN",
        ),
        (
            format!("/v2/team/web/blobs/notadigest?ns={NAME}"),
            "BLOB_UNKNOWN",
        ),
        ("/v2/../../etc/passwd".to_owned(), "NAME_UNKNOWN"),
        ("/v2/team/web/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        let url = format!("http://{}{path}", running.address);
        let answer = client().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{path}");
    }
    let url = format!(
        "http://{}/v2/team/web/manifests/1?ns={NAME}",
        running.address
    );
    assert_eq!(client().delete(url).send().await.unwrap().status(), 405);
    let root = format!("http://{}/v2/", running.address);
    assert_eq!(client().get(root).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_moved_tag_is_noticed_after_its_freshness_and_a_dead_origin_does_not_matter() {
    let mut origin = Upstream::start();
    let old = origin.push(&image(), &[(1, 1000)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut short = options(&folder, &format!("http://{}", origin.address));
    short.fresh = Duration::from_millis(300);
    let running = start(short.clone()).await;
    let url = running.manifest_url("1");
    let served = || async {
        client()
            .get(&url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    };
    assert_eq!(served().await, old.bytes);
    running.blob(&old, 0).await.unwrap();

    let new = origin.push(&image(), &[(2, 1000)]).await;
    assert_ne!(new.bytes, old.bytes);
    while served().await != new.bytes {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    origin.kill();
    tokio::time::sleep(short.fresh).await;
    let answer = client().get(&url).send().await.unwrap();
    assert!(
        answer.headers().contains_key("age"),
        "{:?}",
        answer.headers()
    );
    assert_eq!(answer.bytes().await.unwrap(), new.bytes);
    assert_eq!(running.blob(&old, 0).await.unwrap(), old.layers[0]);
}

#[tokio::test]
async fn blobs_and_tags_survive_a_restart_of_the_cache() {
    let mut origin = Upstream::start();
    let pushed = origin.push(&image(), &[(1, 1000)]).await;
    let folder = tempfile::tempdir().unwrap();
    let chosen = options(&folder, &format!("http://{}", origin.address));
    let running = start(chosen.clone()).await;
    let client_of = |address: SocketAddr| {
        let options = ClientOptions {
            mirrors: vec![format!("http://{address}")],
            use_origins: false,
            system_proxy: false,
            ..ClientOptions::default()
        };
        Registry::new(options).unwrap()
    };
    client_of(running.address).resolve(&image()).await.unwrap();
    running.blob(&pushed, 0).await.unwrap();
    origin.kill();
    drop(running);

    // The listener's task gives the directory up a moment after it was asked to end.
    while Cache::open(chosen.clone(), &mut Metrics::new("cache")).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let running = start(chosen).await;
    let found = client_of(running.address).resolve(&image()).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&pushed.manifest));
    assert_eq!(running.blob(&pushed, 0).await.unwrap(), pushed.layers[0]);
    assert_eq!(running.cache.upstream_fetches(), 0);
}

#[tokio::test]
async fn the_disk_quota_drops_the_layer_that_was_not_asked_for_the_longest() {
    let origin = Upstream::start();
    let pushed = origin
        .push(&image(), &[(1, 40_000), (2, 40_000), (3, 40_000)])
        .await;
    let relay = Relay::start(origin.address, [Fault::None]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut small = options(&folder, &relay.url());
    small.quota = ByteSize(100_000);
    let running = start(small).await;
    for layer in [0, 1, 0, 2, 0] {
        assert_eq!(
            running.blob(&pushed, layer).await.unwrap(),
            pushed.layers[layer]
        );
    }
    assert_eq!(relay.seen().len(), 3);
    running.blob(&pushed, 1).await.unwrap();
    assert_eq!(relay.seen().len(), 4);
    // The reader's end is told a moment after its last byte, and evictions wait for it.
    while running.cache.store().used() > ByteSize(100_000) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
