//! The live cluster as signals: lists and watches of every understood kind that is installed.
//!
//! No object is stored: each is decoded in its own kind's task, translated in one task for all, and
//! dropped. What the translator remembers is all that is held of a cluster beside the engine's own
//! indexes.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, Resource};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::port::Clock;
use crate::source::kubernetes::guard::{Broken, Guarded};
use crate::source::kubernetes::objects::{
    Kind, Object, autoscaling, event, node, pod, prefetch, workload,
};
use crate::source::kubernetes::offers::Offer;
use crate::source::kubernetes::{Change, Settings, Translator, discovery};
use crate::telemetry::metric::Counters;

/// Objects of a page of a list: kube's optimisation guide's number, client-go's too.
const PAGE: u32 = 500;
/// The same of objects with what is planned and stored on a node: one has some 100 KiB, and 1.3 MiB at most.
const LARGE_PAGE: u32 = 50;
/// Decoded objects that wait to be translated: less than a page, so that a slow engine slows the
/// lists down instead of filling memory.
const WAITING_FRAMES: usize = 256;
/// First pause when the API server cannot even be asked what it serves; doubles.
const BACK_OFF: Duration = Duration::from_millis(500);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// What the watches tell.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are signals: a box for each would cost more than the bytes of the one that is none"
)]
pub enum Observation {
    /// Something was seen.
    Signal(Signal),
    /// Every kind that is installed and may be read has been listed once.
    Settled,
}

/// What the watches count.
#[derive(Clone, Debug)]
pub struct WatchCounters {
    /// Objects that could not be decoded, by kind.
    pub skipped: Counters,
    /// Lists and watches that were begun again, by kind.
    pub failed: Counters,
    /// What was seen and says nothing, by reason.
    pub untold: Counters,
}

/// How a cluster is watched.
#[derive(Clone)]
pub struct WatchOptions {
    /// Stamps what is seen.
    pub clock: Arc<dyn Clock>,
    /// How objects are read.
    pub settings: Settings,
    /// Namespace of cluster-autoscaler's status.
    pub autoscaler_namespace: String,
    /// Time between two looks for kinds that were not installed.
    pub discovery_interval: Duration,
    /// What is counted.
    pub counters: WatchCounters,
}

/// One step of one kind's watch.
enum Frame {
    Begin,
    Item(Change, Object),
    Broken(Box<Broken>),
    Done,
    Trouble(watcher::Error),
}

struct Watches {
    client: kube::Client,
    options: WatchOptions,
    out: mpsc::Sender<Observation>,
    translator: Translator,
    frames: mpsc::Sender<(Kind, Frame)>,
    tasks: JoinSet<()>,
    /// Kinds whose watch has been begun.
    begun: BTreeSet<Kind>,
    /// Kinds whose first list has yet to begin, owners before the owned.
    waiting: VecDeque<Kind>,
    /// The kind whose first list is under way.
    current: Option<Kind>,
    /// Kinds that have been listed once.
    listed: BTreeSet<Kind>,
    /// Uids of lists under way that replace an earlier one.
    kept: BTreeMap<Kind, HashSet<String>>,
    settled: bool,
    told: BTreeMap<&'static str, u64>,
}

/// The receiver is gone: nobody listens any more.
struct Deaf;

