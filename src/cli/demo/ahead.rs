//! Forelay's own processes in a run of the demo: controller, agents, and what they listen to.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::agent::nice::Niceness;
use crate::api::{
    self, NodePrefetch, PolicyMode, PoolPrefetch, PrefetchPolicy, PrefetchPolicySpec,
};
use crate::cli::demo::ledger::Happening;
use crate::cli::demo::node::{Node, Surroundings};
use crate::cli::demo::play::Stage;
use crate::controller;
use crate::controller::lease::LeaseOptions;
use crate::controller::metric::Instruments;
use crate::domain::plan::Target;
use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::embedded::kafka::EmbeddedKafka;
use crate::embedded::machine::AgentSide;
use crate::embedded::prometheus::{EmbeddedPrometheus, LoadSeries, Selector};
use crate::engine::node::Limits as NodeLimits;
use crate::forecast::model::Model;
use crate::registry::{self, Registry};
use crate::source::admission::AdmissionLimits;
use crate::source::cloudevents::Limits;
use crate::source::kafka::{KafkaSettings, KafkaSink, KafkaSource};
use crate::source::kubernetes::Settings;
use crate::source::prometheus::{LoadQuery, PrometheusSettings, PrometheusSource};
use crate::telemetry::metric::Metrics;

/// The topic that the player writes and the controller reads.
const TOPIC: &str = "forelay.signals";

/// Signals from Kafka and Prometheus that wait for the controller.
const SIGNAL_QUEUE: usize = 1024;

/// Recorded seconds between two looks at Prometheus: the usual scrape interval.
const LOAD_INTERVAL: Duration = Duration::from_secs(15);

/// How long processes may take to end.
const CURTAIN: Duration = Duration::from_secs(5);

/// What Forelay's processes stand in.
pub struct House {
    /// The stage.
    pub stage: Arc<Stage>,
    /// The run.
    pub around: Arc<Surroundings>,
}

/// Forelay at work.
pub struct Ahead {
    house: House,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Where agents tell what they moved.
    told: mpsc::Sender<Signal>,
    _kafka: EmbeddedKafka,
    _prometheus: EmbeddedPrometheus,
}

impl Ahead {
    /// Installs the custom resources and starts the controller with all its sources.
    ///
    /// # Errors
    /// When one of them cannot start.
    pub async fn start(
        house: House,
        from_player: mpsc::Receiver<Signal>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let client = &house.around.client;
        install(client).await?;
        let (signals, received) = mpsc::channel(SIGNAL_QUEUE);
        let mut tasks = JoinSet::new();
        let kafka = EmbeddedKafka::start(1)?;
        kafka.create_topic(TOPIC, 3)?;
        tasks.spawn(produce(kafka.bootstrap_servers().to_owned(), from_player));
        let settings = KafkaSettings {
            brokers: kafka.bootstrap_servers().to_owned(),
            topics: vec![TOPIC.into()],
            group: "forelay-demo".into(),
            history: Duration::from_hours(1),
            history_max: 100_000,
            refresh: Duration::from_secs(1),
            limits: Limits::default(),
            admission: AdmissionLimits::default(),
        };
        let consumer = KafkaSource::new(settings, house.around.clock.clone());
        tasks.spawn(named("kafka", consumer.run(signals.clone(), stop.clone())));
        let prometheus = load(&house, signals, &stop, &mut tasks).await?;
        let options = controller_options(&house, received)?;
        tasks.spawn(named("controller", controller::run(options, stop.clone())));
        for task in [
            Box::pin(follow::<NodePrefetch>(house.around.clone(), |p| {
                (
                    Target::Node(p.name_any()),
                    p.spec.entries.iter().map(|e| e.image.clone()).collect(),
                )
            })) as futures::future::BoxFuture<'static, ()>,
            Box::pin(follow::<PoolPrefetch>(house.around.clone(), |p| {
                (
                    Target::Pool(p.spec.pool.clone()),
                    p.spec.entries.iter().map(|e| e.image.clone()).collect(),
                )
            })),
        ] {
            let stop = stop.clone();
            tasks.spawn(async move {
                let _ = stop.run_until_cancelled(task).await;
            });
        }
        let (told, heard) = mpsc::channel(SIGNAL_QUEUE);
        tasks.spawn(write_down(house.around.clone(), heard));
        Ok(Self {
            house,
            stop,
            tasks,
            told,
            _kafka: kafka,
            _prometheus: prometheus,
        })
    }

