//! A node: a real daemon, and agents that carry out one plan on it.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that waits asks the clock itself"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forelay::agent::mirror::Book;
use forelay::agent::nice::Niceness;
use forelay::agent::{self, Agent};
use forelay::api::NodePrefetchStatus;
use forelay::domain::image::{ImageRef, Platform};
use forelay::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use forelay::domain::quantity::ByteSize;
use forelay::engine::node::Limits;
use forelay::plan::policy::Pattern;
use forelay::port::{Clock, ContainerRuntime};
use forelay::registry::{Keychain, Options as ClientOptions, Registry};
use forelay::runtime::containerd::{self, Containerd as Runtime};
use forelay::store::{Durability, Store};
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use tokio_util::sync::CancellationToken;

use crate::daemon::{Containerd, Options};
use crate::image::Image;
use crate::registry::sha256;
use crate::small::Small;

/// The registry in every image's name; where it is, agents are told.
pub const NAME: &str = "forelay.test";

/// Deliveries of a few megabytes take well under a second.
const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon and a registry.
pub struct Node {
    pub daemon: Containerd,
    /// Its disk: how full this machine's is must not matter. Unmounted after the daemon's end.
    _disk: Small,
    /// Base URL of the registry.
    pub origin: String,
    /// Images that are never recorded.
    pub unrecorded: Vec<Pattern>,
    /// Bytes that images may take.
    pub budget: ByteSize,
    /// Whether layers' blobs are kept.
    pub blobs: bool,
}

/// What an agent has to know of a node.
#[derive(Clone)]
pub struct Site {
    pub socket: PathBuf,
    pub staging: PathBuf,
    pub origin: String,
    /// Asked before the origin.
    pub mirrors: Vec<String>,
    pub unrecorded: Vec<Pattern>,
    pub budget: ByteSize,
    /// Whether layers' blobs are kept.
    pub blobs: bool,
    /// Whether records are pinned.
    pub pins: bool,
    /// By which leases are renewed.
    pub clock: Arc<dyn Clock>,
    /// What the agent tells a mirror.
    pub book: Option<Book>,
    /// Who the agent is at registries.
    pub keychain: Keychain,
}

impl Node {
    pub async fn start(origin: String) -> Self {
        Self::start_on(Small::mount("1g"), origin).await
    }

    pub async fn start_on(disk: Small, origin: String) -> Self {
        Self {
            daemon: Containerd::start_in(&disk.path, &Options::default()).await,
            _disk: disk,
            origin,
            unrecorded: Vec::new(),
            budget: ByteSize(u64::MAX),
            blobs: false,
        }
    }

    pub fn staging(&self) -> PathBuf {
        self.daemon.stage().join("agent")
    }

    pub fn site(&self) -> Site {
        Site {
            socket: self.daemon.socket(),
            staging: self.staging(),
            origin: self.origin.clone(),
            unrecorded: self.unrecorded.clone(),
            budget: self.budget,
            blobs: self.blobs,
            ..Site::default()
        }
    }

    /// What a starting agent opens.
    pub async fn runtime(&self) -> Runtime {
        self.site().runtime().await
    }

    /// One agent's life: carries out a plan of these images, and ends.
    pub async fn deliver(&self, images: &[(&str, &Image)]) -> NodePrefetchStatus {
        let runtime = Arc::new(self.runtime().await);
        self.site().deliver_by(runtime, images).await
    }

    pub async fn deliver_by(
        &self,
        runtime: Arc<dyn ContainerRuntime>,
        images: &[(&str, &Image)],
    ) -> NodePrefetchStatus {
        self.site().deliver_by(runtime, images).await
    }
}

impl Default for Site {
    fn default() -> Self {
        Self {
            socket: PathBuf::new(),
            staging: PathBuf::new(),
            origin: String::new(),
            mirrors: Vec::new(),
            unrecorded: Vec::new(),
            budget: ByteSize(u64::MAX),
            blobs: false,
            pins: false,
            clock: Arc::new(SystemClock),
            book: None,
            keychain: Keychain::default(),
        }
    }
}

