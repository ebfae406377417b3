//! A runtime that pulls images itself, whole: what an agent can have through CRI alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::inventory::StoredImage;
use crate::domain::manifest::{ImageParts, Manifest};
use crate::domain::quantity::ByteSize;
use crate::port::{
    BlobStore, BlobWriter, Clock, ContainerRuntime, RuntimeChange, RuntimeError, Whole,
};
use crate::runtime::containerd::Client;
use crate::runtime::cri::foreground::{self, Asked};
use crate::runtime::cri::ledger::Ledger;
use crate::runtime::cri::names::{Standing, find, standing};
use crate::runtime::cri::{Cri, CriError, inventory, look, pull, remove, watch};
use crate::runtime::wire::cri::Image;

/// Where the runtime is, and where its agent remembers.
pub struct Options {
    /// Its socket.
    pub socket: PathBuf,
    /// A directory: the store's, too.
    pub state: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A runtime behind its CRI socket. Every image that it pulls has a record: all pods of the node can use it.
pub struct CriRuntime {
    shared: Arc<Shared>,
}

/// What all calls share.
pub(super) struct Shared {
    pub(super) cri: Cri,
    /// Manifests and configs of what is planned: some kilobytes each.
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) clock: Arc<dyn Clock>,
    /// What was pulled for us; held while images are removed or their arrival is noted.
    pub(super) ledger: tokio::sync::Mutex<Ledger>,
    /// Configs of planned images, by manifest.
    known: Mutex<BTreeMap<Digest, Digest>>,
    /// Its own services, where it is a containerd.
    containerd: Option<Client>,
    /// What it fetches for us now.
    pub(super) asked: Asked,
    /// Of one pull: what queues pulls is the kubelet (`serializeImagePulls`), a runtime takes all it gets.
    pub(super) turn: Semaphore,
}

// === impl CriRuntime ===

impl CriRuntime {
    /// Connects, and takes up what earlier runs had pulled. What is not there any more, or has a container by
    /// now, is the kubelet's from here on.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when the runtime does not answer or the state directory cannot be used.
    pub async fn open(options: Options, store: Arc<dyn BlobStore>) -> Result<Self, RuntimeError> {
        let cri = Cri::connect(&options.socket).await;
        let cri = cri.map_err(|e| failed(&e))?;
        let shared = Arc::new(Shared {
            cri,
            containerd: containerd(&options.socket).await,
            asked: Asked::default(),
            ledger: tokio::sync::Mutex::new(Ledger::open(&options.state)?),
            store,
            clock: options.clock,
            known: Mutex::default(),
            turn: Semaphore::new(1),
        });
        shared.recover().await?;
        Ok(Self { shared })
    }
}

impl ContainerRuntime for CriRuntime {
    fn brings_images(&self) -> bool {
        true
    }