    /// Starts a node's agent at an instant: a DaemonSet's pod takes its seconds to start too.
    pub fn agent(&mut self, node: Arc<Node>, at: Timestamp) {
        let around = self.house.around.clone();
        let told = self.told.clone();
        let stop = node.stop.clone();
        self.tasks.spawn(async move {
            if stop
                .run_until_cancelled(around.clock.sleep_until(at))
                .await
                .is_none()
            {
                return;
            }
            let client = around.client.clone();
            let options = agent::Options {
                node: node.joined.node.clone(),
                pool: Some(node.joined.pool.clone()),
                clock: around.clock.clone(),
                runtime: Arc::new(AgentSide(node.machine.clone())),
                source: node.source.clone(),
                tags: Some(node.source.clone()),
                unrecorded: Vec::new(),
                recheck: Duration::ZERO,
                signals: Some(told),
                pool_labels: Vec::new(),
                // Its nodes share this machine: its stalls are not theirs.
                pressed: || false,
                nice: Niceness::none(),
                limits: NodeLimits {
                    disk: node.room,
                    ..NodeLimits::default()
                },
                bandwidth: None,
                report_pause: Duration::from_secs(10),
                gate: None,
                book: None,
            };
            let mut metrics = Metrics::new("demo-agent");
            if let Err(error) = agent::run(client, options, &mut metrics, stop).await {
                tracing::warn!(node = node.joined.node, %error, "the agent ended");
            }
        });
    }

    /// Ends all processes in good order.
    pub async fn end(mut self) {
        self.stop.cancel();
        drop(self.told);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CURTAIN, all).await.is_err() {
            tracing::warn!("some processes did not end in time");
        }
    }
}

/// Creates the definitions and switches Forelay on; waits until both are served.
async fn install(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in api::crds() {
        definitions
            .create(&PostParams::default(), &definition)
            .await?;
    }
    let policies: Api<PrefetchPolicy> = Api::all(client.clone());
    let spec = PrefetchPolicySpec {
        mode: PolicyMode::On,
        ..PrefetchPolicySpec::default()
    };
    let policy = PrefetchPolicy::new("demo", spec);
    // A new definition's endpoint may answer 404 or 429 for a moment.
    for attempt in 1_u64.. {
        match policies.create(&PostParams::default(), &policy).await {
            Ok(_) => break,
            Err(kube::Error::Api(_)) if attempt < 50 => {
                tokio::time::sleep(Duration::from_millis(20 * attempt)).await;
            }
            Err(error) => return Err(error).context("the policy could not be created"),
        }
    }
    Ok(())
}

/// Hands what the player sends to Kafka.
async fn produce(brokers: String, mut from_player: mpsc::Receiver<Signal>) {
    let sink = match KafkaSink::new(&brokers, TOPIC) {
        Ok(sink) => sink,
        Err(error) => {
            tracing::error!(%error, "no way into kafka");
            return;
        }
    };
    while let Some(signal) = from_player.recv().await {
        if let Err(error) = sink.send(&signal).await {
            tracing::warn!(%error, "a signal did not reach kafka");
        }
    }
}

