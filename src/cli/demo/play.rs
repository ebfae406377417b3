//! One run of the demo: every process of a cluster, on loopback, while the recording plays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::{self, Cache};
use crate::cli::demo::ahead::{self, Ahead};
use crate::cli::demo::ledger::{Happening, Ledger};
use crate::cli::demo::node::{Node, Surroundings};
use crate::cli::demo::summary::Scale;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::scenario::Header;
use crate::domain::signal::{Fact, NodeJoined, Signal};
use crate::domain::time::Timestamp;
use crate::embedded::apiserver::{self, ApiServer};
use crate::embedded::link::{Link, Rate};
use crate::embedded::origin::Origin;
use crate::embedded::player::{Cue, Player};
use crate::port::Clock;
use crate::registry;
use crate::store::Durability;
use crate::telemetry::metric::Metrics;

/// Signals that wait for Kafka; the recordings send at most a few dozen at once.
const KAFKA_QUEUE: usize = 1024;

/// Real time that pods get after the recording's end to finish what they wait for. Only a machine
/// that is too slow for the chosen speed needs much of it.
const ENCORE: Duration = Duration::from_mins(5);

/// The score and the hall: the same for both runs.
pub struct Stage {
    /// Header of the scenario.
    pub header: Header,
    /// All its signals.
    pub signals: Vec<Signal>,
    /// How it is made smaller.
    pub scale: Scale,
    /// The origin registry.
    pub origin: Origin,
    /// Where it listens.
    pub origin_address: SocketAddr,
    /// Folder for disks and caches.
    pub folder: PathBuf,
    /// Pods that started in the recording.
    pub recorded: Arc<BTreeSet<String>>,
}

/// One run: it plays as soon as the clock is given.
pub struct Play {
    stage: Arc<Stage>,
    name: &'static str,
    /// What is written down while it plays.
    pub ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
}

/// What a run leaves.
pub struct Played {
    /// Everything that happened.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Bytes that the cache fetched, as they travelled.
    pub origin_bytes: u64,
    /// Bytes that nodes got over their links, as they travelled.
    pub cache_bytes: u64,
    /// Writes that the API server refused the player, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl Play {
    /// A run that waits for its clock.
    #[must_use]
    pub fn new(stage: Arc<Stage>, name: &'static str) -> Self {
        let ledger = Ledger::new(stage.origin.catalogue().clone());
        Self {
            stage,
            name,
            ledger: Arc::new(Mutex::new(ledger)),
            stop: CancellationToken::new(),
        }
    }

    /// `reactive` or `forelay`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Plays the whole recording; with `forelay` its processes take part.
    ///
    /// # Errors
    /// When a process cannot start.
    pub async fn run(self, clock: Arc<dyn Clock>, planned: bool) -> anyhow::Result<Played> {
        let stage = self.stage.clone();
        let api_listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (events, noted) = mpsc::unbounded_channel();
        let api_address = api_listener.local_addr()?;
        let server = ApiServer::new(apiserver::Options::new(clock.clone()));
        let stop = self.stop.clone();
        tokio::spawn(async move { server.serve(api_listener, stop.cancelled_owned()).await });
        let client = client(api_address)?;
        let (cache, cache_address, _origin_link) =
            start_cache(&stage, self.name, clock.clone(), &self.stop).await?;
        let uplink = Rate::new(stage.real(stage.header.shared.cache_uplink.0));
        let around = Arc::new(Surroundings {
            client: client.clone(),
            clock: clock.clone(),
            scale: stage.scale,
            cache: cache_address,
            uplink: uplink.clone(),
            catalogue: Arc::new(stage.origin.catalogue().clone()),
            recorded: stage.recorded.clone(),
            disks: stage.folder.join(self.name).join("nodes"),
            ledger: events,
        });
        let (to_kafka, from_player) = mpsc::channel(KAFKA_QUEUE);
        let ahead = if planned {
            let house = ahead::House {
                stage: stage.clone(),
                around: around.clone(),
            };
            Some(Ahead::start(house, from_player, self.stop.child_token()).await?)
        } else {
            // Without Forelay nobody listens: what is sent goes nowhere.
            drop(from_player);
            None
        };
        let (cues, mut cued) = mpsc::unbounded_channel();
        let player = Player::new(client, clock.clone(), cues, to_kafka);
        let ledger = tokio::spawn(write_down(stage.clone(), self.ledger.clone(), noted));
        let playing = stage.clone();
        let mut player = tokio::spawn(async move { player.play(&playing.signals).await });
        let mut hall = Hall {
            stage: stage.clone(),
            around,
            ahead,
            ledger: self.ledger.clone(),
            nodes: BTreeMap::new(),
        };
        let refused = loop {
            tokio::select! {
                Some(cue) = cued.recv() => hall.take(cue, &self.stop).await?,
                refused = &mut player => break refused.context("the player ended early")?,
            }
        };
        clock.sleep_until(stage.header.end).await;
        let _ = tokio::time::timeout(ENCORE, self.everyone()).await;
        // Forelay first: its last words go to servers that still stand.
        hall.clear().await;
        self.stop.cancel();
        drop(hall);
        // Agents' last words; the channel closes when the last of them is gone.
        let _ = tokio::time::timeout(Duration::from_secs(5), ledger).await;
        Ok(Played {
            ledger: self.ledger,
            origin_bytes: cache.origin_bytes().0,
            cache_bytes: uplink.passed(),
            refused,
        })
    }
}

