//! A controller of this process, started, stopped and killed by a test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelay::api::{NodePrefetch, PolicyMode, PoolPrefetch};
use forelay::controller::lease::LeaseOptions;
use forelay::controller::metric::Instruments;
use forelay::controller::{ControllerError, Options, run};
use forelay::domain::image::{Digest, ImageManifest, ImageRef, Layer, Platform};
use forelay::domain::quantity::ByteSize;
use forelay::forecast::model::Model;
use forelay::port::{ImageResolver, ResolveError};
use forelay::source::kubernetes::Settings;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::{NAMESPACE, PATIENCE};

/// Long enough that two busy cores do not lose it, short enough to wait for.
pub const LEASE: Duration = Duration::from_secs(2);
/// Lease and state of all test controllers.
pub const LEASE_NAME: &str = "forelay-test";
pub const STATE_NAME: &str = "forelay-test-state";

/// A running controller.
pub struct Replica {
    pub instruments: Instruments,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ControllerError>>,
}

/// Every image has one layer, made up from its name: what it means does not matter here, only that
/// it is always the same.
struct MadeUp;

impl ImageResolver for MadeUp {
    fn resolve<'a>(
        &'a self,
        image: &'a ImageRef,
    ) -> BoxFuture<'a, Result<Vec<ImageManifest>, ResolveError>> {
        let digest = |salt: &str| {
            let text = format!("{salt}{image}");
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            Digest::from_sha256(hash.as_ref())
        };
        let manifest = ImageManifest {
            digest: digest("manifest"),
            platform: Platform::linux("amd64"),
            layers: vec![Layer {
                digest: digest("layer"),
                size: ByteSize(10_000_000),
                unpacked: None,
            }],
        };
        async move { Ok(vec![manifest]) }.boxed()
    }
}

impl Replica {
    /// Starts one.
    pub fn start(client: &Client, identity: &str, change: impl FnOnce(&mut Options)) -> Self {
        let mut metrics = Metrics::new("controller");
        let instruments = Instruments::register(&mut metrics);
        let mut options = Options {
            client: client.clone(),
            clock: Arc::new(SystemClock),
            lease: LeaseOptions {
                namespace: NAMESPACE.into(),
                name: LEASE_NAME.into(),
                identity: identity.into(),
                duration: LEASE,
                follow: None,
            },
            state_name: STATE_NAME.into(),
            state_interval: Duration::from_secs(1),
            step_interval: Duration::from_millis(200),
            revision_gap: Duration::from_millis(50),
            model: Model::untuned(),
            model_file: None,
            default_mode: PolicyMode::On,
            settings: Settings::default(),
            autoscaler_namespace: "kube-system".into(),
            discovery_interval: Duration::from_secs(1),
            signals: None,
            offers: None,
            load_queries: None,
            resolver: Arc::new(MadeUp),
            concurrency: 4,
            instruments: instruments.clone(),
            ready: None,
        };
        change(&mut options);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(options, shutdown.clone()));
        Self {
            instruments,
            shutdown,
            task,
        }
    }

    pub fn leads(&self) -> bool {
        self.instruments.leader.get() > 0.0
    }

    /// Ends it as SIGTERM does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the controller ends")
            .unwrap()
            .unwrap();
    }

    /// Ends it as SIGKILL does: nothing is saved, nothing given back.
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

/// Everything that was ever accepted of the published plans.
pub struct Chronicle {
    epochs: Arc<Mutex<BTreeMap<String, Vec<u64>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Chronicle {
    /// Begins to write down.
    pub fn of(client: &Client) -> Self {
        let epochs = Arc::<Mutex<BTreeMap<String, Vec<u64>>>>::default();
        let nodes = Api::<NodePrefetch>::all(client.clone());
        let pools = Api::<PoolPrefetch>::all(client.clone());
        let tasks = vec![
            tokio::spawn(follow(nodes, |plan| plan.spec.epoch, epochs.clone())),
            tokio::spawn(follow(pools, |plan| plan.spec.epoch, epochs.clone())),
        ];
        Self { epochs, tasks }
    }

    /// The newest epoch seen.
    pub fn newest(&self) -> u64 {
        let epochs = self.epochs.lock().unwrap();
        epochs.values().flatten().copied().max().unwrap_or(0)
    }

    /// Ends, and complains about any object whose epoch went back.
    pub fn assert_no_epoch_went_back(self) -> BTreeMap<String, Vec<u64>> {
        for task in &self.tasks {
            task.abort();
        }
        let epochs = self.epochs.lock().unwrap().clone();
        for (object, seen) in &epochs {
            assert!(seen.is_sorted(), "{object}: {seen:?}");
        }
        epochs
    }
}

async fn follow<K>(
    api: Api<K>,
    epoch: fn(&K) -> u64,
    epochs: Arc<Mutex<BTreeMap<String, Vec<u64>>>>,
) where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    K: Send + 'static,
{
    let objects = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut objects = std::pin::pin!(objects);
    while let Some(object) = objects.next().await {
        if let Ok(object) = object {
            // A name that is used again is another object: it begins its own series.
            let uid = object.uid().unwrap_or_default();
            let key = format!("{}/{}/{uid}", K::kind(&()), object.name_any());
            epochs
                .lock()
                .unwrap()
                .entry(key)
                .or_default()
                .push(epoch(&object));
        }
    }
}
