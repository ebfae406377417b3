//! Manifests as a registry serves them: exact bytes, bounded, verified.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use crate::domain::image::{Digest, ImageRef};
use crate::domain::manifest::{MANIFEST_MAX, Manifest};
use crate::domain::quantity::ByteSize;
use crate::port::RawManifest;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::RegistryError;
use crate::registry::request::{Ask, Requests};

/// Everything that a kubelet could run, in the order in which we like it.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a HEAD request tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the manifest, in the registry's words.
    pub digest: Digest,
    /// In the registry's words.
    pub media_type: Option<String>,
    /// Bytes of the manifest, where told.
    pub size: Option<ByteSize>,
}

/// GET of a manifest by tag or digest.
pub(super) async fn get(
    requests: &Requests,
    endpoint: Endpoint,
    image: &ImageRef,
    reference: &str,
) -> Result<RawManifest, RegistryError> {
    let url = endpoint.url(image, "manifests", reference);
    let answer = ask(requests, &endpoint, image, Method::GET, &url).await?;
    let named = header_digest(&answer);
    let media_type = text(&answer, CONTENT_TYPE.as_str());
    let bytes = bounded(answer, &url).await?;
    let wanted = reference.parse::<Digest>().ok().or(named);
    let bytes = match &wanted {
        Some(wanted) => verified(bytes, wanted)?,
        None => bytes,
    };
    // A tag may lead anywhere, an HTML page included: it has to be a manifest before it is one.
    Manifest::parse(&bytes)?;
    Ok(RawManifest {
        digest: sha256(&bytes),
        media_type: media_type.unwrap_or_else(|| Manifest::media_type(&bytes)),
        bytes,
    })
}

/// HEAD of a manifest; a server that does not tell the digest is asked with GET.
pub(super) async fn head(
    requests: &Requests,
    endpoint: Endpoint,
    image: &ImageRef,
    reference: &str,
) -> Result<Head, RegistryError> {
    let url = endpoint.url(image, "manifests", reference);
    let answer = ask(requests, &endpoint, image, Method::HEAD, &url).await?;
    if let Some(digest) = header_digest(&answer) {
        let size = text(&answer, CONTENT_LENGTH.as_str()).and_then(|n| n.parse().ok());
        return Ok(Head {
            digest,
            media_type: text(&answer, CONTENT_TYPE.as_str()),
            size: size.map(ByteSize),
        });
    }
    let raw = get(requests, endpoint, image, reference).await?;
    Ok(Head {
        size: Some(ByteSize(raw.bytes.len() as u64)),
        media_type: Some(raw.media_type),
        digest: raw.digest,
    })
}

/// The bytes, if they are what their digest says.
pub(super) fn verified(bytes: Bytes, wanted: &Digest) -> Result<Bytes, RegistryError> {
    let found = sha256(&bytes);
    if found == *wanted {
        return Ok(bytes);
    }
    Err(RegistryError::Broken(format!(
        "bytes for {wanted} have digest {found}"
    )))
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(digest(&SHA256, bytes).as_ref())
}

async fn ask(
    requests: &Requests,
    endpoint: &Endpoint,
    image: &ImageRef,
    method: Method,
    url: &str,
) -> Result<Response, RegistryError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let ask = Ask {
        method,
        image,
        url: url.to_owned(),
        headers,
    };
    requests.send(endpoint, ask).await
}

async fn bounded(mut answer: Response, url: &str) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    let next = |e: reqwest::Error| RegistryError::request(&e);
    while let Some(chunk) = answer.chunk().await.map_err(next)? {
        if (bytes.len() + chunk.len()) as u64 > MANIFEST_MAX {
            return Err(RegistryError::Broken(format!(
                "{url}: a manifest of more than {MANIFEST_MAX} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn header_digest(answer: &Response) -> Option<Digest> {
    text(answer, "docker-content-digest")?.parse().ok()
}

fn text(answer: &Response, name: &str) -> Option<String> {
    let value = answer.headers().get(name)?.to_str().ok()?;
    Some(value.to_owned())
}
