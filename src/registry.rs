//! L4: the client side of OCI distribution: manifests and resumable blob streams.
//!
//! oci-client gives references. Requests are sent from here, because a mirror's answers need what its client
//! keeps to itself: media type, a bound on size, `Range` and `ns=`; so do a token server's: status, `Retry-After`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::domain::image::{Digest, ImageManifest, ImageRef, Platform};
use crate::domain::manifest::{ImageParts, IndexEntry, MANIFEST_MAX, Manifest, Part};
use crate::domain::quantity::ByteSize;
use crate::port::{
    BlobSource, BlobStream, BlobWanted, FetchError, ImageResolver, RawManifest, ResolveError, Tags,
};
pub use crate::registry::auth::{Keychain, KeychainError};
pub use crate::registry::caller::Said;
use crate::registry::endpoint::Endpoint;
pub use crate::registry::error::RegistryError;
pub use crate::registry::manifest::Head;
use crate::registry::request::Requests;

mod auth;
mod blob;
mod caller;
mod content_range;
mod endpoint;
mod error;
mod manifest;
mod request;
pub mod wire;

/// Manifests of one index that are asked for at once.
const RESOLVE_AT_ONCE: usize = 4;

/// Where registries are, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base URLs of caches, asked in order before the origin, with `ns=<registry>`.
    pub mirrors: Vec<String>,
    /// Base URLs of origins that are not at `https://<registry>`.
    pub origins: BTreeMap<String, String>,
    /// Whether origins are asked at all.
    pub use_origins: bool,
    /// Registries (`host[:port]`) that speak plain HTTP.
    pub plain_http: Vec<String>,
    /// Who we are, per registry; mirrors are never told the origin's credentials.
    pub keychain: Keychain,
    /// Longest time to a connection.
    pub connect_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// How often all endpoints are asked before giving up.
    pub rounds: u32,
    /// Pause after the first round; doubles.
    pub pause: Duration,
    /// Whether `HTTPS_PROXY` and its kin count.
    pub system_proxy: bool,
}

impl Default for Options {
    /// Origins only, over HTTPS, anonymous; 5 s to connect, 20 s of silence, 3 rounds.
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            origins: BTreeMap::new(),
            use_origins: true,
            plain_http: Vec::new(),
            keychain: Keychain::default(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(20),
            rounds: 3,
            pause: Duration::from_millis(250),
            system_proxy: true,
        }
    }
}

/// A client of any number of registries. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Registry {
    options: Options,
    requests: Requests,
}

// === impl Registry ===

