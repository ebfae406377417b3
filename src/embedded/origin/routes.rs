//! The distribution API over generated images.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use futures::stream::{self, StreamExt};

use crate::domain::image::Digest;
use crate::embedded::origin::Shared;
use crate::embedded::origin::content::Generated;
use crate::embedded::origin::document::Document;
use crate::registry::wire::{Asked, Bytes, Kind, Problem};

/// Name of the header that tells what a body's digest is.
const DIGEST: &str = "docker-content-digest";

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return problem(&Problem::read_only());
    }
    let query = request.uri().query().unwrap_or_default();
    let asked_for = query.split('&').find_map(|part| part.strip_prefix("ns="));
    let (registry, path) = match request.uri().path().strip_prefix("/ns/") {
        Some(rest) => {
            let (name, _) = rest.split_once('/').unwrap_or((rest, ""));
            (Some(name), &rest[name.len()..])
        }
        None => (asked_for, request.uri().path()),
    };
    if path == "/v2/" || path == "/v2" {
        return found("application/json", None, Body::from("{}"), 2);
    }
    let Some(asked) = Asked::parse(path) else {
        return problem(&Problem::no_such_path());
    };
    let head = request.method() == Method::HEAD;
    let headers = request.headers();
    shared
        .answer(registry, &asked, headers, head)
        .unwrap_or_else(|| problem(&Problem::unknown(asked.kind, asked.reference)))
}

impl Shared {
    fn answer(
        self: &Arc<Self>,
        registry: Option<&str>,
        asked: &Asked,
        headers: &HeaderMap,
        head: bool,
    ) -> Option<Response> {
        if !self.homes.contains_key(&asked.repository) {
            return None;
        }
        let digest: Option<Digest> = asked.reference.parse().ok();
        match (asked.kind, digest) {
            (Kind::Manifest, None) => {
                let document = self.tag(registry, &asked.repository, &asked.reference)?;
                Some(self.document(document, head))
            }
            (Kind::Manifest, Some(digest)) => {
                Some(self.document(self.documents.get(&digest)?, head))
            }
            (Kind::Blob, Some(digest)) => match self.layers.get(&digest) {
                Some(content) => Some(self.layer(content, headers, head)),
                None => Some(self.document(self.documents.get(&digest)?, head)),
            },
            (Kind::Blob, None) => None,
        }
    }

    fn document(&self, document: &Document, head: bool) -> Response {
        let bytes = document.bytes.clone();
        let size = bytes.len() as u64;
        let body = if head {
            Body::empty()
        } else {
            self.count(&bytes);
            Body::from(bytes)
        };
        found(document.media_type, Some(&document.digest), body, size)
    }

    fn layer(self: &Arc<Self>, content: &Generated, headers: &HeaderMap, head: bool) -> Response {
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let size = content.size;
        let (start, end, partial) = match Bytes::parse(range, size) {
            Bytes::All => (0, size, false),
            Bytes::Part(start, end) => (start, end, true),
            Bytes::Beyond => return beyond(size),
        };
        let body = if head {
            Body::empty()
        } else {
            let shared = self.clone();
            let chunks = stream::iter(content.chunks(start, end)).map(move |chunk| {
                shared.count(&chunk);
                Ok::<_, Infallible>(chunk)
            });
            Body::from_stream(chunks)
        };
        let media_type = "application/octet-stream";
        let mut answer = found(media_type, Some(&content.digest), body, end - start);
        if partial {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {start}-{}/{size}", end - 1);
            let value = value.parse().expect("digits are a header value");
            answer.headers_mut().insert(CONTENT_RANGE, value);
        }
        answer
    }
}

fn found(media_type: &str, digest: Option<&Digest>, body: Body, size: u64) -> Response {
    let mut answer = Response::builder()
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, size)
        .header(ACCEPT_RANGES, "bytes");
    if let Some(digest) = digest {
        answer = answer.header(DIGEST, digest.as_str());
    }
    answer
        .body(body)
        .expect("digests and media types are header values")
}

fn beyond(size: u64) -> Response {
    Response::builder()
        .status(StatusCode::RANGE_NOT_SATISFIABLE)
        .header(CONTENT_RANGE, format!("bytes */{size}"))
        .body(Body::empty())
        .expect("digits are a header value")
}

fn problem(problem: &Problem) -> Response {
    Response::builder()
        .status(problem.status)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(problem.body()))
        .expect("the status is one of HTTP's")
}
