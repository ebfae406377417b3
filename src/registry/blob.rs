//! A blob's bytes from any offset on, as far as the server can.

use futures::stream::{self, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::port::{BlobStream, BlobWanted, FetchError};
use crate::registry::content_range::ContentRange;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{RegistryError, chain};
use crate::registry::request::{Ask, Requests};

/// Asks from the wanted offset on; a server that cannot resume sends everything, one that says the
/// offset is its end has nothing more to send, any other disagreement starts over.
pub(super) async fn open(
    requests: &Requests,
    endpoint: Endpoint,
    wanted: &BlobWanted,
) -> Result<BlobStream, RegistryError> {
    let answer = ask(requests, &endpoint, wanted, wanted.offset).await?;
    let range = content_range(&answer);
    let whole = ByteSize(answer.content_length().unwrap_or(0));
    let sized = answer.content_length().map(|_| whole);
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if range.and_then(|r| r.start) == Some(wanted.offset) => {
            let total = range.and_then(|r| r.total).map(ByteSize);
            Ok(stream_of(answer, &endpoint, wanted.offset, total))
        }
        StatusCode::RANGE_NOT_SATISFIABLE if wanted.offset > 0 => {
            if range.and_then(|r| r.total) == Some(wanted.offset) {
                return Ok(nothing_more(&endpoint, wanted.offset));
            }
            from_the_start(requests, endpoint, wanted).await
        }
        StatusCode::PARTIAL_CONTENT => from_the_start(requests, endpoint, wanted).await,
        StatusCode::OK => Ok(stream_of(answer, &endpoint, 0, sized)),
        status => Err(unexpected(&endpoint, wanted, status)),
    }
}

/// HEAD of a blob: its size.
pub(super) async fn head(
    requests: &Requests,
    endpoint: Endpoint,
    image: &ImageRef,
    digest: &Digest,
) -> Result<ByteSize, RegistryError> {
    let ask = Ask {
        method: Method::HEAD,
        image,
        url: endpoint.url(image, "blobs", digest.as_str()),
        headers: HeaderMap::new(),
    };
    let answer = requests.send(&endpoint, ask).await?;
    // `Response::content_length` is that of the (empty) body.
    let told = answer.headers().get(CONTENT_LENGTH);
    let size = told.and_then(|value| value.to_str().ok()?.parse().ok());
    size.map(ByteSize)
        .ok_or_else(|| RegistryError::Broken(format!("{}: no size of {digest}", endpoint.base)))
}

async fn from_the_start(
    requests: &Requests,
    endpoint: Endpoint,
    wanted: &BlobWanted,
) -> Result<BlobStream, RegistryError> {
    let answer = ask(requests, &endpoint, wanted, 0).await?;
    match answer.status() {
        StatusCode::OK => {
            let size = answer.content_length().map(ByteSize);
            Ok(stream_of(answer, &endpoint, 0, size))
        }
        status => Err(unexpected(&endpoint, wanted, status)),
    }
}

async fn ask(
    requests: &Requests,
    endpoint: &Endpoint,
    wanted: &BlobWanted,
    offset: u64,
) -> Result<Response, RegistryError> {
    let mut headers = HeaderMap::new();
    if offset > 0 {
        let value = HeaderValue::try_from(format!("bytes={offset}-"));
        headers.insert(RANGE, value.expect("digits are a header value"));
    }
    let ask = Ask {
        method: Method::GET,
        image: &wanted.image,
        url: endpoint.url(&wanted.image, "blobs", wanted.digest.as_str()),
        headers,
    };
    requests.send(endpoint, ask).await
}

fn stream_of(
    answer: Response,
    endpoint: &Endpoint,
    offset: u64,
    size: Option<ByteSize>,
) -> BlobStream {
    let chunks = answer
        .bytes_stream()
        .map(|chunk| chunk.map_err(|e| FetchError::Unavailable(chain(&e))));
    BlobStream {
        from: endpoint.from,
        endpoint: endpoint.base.clone(),
        offset,
        size,
        chunks: chunks.boxed(),
    }
}

fn nothing_more(endpoint: &Endpoint, offset: u64) -> BlobStream {
    BlobStream {
        from: endpoint.from,
        endpoint: endpoint.base.clone(),
        offset,
        size: Some(ByteSize(offset)),
        chunks: stream::empty().boxed(),
    }
}

fn unexpected(endpoint: &Endpoint, wanted: &BlobWanted, status: StatusCode) -> RegistryError {
    RegistryError::Broken(format!(
        "{}: status {status} for {} makes no sense",
        endpoint.base, wanted.digest
    ))
}

fn content_range(answer: &Response) -> Option<ContentRange> {
    ContentRange::parse(answer.headers().get(CONTENT_RANGE)?.to_str().ok()?)
}
