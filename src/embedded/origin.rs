//! An origin registry whose generated images have the shape of a scenario's catalogue.
//!
//! Nothing is stored: a layer is the output of ChaCha8 seeded with the catalogue's own digest of it,
//! made anew for every request at the byte where the request begins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::domain::scenario::Header;
use crate::embedded::origin::content::Generated;
use crate::embedded::origin::document::Document;

mod content;
mod document;
mod routes;
#[cfg(test)]
mod tests;

/// A registry in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Origin {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By digest of what is served.
    layers: HashMap<Digest, Generated>,
    documents: HashMap<Digest, Document>,
    /// (registry, repository, tag) to manifest or index.
    tags: HashMap<(String, String, String), Digest>,
    /// Registries that have a repository of this name.
    homes: HashMap<String, BTreeSet<String>>,
    catalogue: BTreeMap<ImageRef, Vec<ImageManifest>>,
    served_bytes: AtomicU64,
}

impl Origin {
    /// Builds every image of the header's catalogue with its sizes divided by `bytes_divisor`
    /// (1 for full size). Hashing all layers takes about a second per gigabyte and core.
    #[must_use]
    pub fn new(header: &Header, bytes_divisor: u64) -> Self {
        let contents = content::generate(header, bytes_divisor.max(1));
        let mut shared = Shared::default();
        for (image, manifests) in &header.images {
            shared.add_image(image, manifests, &contents, bytes_divisor.max(1));
        }
        let layers = contents.into_values();
        shared.layers = layers
            .map(|content| (content.digest.clone(), content))
            .collect();
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What every reference means here: the catalogue with served digests and scaled sizes.
    pub fn catalogue(&self) -> &BTreeMap<ImageRef, Vec<ImageManifest>> {
        &self.shared.catalogue
    }

    /// For each registry of the catalogue the base URL under which its images are served, so that
    /// repositories of the same name do not mix: a cache's allow-list.
    pub fn upstreams(&self, address: SocketAddr) -> BTreeMap<String, String> {
        let registries = self.shared.homes.values().flatten();
        registries
            .map(|name| (name.clone(), format!("http://{address}/ns/{name}")))
            .collect()
    }

    /// Bytes of bodies sent so far.
    pub fn served_bytes(&self) -> ByteSize {
        ByteSize(self.shared.served_bytes.load(Ordering::Relaxed))
    }

    /// Serves until `shutdown`, then lets open answers end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        axum::serve(listener, routes::router(self.shared.clone()))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }
}

// === impl Shared ===

impl Shared {
    fn add_image(
        &mut self,
        image: &ImageRef,
        manifests: &[ImageManifest],
        contents: &HashMap<Digest, Generated>,
        divisor: u64,
    ) {
        let mut served = Vec::new();
        for manifest in manifests {
            let (real, documents) = document::image(manifest, contents, divisor);
            for document in documents {
                self.documents.insert(document.digest.clone(), document);
            }
            served.push(real);
        }
        let Some(first) = served.first() else {
            return;
        };
        let entry = if served.len() == 1 {
            first.digest.clone()
        } else {
            let index = document::index(&served, &self.documents);
            let digest = index.digest.clone();
            self.documents.insert(digest.clone(), index);
            digest
        };
        let (registry, repository) = (image.registry().to_owned(), image.repository().to_owned());
        let home = self.homes.entry(repository.clone()).or_default();
        home.insert(registry.clone());
        if let Some(tag) = image.tag() {
            let name = (registry, repository, tag.to_owned());
            self.tags.insert(name, entry);
        }
        self.catalogue.insert(image.clone(), served);
    }

    /// A tag's manifest; without a registry the first that has the repository is meant.
    fn tag(&self, registry: Option<&str>, repository: &str, tag: &str) -> Option<&Document> {
        let homes = self.homes.get(repository)?;
        let digest = homes
            .iter()
            .filter(|home| registry.is_none_or(|name| name == *home))
            .find_map(|home| {
                let name = (home.clone(), repository.to_owned(), tag.to_owned());
                self.tags.get(&name)
            })?;
        self.documents.get(digest)
    }

    fn count(&self, bytes: &Bytes) {
        let count = bytes.len() as u64;
        self.served_bytes.fetch_add(count, Ordering::Relaxed);
    }
}