/// Follows the cluster until `out` is closed. What an autoscaler offers is told in between: groups and pods are the
/// same as the watches'.
pub async fn watch_cluster(
    client: kube::Client,
    options: WatchOptions,
    mut offers: Option<mpsc::Receiver<Offer>>,
    out: mpsc::Sender<Observation>,
) {
    let (frames, mut incoming) = mpsc::channel(WAITING_FRAMES);
    let mut watches = Watches {
        translator: Translator::new(options.settings.clone()),
        client,
        options,
        out,
        frames,
        tasks: JoinSet::new(),
        begun: BTreeSet::new(),
        waiting: VecDeque::new(),
        current: None,
        listed: BTreeSet::new(),
        kept: BTreeMap::new(),
        settled: false,
        told: BTreeMap::new(),
    };
    let mut next_look = Timestamp::ZERO;
    let mut pause = BACK_OFF;
    loop {
        let clock = watches.options.clock.clone();
        let outcome = tokio::select! {
            biased;
            () = watches.out.closed() => return,
            () = clock.sleep_until(next_look) => {
                let looked = watches.look().await;
                let wait = if looked {
                    pause = BACK_OFF;
                    watches.options.discovery_interval
                } else {
                    pause = (pause * 2).min(BACK_OFF_MAX);
                    pause
                };
                next_look = clock.now() + wait;
                watches.count_untold();
                watches.proceed().await
            }
            offer = next_of(&mut offers) => if let Some(offer) = offer {
                watches.take_offer(&offer).await
            } else {
                offers = None;
                Ok(())
            },
            Some((kind, frame)) = incoming.recv() => watches.take(kind, frame).await,
        };
        if outcome.is_err() {
            return;
        }
    }
}

impl Watches {
    /// Looks which kinds are installed that are not watched yet. False when nobody answered.
    async fn look(&mut self) -> bool {
        let missing: Vec<Kind> = Kind::ALL
            .iter()
            .copied()
            .filter(|kind| !self.begun.contains(kind) && !self.waiting.contains(kind))
            .collect();
        match discovery::installed(&self.client, &missing).await {
            Ok(found) => {
                for kind in found {
                    info!(?kind, "installed: watching");
                    self.waiting.push_back(kind);
                }
                true
            }
            Err(reason) => {
                warn!(%reason, "the API server does not say what it serves");
                false
            }
        }
    }

