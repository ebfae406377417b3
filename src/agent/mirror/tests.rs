//! The mirror over HTTP, in front of an origin that does as it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest as sha256};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::DropGuard;

use super::*;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::{OCI_IMAGE, OCI_INDEX};
use crate::domain::time::Timestamp;
use crate::registry;
use crate::runtime::oci_layout::OciLayout;
use crate::store::{Durability, Store};
use crate::telemetry::clock::SystemClock;

const FRESH: Duration = Duration::from_mins(1);

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha256(&SHA256, bytes).as_ref())
}

/// A registry that a test changes while it runs.
#[derive(Default)]
struct Origin {
    tags: HashMap<String, Bytes>,
    manifests: BTreeMap<Digest, Bytes>,
    /// Without this header nothing is told.
    token: Option<&'static str>,
    challenge: String,
    is_away: bool,
    asked: Vec<(String, Option<String>)>,
}

type Shared = Arc<Mutex<Origin>>;

async fn serve_origin(State(origin): State<Shared>, request: Request) -> Response {
    let mut origin = origin.lock().unwrap();
    let shown = request.headers().get(AUTHORIZATION);
    let shown = shown.map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path().to_owned();
    origin.asked.push((path.clone(), shown.clone()));
    let answer = Response::builder();
    if origin.is_away {
        return answer.status(503).body(Body::empty()).unwrap();
    }
    if origin.token.is_some() && shown.as_deref() != origin.token {
        let answer = answer.header(WWW_AUTHENTICATE, &origin.challenge);
        return answer.status(401).body(Body::empty()).unwrap();
    }
    let reference = path.rsplit('/').next().unwrap();
    let found = match reference.parse() {
        Ok(digest) => origin.manifests.get::<Digest>(&digest),
        Err(_) => origin.tags.get(reference),
    };
    let Some(bytes) = found else {
        return answer.status(404).body(Body::empty()).unwrap();
    };
    let answer = answer
        .header(CONTENT_TYPE, OCI_INDEX)
        .header("docker-content-digest", digest_of(bytes).as_str());
    answer.body(Body::from(bytes.clone())).unwrap()
}

/// Time as a test sets it, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        futures::future::pending().boxed()
    }
}

/// A mirror, its origin, and one image that was brought.
struct Stage {
    origin: Shared,
    registry: String,
    book: Book,
    time: Arc<Hand>,
    address: SocketAddr,
    client: reqwest::Client,
    config: Bytes,
    manifest: Bytes,
    index: Bytes,
    runtime: Arc<OciLayout>,
    _folder: tempfile::TempDir,
    _end: DropGuard,
}

fn index_of(manifest: &Bytes) -> Bytes {
    let entry = json!({"mediaType": OCI_IMAGE, "size": manifest.len(), "digest": digest_of(manifest),
        "platform": {"os": "linux", "architecture": "amd64"}});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    Bytes::from(index.to_string())
}

async fn keep(runtime: &OciLayout, bytes: &Bytes) {
    let mut writer = runtime.open(&digest_of(bytes), None).await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    writer.commit().await.unwrap();
}

impl Stage {
    async fn new() -> Self {
        let origin = Shared::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(serve_origin);
        let router = router.with_state(origin.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let config = Bytes::from_static(b"{\"os\":\"linux\",\"architecture\":\"amd64\"}");
        let part = |of: &[u8]| json!({"mediaType": "application/x", "digest": digest_of(of), "size": of.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE,
            "config": part(&config), "layers": [part(b"layer")]});
        let manifest = Bytes::from(manifest.to_string());
        let index = index_of(&manifest);
        let folder = tempfile::tempdir().unwrap();
        let (store, _) =
            Store::open_with(folder.path(), Timestamp::ZERO, Durability::Temporary).unwrap();
        let runtime = Arc::new(OciLayout::open(folder.path(), Arc::new(store)).unwrap());
        keep(&runtime, &config).await;
        keep(&runtime, &manifest).await;
        keep(&runtime, &Bytes::from_static(b"layer")).await;
        let client = registry::Options {
            system_proxy: false,
            rounds: 1,
            // For the library that fetches tokens.
            plain_http: vec![registry.clone()],
            ..registry::Options::default()
        };
        let origins = Arc::new(Registry::new(client).unwrap());
        let time = Arc::new(Hand::default());
        let book = Book::new(FRESH, time.clone());
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            book: book.clone(),
            runtime: runtime.clone(),
            source: origins.clone(),
            origins,
            clock: time.clone(),
        };
        let mirror = Mirror::new(options, &mut Metrics::new("agent"));
        let listening = mirror.bind().await.unwrap();
        let address = listening.address().unwrap();
        let end = CancellationToken::new();
        tokio::spawn(listening.serve(Vec::new(), end.clone()));
        let stage = Self {
            origin,
            registry,
            book,
            time,
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            config,
            manifest,
            index,
            runtime,
            _folder: folder,
            _end: end.drop_guard(),
        };
        stage.publish(&stage.index);
        stage.book.hold(&stage.image(), &digest_of(&stage.manifest));
        stage
    }

