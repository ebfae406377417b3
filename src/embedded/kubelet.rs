//! A played kubelet: one image after the other, layers fetched by threes, unpacked in order.
//!
//! What a kubelet with default settings does over containerd (docs/transfer-model.md): a pod's images
//! are asked for one by one; what is missing waits in one queue for the whole node; a layer is
//! unpacked when its last byte is there and the layer below is unpacked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::image::{Digest, ImageManifest, ImageRef, Layer};
use crate::domain::outcome::PodOutcome;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::embedded::machine::{Looks, Machine};
use crate::engine::network::DOWNLOADS;
use crate::port::{BlobSource, BlobWanted, Clock, FetchError, RuntimeError};

/// Pods of one node that may wait for the puller; the kubelet's own limit is 110 pods a node.
const QUEUE: usize = 1024;

/// Tries of one pull before the pod gives up, as in a bad `ImagePullBackOff`.
const TRIES: u32 = 5;

/// What a played kubelet needs to know of the world.
pub struct Options {
    /// Node name.
    pub node: String,
    /// Its disk.
    pub machine: Arc<Machine>,
    /// Registry client over the node's link.
    pub source: Arc<dyn BlobSource>,
    /// Scenario time.
    pub clock: Arc<dyn Clock>,
    /// Scenario seconds from a pod's binding to the look for its first image.
    pub sandbox: Duration,
    /// Scenario seconds that a pull costs beside its bytes.
    pub pull_overhead: Duration,
    /// Bytes (as they travel in the demo) that one core unpacks per scenario second.
    pub unpack_bytes_per_s: f64,
    /// When the node was Ready, once it was.
    pub ready: watch::Receiver<Option<Timestamp>>,
    /// Where finished blobs are told: digest, bytes.
    pub landed: mpsc::UnboundedSender<(Digest, u64)>,
    /// Ends the puller: the node is gone.
    pub stop: CancellationToken,
}

/// One pod to start.
#[derive(Clone, Debug)]
pub struct PodOrder {
    /// `namespace/name`
    pub pod: String,
    /// Images in the order of need, each with the manifest for this node's platform; an image
    /// without one cannot be pulled, and the pod never starts.
    pub images: Vec<(ImageRef, Option<ImageManifest>)>,
}

/// A running kubelet.
#[derive(Clone)]
pub struct Kubelet {
    options: Arc<Options>,
    queue: mpsc::Sender<Pull>,
}

struct Pull {
    image: ImageRef,
    manifest: ImageManifest,
    done: oneshot::Sender<bool>,
}

/// A pull that went wrong.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Disk(#[from] RuntimeError),
}

impl Kubelet {
    /// Starts the node's one puller; it ends with the node, or when the last clone is dropped.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let options = Arc::new(options);
        let (queue, pulls) = mpsc::channel(QUEUE);
        let stop = options.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(pull_one_by_one(options.clone(), pulls)));
        Self { options, queue }
    }

    /// Name of its node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.options.node
    }

    /// Brings a bound pod's images; `None` when one of them cannot be had. Dropping it takes the
    /// pod's pull out of the queue; one that runs goes on.
    pub async fn bring(&self, order: PodOrder) -> Option<PodOutcome> {
        let bound = self.options.clock.now();
        let made = bound + self.options.sandbox;
        self.options.clock.sleep_until(made).await;
        let mut warm = true;
        for (image, manifest) in order.images {
            if self.options.machine.take(&image) {
                continue;
            }
            warm = false;
            let (done, pulled) = oneshot::channel();
            self.queue
                .send(Pull {
                    image,
                    manifest: manifest?,
                    done,
                })
                .await
                .ok()?;
            if !pulled.await.unwrap_or(false) {
                return None;
            }
        }
        let images_ready = if warm {
            bound
        } else {
            self.options.clock.now()
        };
        let node_ready = self.node_ready().await?;
        let node = self.options.node.clone();
        Some(PodOutcome {
            pod: order.pod,
            node,
            bound,
            node_ready,
            images_ready,
            warm,
        })
    }

    async fn node_ready(&self) -> Option<Timestamp> {
        let mut ready = self.options.ready.clone();
        ready
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|at| *at)
    }
}

async fn pull_one_by_one(options: Arc<Options>, mut pulls: mpsc::Receiver<Pull>) {
    while let Some(pull) = pulls.recv().await {
        // The pod was deleted while it waited for its turn.
        if pull.done.is_closed() {
            continue;
        }
        let mut whole = false;
        for attempt in 0..TRIES {
            match options.pull(&pull.image, &pull.manifest).await {
                Ok(()) => {
                    whole = true;
                    break;
                }
                Err(error) => {
                    tracing::warn!(node = options.node, image = %pull.image, attempt, %error,
                        "pull failed");
                }
            }
        }
        // The pod may have been deleted meanwhile.
        let _ = pull.done.send(whole);
    }
}

