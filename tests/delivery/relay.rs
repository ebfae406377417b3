//! A relay in front of a registry that spoils blobs as it is told and remembers what was asked.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::registry::client;

/// What happens to one answer to a GET of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Passed on.
    None,
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// Silence after so many bytes of the body.
    Stall(usize),
    /// One bit of this byte of the body flips.
    Flip(usize),
    /// The wish for a range is not passed on.
    NoRange,
}

/// One request for a blob, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
}

/// The relay; ends when dropped.
pub struct Relay {
    shared: Arc<Shared>,
    pub address: SocketAddr,
    _end: DropGuard,
}

struct Shared {
    target: SocketAddr,
    faults: Mutex<VecDeque<Fault>>,
    manifests: Mutex<VecDeque<Fault>>,
    seen: Mutex<Vec<Seen>>,
    end: CancellationToken,
}

impl Relay {
    /// Faults are used up in order by GETs of blobs; the rest are passed on.
    pub async fn start(target: SocketAddr, faults: impl IntoIterator<Item = Fault>) -> Self {
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            target,
            faults: Mutex::new(faults.into_iter().collect()),
            manifests: Mutex::default(),
            seen: Mutex::default(),
            end: end.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass).with_state(shared.clone());
        let ended = end.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = ended => {}
            }
        });
        Self {
            shared,
            address,
            _end: end.drop_guard(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Faults that GETs of manifests use up from now on.
    pub fn spoil_manifests(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.manifests.lock().unwrap().extend(faults);
    }

    /// GETs of blobs so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let is_blob = request.method() == "GET" && path.contains("/blobs/");
    let mut fault = Fault::None;
    if is_blob {
        let range = request.headers().get("range");
        shared.seen.lock().unwrap().push(Seen {
            path: path.clone(),
            range: range.map(|value| value.to_str().unwrap().to_owned()),
        });
        fault = shared
            .faults
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Fault::None);
    } else if request.method() == "GET" && path.contains("/manifests/") {
        let next = shared.manifests.lock().unwrap().pop_front();
        fault = next.unwrap_or(Fault::None);
    }
    let mut headers = request.headers().clone();
    headers.remove("host");
    if fault == Fault::NoRange {
        headers.remove("range");
    }
    let url = format!("http://{}{path}", shared.target);
    let asked = client()
        .request(request.method().clone(), url)
        .headers(headers);
    let Ok(answer) = asked.send().await else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let mut response = Response::builder().status(answer.status());
    *response.headers_mut().unwrap() = answer.headers().clone();
    let body = answer
        .bytes_stream()
        .map(|chunk| chunk.map_err(io::Error::other));
    response
        .body(Body::from_stream(spoil(
            body.boxed(),
            fault,
            shared.end.clone(),
        )))
        .unwrap()
}

type Chunks = BoxStream<'static, io::Result<Bytes>>;

fn spoil(body: Chunks, fault: Fault, end: CancellationToken) -> Chunks {
    let broken = || io::Error::other("cut by the relay");
    match fault {
        Fault::None | Fault::NoRange => body,
        Fault::Cut(after) => {
            let cut = stream::once(async move { Err(broken()) });
            first(body, after).chain(cut).boxed()
        }
        Fault::Stall(after) => {
            let silence = stream::once(async move {
                end.cancelled().await;
                Err(broken())
            });
            first(body, after).chain(silence).boxed()
        }
        Fault::Flip(at) => body
            .scan(0, move |from, chunk| {
                let chunk = chunk.map(|chunk| flipped(chunk, *from, at));
                *from += chunk.as_ref().map_or(0, Bytes::len);
                futures::future::ready(Some(chunk))
            })
            .boxed(),
    }
}

fn first(body: Chunks, count: usize) -> Chunks {
    body.scan(count, |left, chunk| {
        let chunk = chunk.map(|chunk| chunk.slice(..chunk.len().min(*left)));
        *left -= chunk.as_ref().map_or(0, Bytes::len);
        futures::future::ready(match chunk {
            Ok(chunk) if chunk.is_empty() => None,
            other => Some(other),
        })
    })
    .boxed()
}

fn flipped(chunk: Bytes, from: usize, at: usize) -> Bytes {
    match at.checked_sub(from) {
        Some(index) if index < chunk.len() => {
            let mut changed = BytesMut::from(&chunk[..]);
            changed[index] ^= 1;
            changed.freeze()
        }
        _ => chunk,
    }
}
