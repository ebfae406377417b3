//! The `/v2/` routes: which request is about what, and how it is answered.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{
    ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
};
use axum::http::response::Builder;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::Response;
use futures::TryStreamExt;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::cache::desk::Answer;
use crate::cache::manifests::Found;
use crate::cache::{Shared, body};
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::registry::wire::{self, Asked, Kind, Problem};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What containerd adds for a mirror: which registry is meant.
#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    ns: Option<String>,
}

/// One request that the protocol knows, with everything that decides its answer.
struct Wish {
    asked: Asked,
    /// Registry, repository and tag or digest.
    image: ImageRef,
    head: bool,
    headers: HeaderMap,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    namespace: Result<Query<Namespace>, QueryRejection>,
    (method, uri, headers): (Method, Uri, HeaderMap),
) -> Response {
    let ns = namespace.ok().and_then(|Query(found)| found.ns);
    let answered = match shared.requests.clone().try_acquire_owned() {
        Ok(place) => {
            let line = (method, uri.path(), headers);
            respond(&shared, ns.as_deref(), line, place).await
        }
        // Never 429: containerd would ask again five times without a pause.
        Err(_) => Err(Problem::unknown(Kind::Blob, "too many requests at once")),
    };
    let response = answered.unwrap_or_else(|p| problem(&p));
    let status = response.status();
    shared.measures.requests.of(status.as_str()).inc();
    response
}

async fn respond(
    shared: &Arc<Shared>,
    ns: Option<&str>,
    (method, path, headers): (Method, &str, HeaderMap),
    place: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let head = match method {
        Method::GET => false,
        Method::HEAD => true,
        _ => return Err(Problem::read_only()),
    };
    if path == "/v2/" || path == "/v2" {
        let answer = base(StatusCode::OK, "application/json", 2);
        return Ok(finish(answer, Body::from("{}")));
    }
    let asked = Asked::parse(path).ok_or_else(Problem::no_such_path)?;
    let image = shared.image(ns, &asked)?;
    let wish = Wish {
        asked,
        image,
        head,
        headers,
    };
    match wish.asked.kind {
        Kind::Manifest => shared.manifest(wish).await,
        Kind::Blob => shared.blob(wish, place).await,
    }
}

impl Shared {
    /// The reference that is meant, if its registry is on the list.
    fn image(&self, ns: Option<&str>, asked: &Asked) -> Result<ImageRef, Problem> {
        let unknown = || Problem::unknown(asked.kind, "this cache does not serve that registry");
        let registry = match ns {
            Some(ns) => self.upstreams.get_key_value(ns).map(|(name, _)| name),
            None if self.upstreams.len() == 1 => self.upstreams.keys().next(),
            None => None,
        };
        let registry = registry.ok_or_else(unknown)?;
        asked.image(registry).ok_or_else(unknown)
    }

    async fn manifest(&self, wish: Wish) -> Result<Response, Problem> {
        let unknown = || Problem::unknown(Kind::Manifest, format!("no {}", wish.image));
        let digest: Option<Digest> = wish.asked.reference.parse().ok();
        let found = match &digest {
            Some(digest) => self.manifests.by_digest(&wish.image, digest).await,
            None => self.manifests.by_tag(&wish.image).await,
        };
        let found = found.ok_or_else(unknown)?;
        let etag = format!("\"{}\"", found.digest);
        let known = wish.headers.get(IF_NONE_MATCH);
        if known.is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
            let answer = Response::builder().status(StatusCode::NOT_MODIFIED);
            return Ok(finish(answer.header(ETAG, etag), Body::empty()));
        }
        let answer = manifest_head(&found, etag);
        if wish.head {
            return Ok(finish(answer, Body::empty()));
        }
        let bytes = self.manifests.body(&wish.image, &found.digest).await;
        let bytes = bytes.ok_or_else(unknown)?;
        self.measures.served_bytes.inc_by(bytes.len() as u64);
        Ok(finish(answer, Body::from(bytes)))
    }

    async fn blob(&self, wish: Wish, place: OwnedSemaphorePermit) -> Result<Response, Problem> {
        let unknown = || Problem::unknown(Kind::Blob, format!("no {}", wish.image));
        let digest: Digest = wish.asked.reference.parse().map_err(|_| unknown())?;
        if wish.head {
            let size = if let Some(size) = self.desk.size(&digest) {
                size
            } else {
                let told = self.registry.head_blob(&wish.image, &digest).await;
                told.map_err(|_| unknown())?
            };
            let answer = blob_head(StatusCode::OK, &digest, size.0);
            return Ok(finish(answer, Body::empty()));
        }
        let wanted = self.desk.want(wish.image.clone(), digest.clone()).await;
        let (answer, reading) = wanted.ok_or_else(unknown)?;
        let (Answer::Whole(ByteSize(size)) | Answer::Growing(ByteSize(size), _)) = answer;
        let range = wish
            .headers
            .get(RANGE)
            .and_then(|value| value.to_str().ok());
        let (start, end, head) = match wire::Bytes::parse(range, size) {
            wire::Bytes::All => (0, size, blob_head(StatusCode::OK, &digest, size)),
            wire::Bytes::Part(start, end) => {
                let head = blob_head(StatusCode::PARTIAL_CONTENT, &digest, end - start);
                let range = format!("bytes {start}-{}/{size}", end - 1);
                (start, end, head.header(CONTENT_RANGE, range))
            }
            wire::Bytes::Beyond => {
                let head = Response::builder().status(StatusCode::RANGE_NOT_SATISFIABLE);
                let head = head.header(CONTENT_RANGE, format!("bytes */{size}"));
                return Ok(finish(head, Body::empty()));
            }
        };
        let store = self.desk.store();
        let opened = body::open(store, answer, reading, (start, end)).await;
        let bytes = opened.map_err(|error| {
            tracing::warn!(%digest, %error, "cannot read a stored blob");
            unknown()
        })?;
        let served = self.measures.served_bytes.clone();
        let counted = bytes.inspect_ok(move |chunk| {
            // The request keeps its place until its last byte is sent.
            let _kept = &place;
            served.inc_by(chunk.len() as u64);
        });
        Ok(finish(head, Body::from_stream(counted)))
    }
}

fn base(status: StatusCode, media_type: &str, size: u64) -> Builder {
    Response::builder()
        .status(status)
        .header(API_VERSION, "registry/2.0")
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, size)
}

fn manifest_head(found: &Found, etag: String) -> Builder {
    let head = base(StatusCode::OK, &found.media_type, found.size.0)
        .header(DIGEST, found.digest.as_str())
        .header(ETAG, etag);
    match found.stale_s {
        Some(age) => head.header(AGE, age),
        None => head,
    }
}

fn blob_head(status: StatusCode, digest: &Digest, size: u64) -> Builder {
    base(status, "application/octet-stream", size)
        .header(DIGEST, digest.as_str())
        .header(ACCEPT_RANGES, "bytes")
}

fn problem(problem: &Problem) -> Response {
    let body = problem.body();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::NOT_FOUND);
    let head = base(status, "application/json", body.len() as u64);
    finish(head, Body::from(body))
}

/// A media type comes from an upstream's manifest: one that is no header value is a broken
/// manifest, not a panic.
fn finish(head: Builder, body: Body) -> Response {
    head.body(body).unwrap_or_else(|error| {
        tracing::warn!(%error, "an answer could not be written");
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        answer
    })
}