/// A layer that the kubelet has claimed: let go whatever happens, also when a sibling's failure ends
/// the pull.
struct Hold {
    machine: Arc<Machine>,
    layer: Digest,
}

impl Hold {
    fn of(machine: &Arc<Machine>, layer: &Digest) -> Self {
        machine.foreground(layer, true);
        Self {
            machine: machine.clone(),
            layer: layer.clone(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.machine.foreground(&self.layer, false);
        self.machine.let_go(&self.layer);
    }
}

// === impl Options ===

impl Options {
    async fn pull(&self, image: &ImageRef, manifest: &ImageManifest) -> Result<(), PullError> {
        // Also between its layers: the agent begins nothing speculative while a pod waits for a pull.
        self.machine.foreground(&manifest.digest, true);
        let pulled = self.pull_now(image, manifest).await;
        self.machine.foreground(&manifest.digest, false);
        pulled
    }

    async fn pull_now(&self, image: &ImageRef, manifest: &ImageManifest) -> Result<(), PullError> {
        let begun = self.clock.now();
        if !self.machine.has_image(image) {
            self.manifest(image, &manifest.digest).await?;
        }
        self.clock.sleep_until(begun + self.pull_overhead).await;
        if self.machine.has_image(image) {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let layers: Vec<Layer> = manifest
            .layers
            .iter()
            .filter(|layer| seen.insert(&layer.digest))
            .cloned()
            .collect();
        // Layers are fetched while others are unpacked. The queue holds all of them: a full one
        // would stop the downloads.
        let (arrived, mut unpacking) = mpsc::channel(layers.len().max(1));
        let fetching = async move {
            let layers = layers
                .into_iter()
                .map(|layer| self.layer(image.clone(), layer));
            let mut fetched = stream::iter(layers).buffered(DOWNLOADS);
            while let Some(layer) = fetched.try_next().await? {
                // The other side ends only after this one.
                let _ = arrived.send(layer).await;
            }
            Ok::<(), PullError>(())
        };
        let unpacked = async {
            let mut free = begun;
            while let Some((layer, held)) = unpacking.recv().await {
                if let Some((held, arrived)) = held {
                    free = self.unpack(&layer, held, free.max(arrived)).await;
                }
            }
        };
        let (fetched, ()) = tokio::join!(fetching, unpacked);
        fetched?;
        self.machine.usable(image, None);
        Ok(())
    }

    /// Fetches one layer unless it is there; held, with its arrival, where it still has to be unpacked.
    async fn layer(
        &self,
        image: ImageRef,
        layer: Layer,
    ) -> Result<(Layer, Option<(Hold, Timestamp)>), PullError> {
        if !self.is_ours(&layer.digest).await {
            return Ok((layer, None));
        }
        let hold = Hold::of(&self.machine, &layer.digest);
        self.fetch(&image, &layer).await?;
        Ok((layer, Some((hold, self.clock.now()))))
    }

    async fn fetch(&self, image: &ImageRef, layer: &Layer) -> Result<(), PullError> {
        let mut writer = self
            .machine
            .layout()
            .open(&layer.digest, Some(layer.size))
            .await?;
        let wanted = BlobWanted {
            image: image.clone(),
            digest: layer.digest.clone(),
            offset: writer.offset(),
            avoid: Vec::new(),
        };
        let mut blob = self.source.blob(&wanted).await?;
        if blob.offset != writer.offset() {
            writer.restart().await?;
        }
        while let Some(chunk) = blob.chunks.try_next().await? {
            writer.write(chunk).await?;
        }
        writer.commit().await?;
        Ok(())
    }

    /// Unpacks from `begin` on, which may have passed: a timer that woke late costs no core its time.
    /// Returns when it was done.
    async fn unpack(&self, layer: &Layer, held: Hold, begin: Timestamp) -> Timestamp {
        let takes = Duration::from_secs_f64(layer.size.0 as f64 / self.unpack_bytes_per_s);
        let done = begin + takes;
        self.clock.sleep_until(done).await;
        self.machine.unpacked(&layer.digest);
        drop(held);
        // The ledger may be closed already.
        let _ = self.landed.send((layer.digest.clone(), layer.size.0));
        done
    }

    /// Claims a blob; false where somebody else has brought it, after waiting for who is bringing it:
    /// containerd's ingest lock makes pulls wait in the same way.
    async fn is_ours(&self, digest: &Digest) -> bool {
        let mut version = self.machine.version();
        loop {
            version.mark_unchanged();
            match self.machine.claim(digest) {
                Looks::Present => return false,
                Looks::Missing => return true,
                // Fails only when the machine is gone, and this holds it.
                Looks::Arriving => drop(version.changed().await),
            }
        }
    }

    async fn manifest(&self, image: &ImageRef, digest: &Digest) -> Result<(), PullError> {
        if self.is_ours(digest).await {
            let stored = self.store_manifest(image, digest).await;
            self.machine.let_go(digest);
            stored?;
        }
        Ok(())
    }

    async fn store_manifest(&self, image: &ImageRef, digest: &Digest) -> Result<(), PullError> {
        let raw = self.source.manifest(image, digest).await?;
        let size = ByteSize(raw.bytes.len() as u64);
        let mut writer = self.machine.layout().open(digest, Some(size)).await?;
        if writer.offset() > 0 {
            writer.restart().await?;
        }
        writer.write(raw.bytes).await?;
        writer.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use bytes::Bytes;
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::domain::image::Platform;
    use crate::port::{BlobStream, RawManifest};
    use crate::runtime::oci_layout::OciLayout;
    use crate::store::{Durability, Store};
    use crate::telemetry::clock::SystemClock;

    const LAYERS: [&[u8]; 2] = [b"breaks at first", b"stalls at first"];

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest::from_sha256(digest(&SHA256, bytes).as_ref())
    }

    /// At first the one layer breaks while the other stalls; then both come.
    #[derive(Default)]
    struct Fickle(Arc<std::sync::Mutex<BTreeSet<Digest>>>);

    impl BlobSource for Fickle {
        fn manifest<'a>(
            &'a self,
            _: &'a ImageRef,
            digest: &'a Digest,
        ) -> BoxFuture<'a, Result<RawManifest, FetchError>> {
            let raw = RawManifest {
                digest: digest.clone(),
                media_type: String::new(),
                bytes: Bytes::from_static(b"{}"),
            };
            async { Ok(raw) }.boxed()
        }

        fn blob<'a>(
            &'a self,
            wanted: &'a BlobWanted,
        ) -> BoxFuture<'a, Result<BlobStream, FetchError>> {
            let first = self.0.lock().unwrap().insert(wanted.digest.clone());
            let [breaks, stalls] = LAYERS;
            let chunks = if !first {
                let here = LAYERS.iter().find(|l| digest_of(l) == wanted.digest);
                stream::iter([Ok(Bytes::from_static(here.unwrap()))]).boxed()
            } else if wanted.digest == digest_of(stalls) {
                stream::pending().boxed()
            } else {
                assert_eq!(wanted.digest, digest_of(breaks));
                // Not before the other one is under way.
                let (asked, other) = (self.0.clone(), digest_of(stalls));
                let cut = async move {
                    while !asked.lock().unwrap().contains(&other) {
                        tokio::task::yield_now().await;
                    }
                    Err(FetchError::Unavailable("cut".into()))
                };
                stream::once(cut).boxed()
            };
            let stream = BlobStream {
                from: "origin",
                endpoint: String::new(),
                offset: 0,
                size: None,
                chunks,
            };
            async { Ok(stream) }.boxed()
        }
    }

    #[tokio::test]
    async fn a_layer_that_breaks_does_not_keep_its_siblings_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let (store, _) =
            Store::open_with(folder.path(), clock.now(), Durability::Temporary).unwrap();
        let layout = OciLayout::open(folder.path(), Arc::new(store)).unwrap();
        let kubelet = Kubelet::start(Options {
            node: "n".into(),
            machine: Machine::new(Arc::new(layout), 1e9),
            source: Arc::new(Fickle::default()),
            clock: clock.clone(),
            sandbox: Duration::ZERO,
            pull_overhead: Duration::ZERO,
            unpack_bytes_per_s: 1e9,
            ready: watch::channel(Some(clock.now())).1,
            landed: mpsc::unbounded_channel().0,
            stop: CancellationToken::new(),
        });
        let layers = LAYERS.map(|bytes| Layer {
            digest: digest_of(bytes),
            size: ByteSize(bytes.len() as u64),
            unpacked: None,
        });
        let manifest = ImageManifest {
            digest: digest_of(b"{}"),
            platform: Platform::linux("amd64"),
            layers: layers.into(),
        };
        let order = PodOrder {
            pod: "a/b".into(),
            images: vec![("web".parse().unwrap(), Some(manifest))],
        };
        let brought = tokio::time::timeout(Duration::from_secs(20), kubelet.bring(order)).await;
        assert!(
            brought
                .expect("the second try finds both layers free")
                .is_some()
        );
    }
}