    fn image(&self) -> ImageRef {
        format!("{}/team/web:1", self.registry).parse().unwrap()
    }

    fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap()
    }

    /// The tag means this from now on.
    fn publish(&self, bytes: &Bytes) {
        let mut origin = self.origin();
        origin.tags.insert("1".into(), bytes.clone());
        origin.manifests.insert(digest_of(bytes), bytes.clone());
    }

    fn close(&self, challenge: &str, token: &'static str) {
        let mut origin = self.origin();
        (origin.challenge, origin.token) = (challenge.to_owned(), Some(token));
    }

    async fn get(&self, path: &str, shown: Option<&str>) -> reqwest::Response {
        let (address, ns) = (self.address, &self.registry);
        let url = format!("http://{address}/v2/team/web/{path}?ns={ns}");
        let mut request = self.client.get(url);
        if let Some(shown) = shown {
            request = request.header(AUTHORIZATION, shown);
        }
        request.send().await.unwrap()
    }

    async fn status(&self, path: &str, shown: Option<&str>) -> u16 {
        self.get(path, shown).await.status().as_u16()
    }
}

#[tokio::test]
async fn a_tag_is_answered_with_what_its_origin_says_it_means() {
    let stage = Stage::new().await;
    let answer = stage.get("manifests/1", None).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[CONTENT_TYPE], OCI_INDEX);
    let named = answer.headers()["docker-content-digest"].to_str().unwrap();
    assert_eq!(named, digest_of(&stage.index).as_str());
    assert_eq!(answer.bytes().await.unwrap(), stage.index);
    let url = format!(
        "http://{}/v2/team/web/manifests/1?ns={}",
        stage.address, stage.registry
    );
    let head = stage.client.head(url).send().await.unwrap();
    let length = head.headers()[CONTENT_LENGTH].to_str().unwrap();
    assert_eq!(length, stage.index.len().to_string());
    assert!(head.bytes().await.unwrap().is_empty());
    // The manifest itself, as a tag of one platform's image means.
    stage.publish(&stage.manifest);
    let answer = stage.get("manifests/1", None).await;
    assert_eq!(answer.bytes().await.unwrap(), stage.manifest);
}

#[tokio::test]
async fn a_tag_that_moved_is_left_to_the_origin_and_the_agent_is_told() {
    let stage = Stage::new().await;
    assert_eq!(stage.status("manifests/1", None).await, 200);
    let newer = index_of(&Bytes::from_static(b"another manifest"));
    stage.publish(&newer);
    assert_eq!(stage.status("manifests/1", None).await, 404);
    let told = stage.book.next_moved().await;
    assert_eq!(told, (stage.image(), digest_of(&stage.manifest)));
    // What it meant before is not remembered, either.
    stage.origin().is_away = true;
    assert_eq!(stage.status("manifests/1", None).await, 404);
}

#[tokio::test]
async fn while_its_origin_is_away_a_tag_means_what_was_said_within_the_freshness_time() {
    let stage = Stage::new().await;
    stage.origin().is_away = true;
    assert_eq!(stage.status("manifests/1", None).await, 404, "never asked");
    stage.origin().is_away = false;
    // The pause after an origin that did not answer is over.
    stage.time.0.store(10, Ordering::Relaxed);
    assert_eq!(stage.status("manifests/1", None).await, 200);
    stage.origin().is_away = true;
    stage.time.0.store(10 + FRESH.as_secs(), Ordering::Relaxed);
    assert_eq!(stage.status("manifests/1", None).await, 200);
    stage.time.0.store(11 + FRESH.as_secs(), Ordering::Relaxed);
    assert_eq!(stage.status("manifests/1", None).await, 404);
    // A digest is not older for that.
    let pinned = format!("manifests/{}", digest_of(&stage.index));
    assert_eq!(stage.status(&pinned, None).await, 200);
}

#[tokio::test]
async fn what_everybody_may_read_needs_no_token_and_none_is_passed_on() {
    let stage = Stage::new().await;
    assert_eq!(stage.status("manifests/1", None).await, 200);
    stage.origin().asked.clear();
    let shown = Some("Bearer of-somebody");
    assert_eq!(stage.status("manifests/1", shown).await, 200);
    let asked = std::mem::take(&mut stage.origin().asked);
    assert!(asked.iter().all(|(_, shown)| shown.is_none()), "{asked:?}");
    stage.origin().is_away = true;
    assert_eq!(stage.status("manifests/1", shown).await, 200);
}

#[tokio::test]
async fn an_origin_that_is_away_is_asked_once_and_not_by_every_pull() {
    let stage = Stage::new().await;
    stage.origin().is_away = true;
    for _ in 0..5 {
        assert_eq!(stage.status("manifests/1", None).await, 404);
    }
    assert_eq!(stage.origin().asked.len(), 1);
}