    /// Manifests of the planned images that are there, whoever brought them.
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(async {
            let images = self.shared.images().await?;
            let known = self.shared.known();
            let there = known
                .into_iter()
                .filter(|(_, config)| find(&images, config).is_some());
            Ok(there.map(|(manifest, _)| manifest).collect())
        })
    }

    fn lacking<'a>(
        &'a self,
        manifest: &'a ImageManifest,
    ) -> BoxFuture<'a, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(async {
            let config = self.shared.learn(&manifest.digest).await?;
            let images = self.shared.images().await?;
            if find(&images, &config).is_some() {
                return Ok(Vec::new());
            }
            Ok(vec![manifest.digest.clone()])
        })
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        self.shared.store.read(digest)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        self.shared.store.open(digest, size)
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(pull::record(&self.shared, whole))
    }

    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(remove::withdraw(&self.shared, digest, name))
    }

    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(remove::release(&self.shared, digest))
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        Box::pin(async {
            let ledger = self.shared.ledger.lock().await;
            Ok(ledger.all().map(|(manifest, _)| manifest.clone()).collect())
        })
    }

    fn images(&self) -> BoxFuture<'_, Result<Option<Vec<StoredImage>>, RuntimeError>> {
        Box::pin(async { inventory::images(&self.shared).await.map(Some) })
    }

    fn room(&self) -> BoxFuture<'_, Result<Option<ByteSize>, RuntimeError>> {
        Box::pin(async {
            let space = look::space(&self.shared.cri).await?;
            Ok(space.map(|space| space.may_be_added()))
        })
    }

    fn changes(&self) -> BoxStream<'static, RuntimeChange> {
        let listed = watch::changes(self.shared.clone());
        match self.shared.containerd.clone() {
            None => listed,
            Some(client) => {
                let pulls = foreground::pulls(self.shared.clone(), client);
                stream::select(listed, pulls).boxed()
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        self.cri.images().await.map_err(|e| failed(&e))
    }

    /// Planned images: manifest and config.
    pub(super) fn known(&self) -> BTreeMap<Digest, Digest> {
        let known = self.known.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing is planned.
    pub(super) fn is_idle(&self) -> bool {
        let known = self.known.lock();
        known.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Digest of the config of a manifest that is in the store.
    pub(super) async fn learn(&self, manifest: &Digest) -> Result<Digest, RuntimeError> {
        let known = self.known().get(manifest).cloned();
        if let Some(config) = known {
            return Ok(config);
        }
        let config = self.parts(manifest).await?.config.digest;
        self.remember(manifest, &config);
        Ok(config)
    }

    /// What a manifest that is in the store names.
    pub(super) async fn parts(&self, manifest: &Digest) -> Result<ImageParts, RuntimeError> {
        let bytes = self.store.read(manifest).await?;
        let gone = || RuntimeError::Io(format!("{manifest} is not in the store"));
        match Manifest::parse(&bytes.ok_or_else(gone)?) {
            Ok(Manifest::Image(parts)) => Ok(parts),
            Ok(Manifest::Index(_)) => {
                let what = format!("{manifest} is an index, not one platform's manifest");
                Err(RuntimeError::Io(what))
            }
            Err(error) => Err(RuntimeError::Io(error.to_string())),
        }
    }

    fn remember(&self, manifest: &Digest, config: &Digest) {
        let known = self.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.insert(manifest.clone(), config.clone());
    }

    /// Drops the documents of a manifest that nobody plans any more.
    pub(super) async fn forget(&self, manifest: &Digest) -> Result<(), RuntimeError> {
        let config = {
            let known = self.known.lock();
            let mut known = known.unwrap_or_else(PoisonError::into_inner);
            let config = known.remove(manifest);
            config.filter(|config| !known.values().any(|other| other == config))
        };
        self.store.remove(manifest).await?;
        match config {
            Some(config) => self.store.remove(&config).await,
            None => Ok(()),
        }
    }

    async fn recover(&self) -> Result<(), RuntimeError> {
        let images = self.images().await?;
        let containers = self.cri.containers().await.map_err(|e| failed(&e))?;
        let mut ledger = self.ledger.lock().await;
        let all: Vec<_> = ledger
            .all()
            .map(|(m, pulled)| (m.clone(), pulled.clone()))
            .collect();
        for (manifest, pulled) in all {
            let documents = [&manifest, &pulled.config];
            let read = documents.iter().all(|d| self.store.size(d).is_some());
            let stands = standing(&images, &containers, &pulled);
            if read && matches!(stands, Standing::Ours(_)) {
                self.remember(&manifest, &pulled.config);
            } else {
                tracing::debug!(%manifest, names = ?pulled.names, "an earlier image is ours no more");
                ledger.strike(&manifest).await;
            }
        }
        // What else is in the store was for plans of an earlier run: they are asked for again where needed.
        let needed: Vec<&Digest> = ledger.all().flat_map(|(m, p)| [m, &p.config]).collect();
        for (digest, _) in self.store.list() {
            if !needed.contains(&&digest) {
                self.store.remove(&digest).await?;
            }
        }
        Ok(())
    }
}

/// A client of containerd's own services, where they are served.
async fn containerd(socket: &Path) -> Option<Client> {
    let client = Client::connect(socket).await.ok()?;
    client.version().await.is_ok().then_some(client)
}

/// In the words of the port.
pub(super) fn failed(error: &CriError) -> RuntimeError {
    match error {
        CriError::NoSpace { .. } => RuntimeError::Full(error.to_string()),
        other => RuntimeError::Io(other.to_string()),
    }
}
