//! `forelay controller`: the predictor as a process.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::PolicyMode;
use crate::cli::replay::read_model;
use crate::cli::{Context, Exit, kubernetes, serve};
use crate::config::{self, Controller};
use crate::controller::lease::LeaseOptions;
use crate::controller::metric::Instruments;
use crate::controller::{self, Options};
use crate::domain::signal::Signal;
use crate::forecast::model::Model;
use crate::port::Clock;
use crate::registry::{self, Registry};
use crate::source::kafka::{KafkaSettings, KafkaSource};
use crate::source::kubernetes::Settings;
use crate::source::prometheus::{PrometheusSettings, PrometheusSource};
use crate::telemetry::admin::Gates;
use crate::telemetry::clock::SystemClock;
use crate::telemetry::metric::Metrics;

/// Signals of Kafka and Prometheus that wait for the engine; beyond that they wait at their source.
const SIGNALS_WAITING: usize = 4096;

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
    let options = Options {
        client: kubernetes::client(&controller.kubernetes).await?,
        clock: clock.clone(),
        lease: LeaseOptions {
            namespace: controller.namespace.clone(),
            name: controller.lease_name.clone(),
            identity: identity.clone(),
            duration: controller.lease_duration,
        },
        state_name: controller.state_name.clone(),
        state_interval: controller.state_save_interval,
        step_interval: controller.step_interval,
        revision_gap: Duration::from_secs(1),
        model: match &controller.model {
            Some(path) => read_model(path)?,
            None => Model::default(),
        },
        default_mode: PolicyMode::Observe,
        settings: Settings {
            pool_labels: controller.pool_labels.clone(),
            ..Settings::default()
        },
        autoscaler_namespace: "kube-system".into(),
        discovery_interval: Duration::from_secs(30),
        signals: Some(received),
        load_queries: None,
        resolver: Arc::new(Registry::new(registry::Options::default())?),
        concurrency: CONCURRENCY,
        instruments: Instruments::register(&mut metrics),
        ready: Some(gates.gate("listed")),
    };
    serve::until_told(
        &common,
        controller.listen,
        (metrics, gates),
        |stop| async move {
            listen(&controller, &identity, &clock, &signals, &stop);
            // The last sender has to be a source's, or the controller would wait for signals for ever.
            drop(signals);
            Ok(controller::run(options, stop).await?)
        },
    )
    .await
}

/// Starts the sources that are configured beside the API server.
fn listen(
    controller: &Controller,
    identity: &str,
    clock: &Arc<dyn Clock>,
    signals: &mpsc::Sender<Signal>,
    stop: &CancellationToken,
) {
    if let Some(kafka) = &controller.kafka {
        let source = KafkaSource::new(KafkaSettings::new(kafka, identity), clock.clone());
        let (signals, stop) = (signals.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = source.run(signals, stop).await {
                tracing::error!(%error, "kafka is heard no more");
            }
        });
    }
    if let Some(prometheus) = &controller.prometheus {
        let source = PrometheusSource::new(PrometheusSettings::new(prometheus), clock.clone());
        let (signals, stop) = (signals.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = source.run(signals, stop).await {
                tracing::error!(%error, "prometheus is heard no more");
            }
        });
    }
}

/// For a controller outside a cluster: two of them on one machine differ by process.
fn made_up_identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "forelay".into());
    format!("{host}-{}", std::process::id())
}