#[tokio::test]
async fn what_is_not_known_here_is_asked_of_nobody() {
    let stage = Stage::new().await;
    let nothing = digest_of(b"nothing");
    for path in [
        "manifests/2".to_owned(),
        format!("manifests/{nothing}"),
        format!("blobs/{nothing}"),
        // Layers are the origin's business.
        format!("blobs/{}", digest_of(b"layer")),
        "tags/list".to_owned(),
    ] {
        assert_eq!(stage.status(&path, None).await, 404, "{path}");
    }
    for query in ["", "?ns=", "?ns=another.test", "?ns=%00"] {
        let url = format!("http://{}/v2/team/web/manifests/1{query}", stage.address);
        let answer = stage.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{query}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["errors"][0]["code"].is_string(), "{body}");
    }
    let url = format!("http://{}/v2/team/web/manifests/1", stage.address);
    let answer = stage.client.put(url).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert!(stage.origin().asked.is_empty());
}

#[tokio::test]
async fn a_config_is_told_once_everybody_may_read_it() {
    let stage = Stage::new().await;
    let path = format!("blobs/{}", digest_of(&stage.config));
    assert_eq!(stage.status(&path, None).await, 404);
    stage.get("manifests/1", None).await;
    let answer = stage.get(&path, None).await;
    assert_eq!(answer.bytes().await.unwrap(), stage.config);
}

#[tokio::test]
async fn a_private_manifest_is_told_to_who_shows_the_origin_a_token_and_to_nobody_else() {
    let stage = Stage::new().await;
    // Its token server knows nobody, either.
    let realm = format!("http://{}/token", stage.registry);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
    stage.close(&challenge, "Bearer right");
    let pinned = format!("manifests/{}", digest_of(&stage.manifest));
    // The tag's index has to come from where the agent may read it.
    stage.book.indexed(
        &stage.image(),
        &crate::port::RawManifest {
            digest: digest_of(&stage.index),
            media_type: OCI_INDEX.into(),
            bytes: stage.index.clone(),
        },
    );
    stage
        .origin()
        .manifests
        .insert(digest_of(&stage.manifest), stage.manifest.clone());
    for path in ["manifests/1", &pinned] {
        let asked = stage.get(path, None).await;
        assert_eq!(asked.status(), 401);
        assert_eq!(asked.headers()[WWW_AUTHENTICATE], challenge);
        let body = asked.text().await.unwrap();
        assert!(body.contains("UNAUTHORIZED"), "{body}");
        assert_eq!(stage.status(path, Some("Bearer wrong")).await, 404);
        assert_eq!(stage.status(path, Some("Bearer right")).await, 200);
        assert_eq!(
            stage.status(path, None).await,
            401,
            "nobody is let in after"
        );
    }
    let config = format!("blobs/{}", digest_of(&stage.config));
    assert_eq!(stage.status(&config, None).await, 404);
    stage.origin().is_away = true;
    let away = stage.status("manifests/1", Some("Bearer right")).await;
    assert_eq!(away, 404);
}

#[tokio::test]
async fn a_registry_that_wants_a_password_is_left_to_the_client() {
    let stage = Stage::new().await;
    let password = "Basic dXNlcjpzZWNyZXQ=";
    stage.close("Basic realm=\"test\"", password);
    assert_eq!(stage.status("manifests/1", None).await, 404);
    assert_eq!(stage.status("manifests/1", Some(password)).await, 404);
    let asked = std::mem::take(&mut stage.origin().asked);
    assert!(asked.iter().all(|(_, shown)| shown.is_none()), "{asked:?}");
}

#[tokio::test]
async fn a_client_too_many_is_turned_away_at_once() {
    let stage = Stage::new().await;
    let mut idle = Vec::new();
    // Silent clients, more than there is room for.
    for _ in 0..80 {
        idle.push(TcpStream::connect(stage.address).await.unwrap());
    }
    let last = idle.last_mut().unwrap();
    let closed = timeout(Duration::from_secs(10), last.read_u8()).await;
    assert!(matches!(closed, Ok(Err(_))), "the last one waits");
    drop(idle);
    let mut answered = false;
    for _ in 0..100 {
        let url = format!("http://{}/v2/", stage.address);
        answered = stage.client.get(url).send().await.is_ok();
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answered, "there is room again");
}

#[tokio::test]
async fn a_port_that_is_taken_is_listened_on_as_soon_as_it_is_free() {
    let stage = Stage::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let origins = Arc::new(Registry::new(registry::Options::default()).unwrap());
    let options = Options {
        listen: address,
        book: stage.book.clone(),
        runtime: stage.runtime.clone(),
        source: origins.clone(),
        origins,
        clock: Arc::new(SystemClock),
    };
    let mirror = Mirror::new(options, &mut Metrics::new("agent"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("_default/hosts.toml");
    let (end, folders) = (CancellationToken::new(), vec![folder.path().to_owned()]);
    let running = tokio::spawn(mirror.run(folders, end.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!file.exists(), "nobody is led to a stranger's port");
    drop(taken);
    // The first attempt after that is a second away, the second one two more.
    let is_led = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), is_led).await.unwrap();
    let url = format!("http://{address}/v2/");
    assert!(stage.client.get(url).send().await.is_ok());
    end.cancel();
    running.await.unwrap();
    assert!(!file.exists());
}
