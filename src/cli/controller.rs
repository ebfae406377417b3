//! `forelay controller`: the predictor as a process.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::api::PolicyMode;
use crate::cli::sources::Sources;
use crate::cli::{Context, Exit, kubernetes, serve};
use crate::config;
use crate::controller::lease::{FollowedLease, LeaseOptions};
use crate::controller::metric::Instruments;
use crate::controller::model::{self, Followed};
use crate::controller::{self, Options};
use crate::port::Clock;
use crate::registry::{self, Registry};
use crate::source::kubernetes::Settings;
use crate::telemetry::admin::Gates;
use crate::telemetry::clock::SystemClock;
use crate::telemetry::metric::Metrics;

/// Signals of Kafka and Prometheus that wait for the engine; beyond that they wait at their source.
const SIGNALS_WAITING: usize = 4096;

/// Expander calls that are decoded and wait: what waits before that is bounded by the expander itself.
const OFFERS_WAITING: usize = 1;

/// Questions to registries and writes to the API server at once.
const CONCURRENCY: usize = 16;

/// Hear the signals, predict, publish plans
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Works until told to end.
pub async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (common, controller) = config::controller(&context.layers)?;
    context.begin(&common)?;
    let gates = Gates::default();
    let mut metrics = Metrics::new("controller");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let identity = controller.identity.clone().unwrap_or_else(made_up_identity);
    let (signals, received) = mpsc::channel(SIGNALS_WAITING);
    let (queries, asked) = watch::channel(Vec::new());
    let instruments = Instruments::register(&mut metrics);
    let skipped = instruments.watches.skipped.clone();
    let mut sources = Sources::new(&mut metrics, clock.clone(), signals, skipped);
    let (offered, offers) = mpsc::channel(OFFERS_WAITING);
    let options = Options {
        client: kubernetes::client(&controller.kubernetes).await?,
        clock: clock.clone(),
        lease: lease(&controller, &identity),
        state_name: controller.state_name.clone(),
        state_interval: controller.state_save_interval,
        step_interval: controller.step_interval,
        revision_gap: Duration::from_secs(1),
        model: controller.model.clone(),
        model_file: controller.model_file.clone().map(|path| Followed {
            path,
            interval: model::INTERVAL,
        }),
        default_mode: PolicyMode::Observe,
        settings: Settings {
            pool_labels: controller.pool_labels.clone(),
            ..Settings::default()
        },
        autoscaler_namespace: "kube-system".into(),
        discovery_interval: Duration::from_secs(30),
        signals: Some(received),
        offers: controller.expander.as_ref().map(|_| offers),
        load_queries: controller.prometheus.as_ref().map(|_| queries),
        resolver: Arc::new(Registry::new(registry::Options {
            mirrors: controller.caches.clone(),
            origins: controller.origins.clone(),
            ..registry::Options::default()
        })?),
        concurrency: CONCURRENCY,
        instruments,
        ready: Some(gates.gate("listed")),
    };
    serve::until_told(
        &common,
        controller.listen,
        (metrics, gates),
        |stop| async move {
            if let Some(kafka) = &controller.kafka {
                sources.kafka(kafka, &identity, &stop);
            }
            if let Some(prometheus) = &controller.prometheus {
                sources.prometheus(prometheus, asked, &stop);
            }
            if let Some(expander) = &controller.expander {
                let listener = serve::bind(expander.listen).await?;
                tracing::info!(address = %listener.local_addr()?, "expander");
                sources.expander(expander, listener, offered, &stop);
            }
            sources.show(&stop);
            Ok(Box::pin(controller::run(options, stop)).await?)
        },
    )
    .await
}

fn lease(controller: &config::Controller, identity: &str) -> LeaseOptions {
    let follow = controller.lease_follow.clone();
    LeaseOptions {
        namespace: controller.namespace.clone(),
        name: controller.lease_name.clone(),
        identity: identity.to_owned(),
        duration: controller.lease_duration,
        follow: follow.map(|(namespace, name)| FollowedLease { namespace, name }),
    }
}

/// For a controller outside a cluster: two of them on one machine differ by process.
fn made_up_identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "forelay".into());
    format!("{host}-{}", std::process::id())
}