impl Play {
    /// Waits until every pod that started in the recording has started.
    async fn everyone(&self) {
        let all = || {
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let started = ledger.started();
            self.stage
                .recorded
                .iter()
                .all(|pod| started.contains(pod.as_str()))
        };
        while !all() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Stage {
    /// Bytes per real second that a recorded rate means on this stage.
    #[must_use]
    pub fn real(&self, recorded: f64) -> f64 {
        recorded * self.scale.time / self.scale.bytes as f64
    }

    /// Pods that started on a node in the recording.
    fn started_on(&self, node: &str) -> BTreeSet<String> {
        let bound = self.signals.iter().filter_map(|signal| match &signal.fact {
            Fact::PodBound(bound) if bound.node == node => Some(&bound.pod.name),
            _ => None,
        });
        bound
            .filter(|pod| self.recorded.contains(*pod))
            .cloned()
            .collect()
    }

    /// Images of the pods that were bound to a node when the recording began.
    fn preloaded(&self, node: &str) -> BTreeSet<&ImageRef> {
        self.signals
            .iter()
            .take_while(|signal| signal.observedtime <= self.header.start)
            .filter_map(|signal| match &signal.fact {
                Fact::PodBound(bound) if bound.node == node => Some(&bound.needs.images),
                _ => None,
            })
            .flatten()
            .map(|image| &image.image)
            .collect()
    }
}

/// Ends a node that is gone, as soon as the pods that started on it in the recording have: on a machine that
/// is far behind they are still at it when its removal is played.
async fn leave(node: Arc<Node>, pods: BTreeSet<String>, ledger: Arc<Mutex<Ledger>>) {
    let all = || {
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let started = ledger.started();
        pods.iter().all(|pod| started.contains(pod.as_str()))
    };
    while !all() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.stop.cancel();
}

/// The nodes on stage.
struct Hall {
    stage: Arc<Stage>,
    around: Arc<Surroundings>,
    ahead: Option<Ahead>,
    ledger: Arc<Mutex<Ledger>>,
    nodes: BTreeMap<String, Arc<Node>>,
}

impl Hall {
    async fn take(&mut self, cue: Cue, stop: &CancellationToken) -> anyhow::Result<()> {
        match cue {
            Cue::Joined(joined, at) => self.join(*joined, at, stop).await,
            Cue::Ready(name, at) => {
                if let Some(node) = self.nodes.get(&name) {
                    node.set_ready(at);
                    let _ = self.around.ledger.send(Happening::Ready { node: name, at });
                }
                Ok(())
            }
            Cue::Removed(name, at) => {
                if let Some(node) = self.nodes.remove(&name) {
                    let pods = self.stage.started_on(&name);
                    let waiting = stop.clone().run_until_cancelled_owned(leave(
                        node,
                        pods,
                        self.ledger.clone(),
                    ));
                    tokio::spawn(waiting);
                    let _ = self
                        .around
                        .ledger
                        .send(Happening::Removed { node: name, at });
                }
                Ok(())
            }
        }
    }

    async fn join(
        &mut self,
        joined: NodeJoined,
        at: Timestamp,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let world = self.stage.header.pool(&joined.pool).with_context(|| {
            format!(
                "the scenario's header has no rates for pool `{}`, nor for `*`",
                joined.pool
            )
        })?;
        let old = at <= self.stage.header.start;
        let _ = self.around.ledger.send(Happening::Joined {
            node: joined.node.clone(),
            pool: joined.pool.clone(),
            arch: joined.shape.architecture().unwrap_or("amd64").to_owned(),
            old,
            at,
        });
        let node = Arc::new(Node::enter(&self.around, joined, world, stop.child_token()).await?);
        if old {
            for image in self.stage.preloaded(&node.joined.node) {
                node.machine.preload(image.clone(), self.layers(image));
            }
        }
        if let Some(ahead) = &mut self.ahead {
            let delay = if old { 0.0 } else { world.agent_start_s };
            ahead.agent(node.clone(), at + Duration::from_secs_f64(delay));
        }
        self.nodes.insert(node.joined.node.clone(), node);
        Ok(())
    }

    fn layers(&self, image: &ImageRef) -> Vec<Digest> {
        let manifests = self
            .stage
            .origin
            .catalogue()
            .get(image)
            .into_iter()
            .flatten();
        manifests
            .flat_map(|m| m.layers.iter().map(|layer| layer.digest.clone()))
            .collect()
    }

    async fn clear(&mut self) {
        for node in self.nodes.values() {
            node.stop.cancel();
        }
        if let Some(ahead) = self.ahead.take() {
            ahead.end().await;
        }
        self.nodes.clear();
    }
}

/// Writes everything down that happens until nobody is left to whom it could.
async fn write_down(
    stage: Arc<Stage>,
    ledger: Arc<Mutex<Ledger>>,
    mut noted: mpsc::UnboundedReceiver<Happening>,
) {
    requests(&stage, &ledger);
    while let Some(event) = noted.recv().await {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.note(event);
    }
}

/// When pools were asked to grow, for the timelines: the recording tells.
fn requests(stage: &Stage, ledger: &Mutex<Ledger>) {
    let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let mut highest: BTreeMap<&str, u32> = BTreeMap::new();
    for signal in stage
        .signals
        .iter()
        .filter(|s| s.observedtime > stage.header.start)
    {
        let Fact::NodeRequested(request) = &signal.fact else {
            continue;
        };
        // Decision, confirmation and status repeat one target: only a higher one is a new request.
        let known = highest.entry(&request.pool).or_default();
        let new = match request.target {
            Some(target) if target <= *known => 0,
            Some(target) => {
                *known = target;
                request.count.max(1)
            }
            None => request.count,
        };
        for _ in 0..new {
            let (pool, at) = (request.pool.clone(), signal.observedtime);
            ledger.note(Happening::Requested { pool, at });
        }
    }
}

async fn start_cache(
    stage: &Arc<Stage>,
    name: &str,
    clock: Arc<dyn Clock>,
    stop: &CancellationToken,
) -> anyhow::Result<(Cache, SocketAddr, Link)> {
    let origin = Rate::new(stage.real(stage.header.shared.origin.0));
    let link = Link::open(stage.origin_address, vec![origin]).await?;
    let upstreams = stage.origin.upstreams(link.address());
    let mut options = cache::Options::new(stage.folder.join(name).join("cache"), upstreams, clock);
    options.durability = Durability::Temporary;
    options.client = registry::Options {
        system_proxy: false,
        ..registry::Options::default()
    };
    let cache = Cache::open(options, &mut Metrics::new("demo-cache"))?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (address, served, stop) = (listener.local_addr()?, cache.clone(), stop.clone());
    tokio::spawn(async move {
        if let Err(error) = served.serve(listener, stop).await {
            tracing::error!(%error, "the cache ended");
        }
    });
    Ok((cache, address, link))
}

/// A Kubernetes client for a plain loopback server.
pub(super) fn client(address: SocketAddr) -> anyhow::Result<kube::Client> {
    let url = format!("http://{address}")
        .parse()
        .context("a loopback address is a URL")?;
    Ok(kube::Client::try_from(kube::Config::new(url))?)
}
