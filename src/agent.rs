//! L5: one per node: carries out the node's plan and its pool's, and says how far it is.
//!
//! Drives `engine::node`. Watches bring plans ([`watch`]), tasks move bytes ([`pull`]), one loop
//! ([`work`]) tells the engine what happened and starts what it asks for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::measure::Measures;
use crate::agent::mirror::Book;
use crate::agent::nice::Niceness;
use crate::agent::report::{ApiReporter, OnceReporter};
use crate::agent::work::Work;
use crate::api::NodePrefetchStatus;
use crate::domain::plan::Plan;
use crate::domain::quantity::Bandwidth;
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::engine::node::Limits;
use crate::plan::policy::Pattern;
use crate::port::{BlobSource, Clock, ContainerRuntime, RuntimeError, Tags};
use crate::telemetry::admin::Gate;
use crate::telemetry::metric::Metrics;

pub mod guest;
mod inventory;
mod measure;
pub mod mirror;
pub mod nice;
mod pace;
mod pull;
mod report;
mod show;
mod status;
mod watch;
mod whole;
mod work;

/// Plans that may wait for the loop; it takes them in microseconds.
const SEEN: usize = 64;

/// What an agent is made of.
pub struct Options {
    /// Name of the Node.
    pub node: String,
    /// Its pool, where that is known without asking the Node object.
    pub pool: Option<String>,
    /// Otherwise the labels of the Node that name it, the strongest first.
    pub pool_labels: Vec<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where images go.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Where they come from.
    pub source: Arc<dyn BlobSource>,
    /// Who says what tags mean now, to anybody; where nobody does, nothing is recorded.
    pub tags: Option<Arc<dyn Tags>>,
    /// Images that are never recorded, only held ready.
    pub unrecorded: Vec<Pattern>,
    /// So often a recorded tag is asked again while no plan has let go of it.
    pub recheck: Duration,
    /// Whether the machine has no time for what no pod waits for: [`guest::is_pressed`], unless
    /// several nodes are played on one.
    pub pressed: fn() -> bool,
    /// Whose priority goes down while no pod waits for what is brought.
    pub nice: Niceness,
    /// Concurrency, disk, back-off.
    pub limits: Limits,
    /// Most bytes per second for layers that no pod waits for.
    pub bandwidth: Option<Bandwidth>,
    /// Shortest time between two writes of a status of which only numbers changed.
    pub report_pause: Duration,
    /// Who wants `transfer.finished` and `prefetch.finished`; a full channel loses signals, not
    /// time.
    pub signals: Option<mpsc::Sender<Signal>>,
    /// Opened when the plans have been seen for the first time.
    pub gate: Option<Gate>,
    /// What the node's mirror answers from, where there is one.
    pub book: Option<Book>,
}

/// An agent that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What is on the node cannot be listed.
    #[error("cannot list what is on the node: {0}")]
    Inventory(#[from] RuntimeError),
}

/// What a watch saw.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// When the Node object was made.
    Born(Timestamp),
    /// The pool's plan, or that there is none.
    Pool(Option<Plan>),
    /// The node's own plan with the generation of its object, or that there is none.
    Node(Option<(Plan, Option<i64>)>),
}

/// An agent that has not begun.
pub struct Agent {
    options: Options,
    measures: Measures,
}

impl Agent {
    /// Registers its metrics; nothing is asked of anybody yet.
    pub fn new(options: Options, metrics: &mut Metrics) -> Self {
        Self {
            options,
            measures: Measures::new(metrics),
        }
    }

    /// Whether the runtime pulls images itself, so that progress is in whole images.
    pub fn brings_images(&self) -> bool {
        self.options.runtime.brings_images()
    }

    /// Bytes that travelled since it began.
    pub fn moved(&self) -> impl Fn() -> u64 + Send + use<> {
        let moved = self.measures.moved.clone();
        move || moved.load(Ordering::Relaxed)
    }

    /// Follows the plans of an API server until `shutdown`; partial blobs stay for the next start.
    ///
    /// # Errors
    /// [`AgentError::Inventory`]. An API server, cache or registry that is away is waited for.
    pub async fn run(self, client: Client, shutdown: CancellationToken) -> Result<(), AgentError> {
        let Self { options, measures } = self;
        let (tell, seen) = mpsc::channel(SEEN);
        let ended = shutdown.child_token();
        let watching = watch::watch(client.clone(), &options, tell, ended.clone());
        let reporter = ApiReporter::new(client, options.node.clone());
        let work = Work::new(options, measures, Arc::new(reporter));
        let working = async {
            let worked = work.run(seen, shutdown).await;
            ended.cancel();
            worked
        };
        let ((), worked) = tokio::join!(watching, working);
        worked
    }

    /// Carries out one plan, tells how far it is, and ends when there is nothing left to do.
    ///
    /// # Errors
    /// [`AgentError::Inventory`].
    pub async fn once(
        self,
        plan: Plan,
        tell: impl Fn(&NodePrefetchStatus) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), AgentError> {
        let Self { options, measures } = self;
        // The last change would be waited for at the end.
        let options = Options {
            report_pause: Duration::ZERO,
            ..options
        };
        let (told, seen) = mpsc::channel(SEEN);
        let settled = shutdown.child_token();
        let reporter = OnceReporter::new(tell, settled.clone());
        let work = Work::new(options, measures, Arc::new(reporter));
        // There is room for it: the channel is new.
        let _ = told.send(Seen::Node(Some((plan, None)))).await;
        work.run(seen, settled).await
    }
}

/// Runs an agent whose metrics nobody serves meanwhile.
///
/// # Errors
/// As [`Agent::run`].
pub async fn run(
    client: Client,
    options: Options,
    metrics: &mut Metrics,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    Box::pin(Agent::new(options, metrics).run(client, shutdown)).await
}
