//! The `/v2/` routes of the mirror: what the agent brought, to who may have it; 404 for all else.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use crate::agent::mirror::desk::{Desk, Reply};
use crate::domain::image::Digest;
use crate::registry::wire::{Asked, Problem};

/// How long an answer may take, questions at the origin included: containerd waits for minutes, and the
/// kubelet's other pulls with it.
const DEADLINE: Duration = Duration::from_secs(5);

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What containerd adds for a mirror: which registry is meant.
#[derive(Deserialize)]
struct Namespace {
    ns: String,
}

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new().fallback(answer).with_state(desk)
}

async fn answer(
    State(desk): State<Arc<Desk>>,
    namespace: Result<Query<Namespace>, QueryRejection>,
    (method, uri, headers): (Method, Uri, HeaderMap),
) -> Response {
    let is_head = match method {
        Method::GET => false,
        Method::HEAD => true,
        _ => return problem(&Problem::read_only(), None),
    };
    let path = uri.path();
    if path == "/v2/" || path == "/v2" {
        return document(Bytes::from_static(b"{}"), "application/json", None, is_head);
    }
    let (Some(asked), Ok(Query(Namespace { ns }))) = (Asked::parse(path), namespace) else {
        return problem(&Problem::no_such_path(), None);
    };
    let caller = headers.get(AUTHORIZATION);
    let replied = timeout(DEADLINE, desk.reply(&asked, &ns, caller)).await;
    let reply = replied.unwrap_or(Reply::Nothing("late"));
    desk.count(&reply);
    match reply {
        Reply::Document {
            bytes,
            media_type,
            digest,
            ..
        } => document(bytes, &media_type, Some(&digest), is_head),
        Reply::Challenge(challenge) => {
            let refused = Problem {
                status: 401,
                code: "UNAUTHORIZED",
                message: "the origin asks for a token".into(),
            };
            problem(&refused, Some(challenge))
        }
        // Never 429 or a silence: containerd then asks again, or waits.
        Reply::Nothing(why) => problem(
            &Problem::unknown(asked.kind, format!("not here: {why}")),
            None,
        ),
    }
}

fn document(bytes: Bytes, media_type: &str, digest: Option<&Digest>, is_head: bool) -> Response {
    let mut head = Response::builder()
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, bytes.len());
    if let Some(digest) = digest {
        head = head.header(DIGEST, digest.as_str());
    }
    let body = if is_head { Body::empty() } else { bytes.into() };
    // A media type comes from a registry: one that is no header value is a broken manifest.
    let unusable = |_| problem(&Problem::no_such_path(), None);
    head.body(body).unwrap_or_else(unusable)
}

fn problem(problem: &Problem, challenge: Option<HeaderValue>) -> Response {
    let mut answer = Response::new(Body::from(problem.body()));
    *answer.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::NOT_FOUND);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    answer
}