impl Registry {
    /// A client; connects only when asked for something.
    ///
    /// # Errors
    /// [`RegistryError::Setup`] for URLs that are none, or when TLS has no root certificates.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        endpoint::check(&options)?;
        let requests = Requests::new(&options)?;
        Ok(Self { options, requests })
    }

    /// A client with other endpoints and credentials that shares this one's connections, time limits and
    /// proxy: root certificates are read once.
    ///
    /// # Errors
    /// [`RegistryError::Setup`] for URLs that are none.
    pub fn beside(&self, options: Options) -> Result<Self, RegistryError> {
        endpoint::check(&options)?;
        let requests = self.requests.beside(&options);
        Ok(Self { options, requests })
    }

    /// The exact bytes of a manifest by tag or digest, verified where a digest is known.
    ///
    /// # Errors
    /// The last endpoint's, after all rounds.
    pub async fn fetch_manifest(
        &self,
        image: &ImageRef,
        reference: &str,
    ) -> Result<RawManifest, RegistryError> {
        self.anywhere(image, &[], |endpoint| {
            manifest::get(&self.requests, endpoint, image, reference)
        })
        .await
    }

    /// What a tag means now, without its bytes.
    ///
    /// # Errors
    /// The last endpoint's, after all rounds.
    pub async fn head_manifest(
        &self,
        image: &ImageRef,
        reference: &str,
    ) -> Result<Head, RegistryError> {
        self.anywhere(image, &[], |endpoint| {
            manifest::head(&self.requests, endpoint, image, reference)
        })
        .await
    }

    /// Size of a blob, without its bytes.
    ///
    /// # Errors
    /// The last endpoint's, after all rounds.
    pub async fn head_blob(
        &self,
        image: &ImageRef,
        digest: &Digest,
    ) -> Result<ByteSize, RegistryError> {
        self.anywhere(image, &[], |endpoint| {
            blob::head(&self.requests, endpoint, image, digest)
        })
        .await
    }

    /// Opens a blob's stream at the wanted offset.
    ///
    /// # Errors
    /// The last endpoint's, after all rounds.
    pub async fn open_blob(&self, wanted: &BlobWanted) -> Result<BlobStream, RegistryError> {
        self.anywhere(&wanted.image, &wanted.avoid, |endpoint| {
            blob::open(&self.requests, endpoint, wanted)
        })
        .await
    }

    /// Asks the endpoints in order, then all of them again after a pause, as long as one of them
    /// failed in a way that may pass.
    async fn anywhere<'a, T, F>(
        &self,
        image: &'a ImageRef,
        avoid: &[String],
        ask: impl Fn(Endpoint) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>> + 'a,
    {
        let endpoints = endpoint::order(&self.options, image, avoid);
        if endpoints.is_empty() {
            return Err(RegistryError::nowhere(image));
        }
        let mut pause = self.options.pause;
        let mut round = 1;
        loop {
            let mut worst = None;
            for endpoint in &endpoints {
                match ask(endpoint.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        tracing::debug!(endpoint = endpoint.base, %image, %error, "no answer");
                        worst = Some(RegistryError::worse(worst, error));
                    }
                }
            }
            let error = worst.expect("there is at least one endpoint");
            let Some(at_least) = error.retry_after().filter(|_| round < self.options.rounds) else {
                return Err(error);
            };
            tokio::time::sleep(pause.max(at_least)).await;
            pause = pause.saturating_mul(2);
            round += 1;
        }
    }

    async fn resolve_all(&self, image: &ImageRef) -> Result<Vec<ImageManifest>, RegistryError> {
        let pinned = image.digest().map(|digest| digest.to_string());
        let reference = pinned.as_deref().or(image.tag()).unwrap_or("latest");
        let raw = self.fetch_manifest(image, reference).await?;
        match Manifest::parse(&raw.bytes)? {
            Manifest::Image(parts) => {
                let platform = self.platform_of(image, &parts).await?;
                Ok(vec![parts.to_manifest(raw.digest, platform)])
            }
            Manifest::Index(entries) => {
                let found: Vec<_> = stream::iter(entries)
                    .map(|entry| self.resolve_entry(image, entry))
                    .buffered(RESOLVE_AT_ONCE)
                    .try_collect()
                    .await?;
                Ok(first_per_platform(found.into_iter().flatten()))
            }
        }
    }

    /// An index inside an index, or an entry that is no image, has no meaning for a kubelet.
    async fn resolve_entry(
        &self,
        image: &ImageRef,
        entry: IndexEntry,
    ) -> Result<Option<ImageManifest>, RegistryError> {
        let raw = self.fetch_manifest(image, entry.digest.as_str()).await?;
        let Manifest::Image(parts) = Manifest::parse(&raw.bytes)? else {
            return Ok(None);
        };
        let platform = match entry.platform {
            Some(platform) => platform,
            None => self.platform_of(image, &parts).await?,
        };
        Ok(Some(parts.to_manifest(raw.digest, platform)))
    }

    async fn platform_of(
        &self,
        image: &ImageRef,
        parts: &ImageParts,
    ) -> Result<Platform, RegistryError> {
        let config = self.small_blob(image, &parts.config).await?;
        Ok(Platform::of_config(&config)?)
    }

    async fn small_blob(&self, image: &ImageRef, part: &Part) -> Result<Bytes, RegistryError> {
        if part.size.0 > MANIFEST_MAX {
            let digest = &part.digest;
            return Err(RegistryError::Broken(format!(
                "config {digest} has {}, more than {MANIFEST_MAX} bytes",
                part.size
            )));
        }
        let wanted = BlobWanted {
            image: image.clone(),
            digest: part.digest.clone(),
            offset: 0,
            avoid: Vec::new(),
        };
        let mut blob = self.open_blob(&wanted).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = blob.chunks.try_next().await.map_err(RegistryError::cut)? {
            if (bytes.len() + chunk.len()) as u64 > part.size.0 {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        manifest::verified(bytes.freeze(), &part.digest)
    }
}

impl BlobSource for Registry {
    fn manifest<'a>(
        &'a self,
        image: &'a ImageRef,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<RawManifest, FetchError>> {
        Box::pin(async move {
            let found = self.fetch_manifest(image, digest.as_str()).await;
            found.map_err(|e| e.for_digest(digest))
        })
    }

    fn blob<'a>(&'a self, wanted: &'a BlobWanted) -> BoxFuture<'a, Result<BlobStream, FetchError>> {
        Box::pin(async move {
            let opened = self.open_blob(wanted).await;
            opened.map_err(|e| e.for_digest(&wanted.digest))
        })
    }
}

impl ImageResolver for Registry {
    fn resolve<'a>(
        &'a self,
        image: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Vec<ImageManifest>, ResolveError>> {
        Box::pin(async move {
            let found = self.resolve_all(image).await;
            found.map_err(|e| e.for_image(image))
        })
    }
}

impl Tags for Registry {
    fn meaning<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        Box::pin(async move {
            let pinned = image.digest().map(|digest| digest.to_string());
            let reference = pinned.as_deref().or(image.tag()).unwrap_or("latest");
            let head = self.head_manifest(image, reference).await;
            Ok(head.map_err(|e| e.for_image(image))?.digest)
        })
    }
}

/// An index may list variants (arm v6, v7) that a plan's platform does not tell apart: the first
/// counts, as it does for most clients.
fn first_per_platform(found: impl Iterator<Item = ImageManifest>) -> Vec<ImageManifest> {
    let mut manifests: Vec<ImageManifest> = Vec::new();
    for manifest in found {
        if manifests.iter().all(|m| m.platform != manifest.platform) {
            manifests.push(manifest);
        }
    }
    manifests
}