fn controller_options(
    house: &House,
    signals: mpsc::Receiver<Signal>,
) -> anyhow::Result<controller::Options> {
    let scale = house.around.scale.time;
    // The controller is on no node: it asks the cache without a node's link in between.
    let resolver = Registry::new(registry::Options {
        mirrors: vec![format!("http://{}", house.around.cache)],
        use_origins: false,
        system_proxy: false,
        ..registry::Options::default()
    })?;
    Ok(controller::Options {
        client: house.around.client.clone(),
        clock: house.around.clock.clone(),
        lease: LeaseOptions {
            namespace: "default".into(),
            name: "forelay".into(),
            identity: "demo".into(),
            duration: Duration::from_secs(5),
            follow: None,
        },
        state_name: "forelay-state".into(),
        state_interval: Duration::from_secs(30),
        step_interval: Duration::from_secs(1),
        // Plans may follow each other as fast as in the recording's own time.
        revision_gap: Duration::from_secs_f64(0.5 / scale),
        model: shrunk(Model::default(), house.around.scale.bytes),
        model_file: None,
        default_mode: PolicyMode::Observe,
        settings: Settings::default(),
        autoscaler_namespace: "kube-system".into(),
        discovery_interval: Duration::from_secs(5),
        signals: Some(signals),
        offers: None,
        load_queries: None,
        resolver: Arc::new(resolver),
        concurrency: 16,
        instruments: Instruments::register(&mut Metrics::new("demo-controller")),
        ready: None,
    })
}

/// A model for bytes that are so many times smaller than the recording's: what they cost and where
/// they fit stays what it is.
fn shrunk(mut model: Model, by: u64) -> Model {
    let by = by as f64;
    model.price.second_bytes /= by;
    model.price.rate /= by;
    model.disk.fraction /= by;
    model.disk.unknown_bytes = (model.disk.unknown_bytes as f64 / by) as u64;
    model
}

/// Serves the recorded load over a Prometheus API and starts the source that asks for it.
async fn load(
    house: &House,
    signals: mpsc::Sender<Signal>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<EmbeddedPrometheus> {
    let clock = house.around.clock.clone();
    let series: LoadSeries = house.stage.signals.iter().collect();
    let queries = queries(&house.stage.signals);
    let server = EmbeddedPrometheus::start(series, clock.clone()).await?;
    let settings = PrometheusSettings {
        url: server.url(),
        queries,
        interval: LOAD_INTERVAL,
        timeout: Duration::from_secs(5),
        history: Duration::from_hours(1),
    };
    let source = PrometheusSource::new(settings, clock);
    tasks.spawn(named("prometheus", source.run(signals, stop.clone())));
    Ok(server)
}

/// One query for each load series of the recording.
fn queries(signals: &[Signal]) -> Vec<LoadQuery> {
    let mut series = BTreeMap::new();
    for signal in signals {
        if let Fact::LoadSampled(sample) = &signal.fact {
            series.entry(&sample.series).or_insert(&sample.workload);
        }
    }
    let query = |(name, workload): (&String, &Option<WorkloadRef>)| LoadQuery {
        name: name.clone(),
        query: Selector::of_series(name).to_string(),
        workload: workload.clone(),
    };
    series.into_iter().map(query).collect()
}

/// Writes down every plan that is published, as anybody with a watch could.
async fn follow<K>(
    around: Arc<Surroundings>,
    read: fn(&K) -> (Target, BTreeSet<crate::domain::image::ImageRef>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let plans: Api<K> = Api::all(around.client.clone());
    let mut events = std::pin::pin!(watcher(plans, watcher::Config::default()));
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(plan) | Event::InitApply(plan))) => {
                let (target, images) = read(&plan);
                let at = around.clock.now();
                let _ = around
                    .ledger
                    .send(Happening::Planned { target, images, at });
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "the plan watch starts again"),
        }
    }
}

/// Writes down what agents say that they have moved.
async fn write_down(around: Arc<Surroundings>, mut heard: mpsc::Receiver<Signal>) {
    while let Some(signal) = heard.recv().await {
        if let Fact::TransferFinished(moved) = signal.fact {
            let _ = around.ledger.send(Happening::Landed {
                node: moved.node,
                digest: moved.digest,
                bytes: moved.bytes.0 * around.scale.bytes,
                ahead: true,
                at: signal.time,
            });
        }
    }
}

/// A task whose failure is told, with its name.
async fn named<E: std::fmt::Display>(
    name: &'static str,
    task: impl Future<Output = Result<(), E>>,
) {
    if let Err(error) = task.await {
        tracing::error!(name, %error, "ended");
    }
}
