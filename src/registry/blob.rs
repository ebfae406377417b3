//! A blob's bytes from any offset on, as far as the server can.

use futures::stream::{self, StreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::port::{BlobStream, BlobWanted, FetchError};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{RegistryError, chain};
use crate::registry::request::{Ask, Requests};

/// `Content-Range: bytes 5-9/10`, or `bytes */10` of a 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

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
    parse_content_range(answer.headers().get(CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = total.parse().ok();
    if range == "*" {
        return Some(ContentRange { start: None, total });
    }
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end && total.is_none_or(|total| end < total)).then_some(ContentRange {
        start: Some(start),
        total,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_says_where_it_starts_and_how_much_there_is() {
        let some = |start, total| Some(ContentRange { start, total });
        assert_eq!(parse_content_range("bytes 5-9/10"), some(Some(5), Some(10)));
        assert_eq!(parse_content_range("bytes 5-9/*"), some(Some(5), None));
        assert_eq!(parse_content_range("bytes */10"), some(None, Some(10)));
    }

    #[test]
    fn a_range_that_contradicts_itself_is_none() {
        for bad in ["5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes -5/10", ""] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused_without_a_panic(text in "(bytes )?[0-9*/ -]{0,40}") {
            let _ = parse_content_range(&text);
        }
    }
}