impl Site {
    pub async fn runtime(&self) -> Runtime {
        std::fs::create_dir_all(&self.staging).unwrap();
        let begun = Instant::now();
        let store = loop {
            match Store::open_with(&self.staging, SystemClock.now(), Durability::Temporary) {
                Ok((store, _)) => break store,
                // Tasks of an agent that has just ended hold it for some milliseconds.
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let options = containerd::Options {
            socket: self.socket.clone(),
            staging: self.staging.clone(),
            sync: false,
            records: true,
            pins: self.pins,
            blobs: self.blobs,
            clock: self.clock.clone(),
        };
        Runtime::open(options, Arc::new(store)).await.unwrap()
    }

    pub async fn deliver_by(
        &self,
        runtime: Arc<dyn ContainerRuntime>,
        images: &[(&str, &Image)],
    ) -> NodePrefetchStatus {
        let mut plan = Plan::empty(Target::Node("node".into()), 1, SystemClock.now());
        plan.entries = images
            .iter()
            .map(|(name, image)| entry(name, image))
            .collect();
        let last: Arc<Mutex<Option<NodePrefetchStatus>>> = Arc::default();
        let told = last.clone();
        let tell = move |status: &NodePrefetchStatus| {
            *told.lock().unwrap() = Some(status.clone());
        };
        let agent = Agent::new(self.options(runtime), &mut Metrics::new("agent"));
        let working = agent.once(plan, tell, CancellationToken::new());
        tokio::time::timeout(PATIENCE, working)
            .await
            .unwrap_or_else(|_| panic!("not done: {last:?}"))
            .unwrap();
        let status = last.lock().unwrap().take();
        status.expect("a plan that was carried out was told of")
    }

    pub fn options(&self, runtime: Arc<dyn ContainerRuntime>) -> agent::Options {
        let source = self.registry(self.keychain.clone());
        agent::Options {
            node: "node".to_owned(),
            pool: None,
            pool_labels: Vec::new(),
            clock: Arc::new(SystemClock),
            runtime,
            source,
            tags: Some(self.registry(Keychain::default())),
            unrecorded: self.unrecorded.clone(),
            recheck: Duration::ZERO,
            pressed: || false,
            nice: Niceness::none(),
            limits: Limits {
                disk: self.budget,
                blobs: self.blobs,
                back_off: Duration::from_millis(20),
                back_off_max: Duration::from_millis(100),
                attempts: 12,
                ..Limits::default()
            },
            bandwidth: None,
            report_pause: Duration::from_secs(1),
            signals: None,
            gate: None,
            book: self.book.clone(),
        }
    }

    /// A client of all registries; the one of [`NAME`] is where the site says.
    pub fn registry(&self, keychain: Keychain) -> Arc<Registry> {
        let registry = Registry::new(ClientOptions {
            mirrors: self.mirrors.clone(),
            origins: BTreeMap::from([(NAME.to_owned(), self.origin.clone())]),
            keychain,
            system_proxy: false,
            rounds: 1,
            ..ClientOptions::default()
        });
        Arc::new(registry.unwrap())
    }
}

/// `forelay.test/<repository>:<tag>`, unless a registry of this machine is named already.
pub fn named(name: &str) -> String {
    if name.starts_with("127.0.0.1:") {
        return name.to_owned();
    }
    format!("{NAME}/{name}")
}

pub fn entry(name: &str, image: &Image) -> PlanEntry {
    let image_ref: ImageRef = named(name).parse().unwrap();
    let bytes = image
        .layers
        .iter()
        .map(|layer| layer.blob.len() as u64)
        .sum();
    PlanEntry {
        image: image_ref,
        digest: sha256(&image.manifest),
        platform: Platform::linux("amd64"),
        priority: Priority::Pending,
        reason: Reason::PendingPod("team/web-1".into()),
        probability: 1.0,
        bytes: ByteSize(bytes),
        deadline: None,
        expires: SystemClock.now() + Duration::from_hours(1),
    }
}