    /// Begins the next first list; when there is none left, the cluster is listed.
    async fn proceed(&mut self) -> Result<(), Deaf> {
        if self.current.is_some() {
            return Ok(());
        }
        if let Some(kind) = self.waiting.pop_front() {
            self.current = Some(kind);
            self.begun.insert(kind);
            self.begin(kind);
        } else if !self.settled && !self.listed.is_empty() {
            self.settled = true;
            return self.tell(Observation::Settled).await;
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind) {
        match kind {
            Kind::PodTemplate => self.follow::<pod::PodTemplate>(kind),
            Kind::NodePool => self.follow::<node::NodePool>(kind),
            Kind::NodeClaim => self.follow::<node::NodeClaim>(kind),
            Kind::ReplicaSet => self.follow::<workload::ReplicaSet>(kind),
            Kind::Deployment => self.follow::<workload::Deployment>(kind),
            Kind::StatefulSet => self.follow::<workload::StatefulSet>(kind),
            Kind::DaemonSet => self.follow::<workload::DaemonSet>(kind),
            Kind::CronJob => self.follow::<workload::CronJob>(kind),
            Kind::Job => self.follow::<workload::Job>(kind),
            Kind::Node => self.follow::<node::Node>(kind),
            Kind::NodePrefetch => self.follow::<prefetch::NodePrefetch>(kind),
            Kind::HorizontalPodAutoscaler => {
                self.follow::<autoscaling::HorizontalPodAutoscaler>(kind);
            }
            Kind::CapacityBuffer => self.follow::<autoscaling::CapacityBuffer>(kind),
            Kind::ProvisioningRequest => self.follow::<autoscaling::ProvisioningRequest>(kind),
            Kind::Pod => self.follow::<pod::Pod>(kind),
            Kind::Event => self.follow::<event::Event>(kind),
            Kind::ConfigMap => {
                // The one ConfigMap that is understood: a permission for others is not asked for.
                let namespace = &self.options.autoscaler_namespace;
                let api =
                    Api::<Guarded<node::ConfigMap>>::namespaced(self.client.clone(), namespace);
                let config = config().fields("metadata.name=cluster-autoscaler-status");
                self.tasks
                    .spawn(follow(api, config, kind, self.frames.clone()));
            }
        }
    }

    fn follow<K>(&mut self, kind: Kind)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        Object: From<K>,
    {
        let api = Api::<Guarded<K>>::all(self.client.clone());
        let page = if kind == Kind::NodePrefetch {
            LARGE_PAGE
        } else {
            PAGE
        };
        let config = config().page_size(page);
        self.tasks
            .spawn(follow(api, config, kind, self.frames.clone()));
    }

    async fn take(&mut self, kind: Kind, frame: Frame) -> Result<(), Deaf> {
        let observed = self.options.clock.now();
        match frame {
            Frame::Begin => {
                if self.listed.contains(&kind) {
                    info!(?kind, "listing again");
                    self.kept.insert(kind, HashSet::new());
                }
                Ok(())
            }
            Frame::Item(change, object) => {
                if let Some(kept) = self.kept.get_mut(&kind) {
                    kept.extend(object.metadata().uid.clone());
                }
                let signals = self.translator.observe(change, &object, observed);
                self.tell_all(signals).await
            }
            Frame::Broken(broken) => {
                self.options.counters.skipped.of(kind.plural()).inc();
                let (name, reason) = (&broken.metadata.name, &broken.reason);
                warn!(?kind, ?name, reason, "an object cannot be decoded: skipped");
                if let Some(kept) = self.kept.get_mut(&kind) {
                    kept.extend(broken.metadata.uid.clone());
                }
                Ok(())
            }
            Frame::Done => {
                if let Some(kept) = self.kept.remove(&kind) {
                    let signals = self.translator.relisted(kind, &kept, observed);
                    self.tell_all(signals).await?;
                }
                self.listed.insert(kind);
                self.passed(kind).await
            }
            Frame::Trouble(error) => {
                self.options.counters.failed.of(kind.plural()).inc();
                if is_lasting(&error) {
                    // Not permitted, or gone since: asked again with pauses, but nobody waits.
                    warn!(?kind, %error, "cannot be watched");
                    return self.passed(kind).await;
                }
                debug!(?kind, %error, "watching again");
                Ok(())
            }
        }
    }

    async fn take_offer(&mut self, offer: &Offer) -> Result<(), Deaf> {
        let listed = self.listed.contains(&Kind::Pod) && !self.kept.contains_key(&Kind::Pod);
        let signals = self.translator.offered(offer, listed);
        self.tell_all(signals).await
    }

    /// The first list of `kind` is through, one way or another.
    async fn passed(&mut self, kind: Kind) -> Result<(), Deaf> {
        if self.current == Some(kind) {
            self.current = None;
            return self.proceed().await;
        }
        Ok(())
    }

    async fn tell_all(&mut self, signals: Vec<Signal>) -> Result<(), Deaf> {
        for signal in signals {
            self.tell(Observation::Signal(signal)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, observation: Observation) -> Result<(), Deaf> {
        self.out.send(observation).await.map_err(|_| Deaf)
    }

    fn count_untold(&mut self) {
        for (reason, count) in self.translator.skipped() {
            let before = self.told.insert(reason, *count).unwrap_or(0);
            self.options
                .counters
                .untold
                .of(reason)
                .inc_by(count - before);
        }
    }
}

async fn next_of(offers: &mut Option<mpsc::Receiver<Offer>>) -> Option<Offer> {
    match offers {
        Some(offers) => offers.recv().await,
        None => std::future::pending().await,
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Lists and watches one kind for ever, with pauses after failures.
async fn follow<K>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    kind: Kind,
    frames: mpsc::Sender<(Kind, Frame)>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    Object: From<K>,
{
    let item = |change, guarded| match guarded {
        Guarded::Good(object) => Frame::Item(change, Object::from(object)),
        Guarded::Bad(broken) => Frame::Broken(broken),
    };
    let events = watcher(api, config).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let frame = match event {
            Ok(Event::Init) => Frame::Begin,
            Ok(Event::InitDone) => Frame::Done,
            Ok(Event::InitApply(object) | Event::Apply(object)) => item(Change::Applied, object),
            Ok(Event::Delete(object)) => item(Change::Deleted, object),
            Err(error) => Frame::Trouble(error),
        };
        if frames.send((kind, frame)).await.is_err() {
            return;
        }
    }
}

/// Whether asking again soon is no use.
fn is_lasting(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 403 || status.code == 404
        }
        _ => false,
    }
}
