//! L5: the predictor's loop: every replica keeps its engine warm, the leader writes what it says.

pub mod desk;
pub mod lease;
pub mod metric;
pub mod model;
pub mod policy;
pub mod publish;
pub mod resolve;
pub mod roster;
pub mod state;

mod driver;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::api::PolicyMode;
use crate::controller::driver::Driver;
use crate::controller::lease::{Elector, LeaseOptions, Seat};
use crate::controller::metric::Instruments;
use crate::controller::model::{Followed, InForce};
use crate::controller::policy::Policies;
use crate::controller::publish::{PublishError, Publisher};
use crate::domain::signal::Signal;
use crate::forecast::model::Model;
use crate::port::{Clock, ImageResolver};
use crate::source::kubernetes::Settings;
use crate::source::kubernetes::offers::Offer;
use crate::source::kubernetes::watch::{WatchOptions, watch_cluster};
use crate::source::prometheus::LoadQuery;
use crate::telemetry::admin::Gate;

/// Observations that wait between the watches and the engine: a page of a list and some.
const WAITING_OBSERVATIONS: usize = 2_048;

/// First pause when plans cannot be listed at the start; doubles.
const FLOOR_RETRY: Duration = Duration::from_millis(250);
/// Longest pause.
const FLOOR_RETRY_MAX: Duration = Duration::from_secs(10);

/// Everything that a controller is started with.
pub struct Options {
    /// The API server.
    pub client: kube::Client,
    /// Time of signals, plans and expiries. Leadership counts monotonic time of its own.
    pub clock: Arc<dyn Clock>,
    /// Leadership.
    pub lease: LeaseOptions,
    /// Name of the ConfigMap, in the Lease's namespace, that keeps what was learned.
    pub state_name: String,
    /// Time between two saves.
    pub state_interval: Duration,
    /// Longest time between two looks at the whole cluster.
    pub step_interval: Duration,
    /// Shortest time between two writes of one plan; the first is written at once.
    pub revision_gap: Duration,
    /// Parameters of the engine.
    pub model: Model,
    /// The file they are of, to be followed; without one they never change.
    pub model_file: Option<Followed>,
    /// What counts for a pool that no policy is about.
    pub default_mode: PolicyMode,
    /// How objects of the API server are read.
    pub settings: Settings,
    /// Namespace of cluster-autoscaler's status.
    pub autoscaler_namespace: String,
    /// Time between two looks for kinds that were not installed.
    pub discovery_interval: Duration,
    /// Signals of other sources (Kafka, Prometheus).
    pub signals: Option<mpsc::Receiver<Signal>>,
    /// What cluster-autoscaler's expander calls tell, where it asks this replica.
    pub offers: Option<mpsc::Receiver<Offer>>,
    /// Is told the load queries of all policies, for the source that asks them.
    pub load_queries: Option<watch::Sender<Vec<LoadQuery>>>,
    /// Answers what references mean.
    pub resolver: Arc<dyn ImageResolver>,
    /// Writes, and questions to registries, at once.
    pub concurrency: usize,
    /// What is counted.
    pub instruments: Instruments,
    /// Opens when the cluster has been listed.
    pub ready: Option<Gate>,
}

/// Why a controller has ended before it was told to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// One of its parts has ended: a defect.
    #[error("{0} has ended by itself")]
    Ended(&'static str),
}

/// Runs until `shutdown`: then the last writes end, what was learned is saved, and the Lease is
/// given back, in this order.
pub async fn run(mut options: Options, shutdown: CancellationToken) -> Result<(), ControllerError> {
    let (elector, seat) = Elector::new(
        options.client.clone(),
        options.clock.clone(),
        options.lease.clone(),
    );
    let leave = CancellationToken::new();
    let publisher = Publisher::new(options.client.clone(), seat.clone());
    let (candidate, leaving) = (seat.clone(), leave.clone());
    let election = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::select! {
            () = leaving.cancelled() => return,
            () = learn_floor(&publisher, &candidate) => {}
        }
        elector.run(leaving).await;
    }));

    let (observed, observations) = mpsc::channel(WAITING_OBSERVATIONS);
    let (told, policies) = watch::channel(Policies::unknown(options.default_mode));
    let mut parts = JoinSet::new();
    parts.spawn(policy::follow(options.client.clone(), told));
    parts.spawn(watch_cluster(
        options.client.clone(),
        WatchOptions {
            clock: options.clock.clone(),
            settings: options.settings.clone(),
            autoscaler_namespace: std::mem::take(&mut options.autoscaler_namespace),
            discovery_interval: options.discovery_interval,
            counters: options.instruments.watches.clone(),
        },
        options.offers.take(),
        observed,
    ));

    let (renewed, models) = watch::channel(InForce::at_start(options.model.clone()));
    if let Some(file) = options.model_file.take() {
        parts.spawn(model::follow(file, options.instruments.clone(), renewed));
    }
    let driver = Driver::new(options, seat, observations, (policies, models));
    let outcome = tokio::select! {
        outcome = driver.run(shutdown) => outcome,
        _ = parts.join_next() => Err(ControllerError::Ended("a watch")),
    };
    parts.shutdown().await;
    leave.cancel();
    if election.await.is_err() {
        error!("the election ended by itself");
    }
    outcome
}

/// A replica may be the first to find that somebody has deleted the Lease: its own must not begin
/// below the epochs that plans were written with.
async fn learn_floor(publisher: &Publisher, seat: &Seat) {
    let mut pause = FLOOR_RETRY;
    loop {
        match publisher.list().await {
            Ok(found) => {
                let newest = found.iter().map(|one| one.epoch).max();
                return seat.raise_floor(newest.unwrap_or(0));
            }
            // Without the definitions there are no plans.
            Err(PublishError::Missing(_)) => return,
            Err(reason) => warn!(%reason, "published plans cannot be listed"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(FLOOR_RETRY_MAX);
    }
}
