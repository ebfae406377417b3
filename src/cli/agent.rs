//! `forelay agent`: the node's agent as a process, or for one plan by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::agent::nice::Niceness;
use crate::agent::{self, Agent};
use crate::cli::agent::choice::{Choice, choose};
use crate::cli::render::{Output, OutputArgs};
use crate::cli::{Context, Exit, kubernetes, serve};
use crate::config::{self, Layers, Problems, RuntimeKind};
use crate::engine::node::Limits;
use crate::port::{Clock, ContainerRuntime};
use crate::registry::{self, Keychain, Registry};
use crate::runtime::containerd::{self, Containerd};
use crate::runtime::cri::{self, CriRuntime};
use crate::runtime::oci_layout::OciLayout;
use crate::store::Store;
use crate::telemetry::admin::Gates;
use crate::telemetry::clock::SystemClock;
use crate::telemetry::metric::Metrics;

mod check;
mod choice;
mod mirror;
mod once;
mod plan_file;

/// What failed eight times, over some three minutes, is tried anew after this: a registry's outage takes longer
/// than that, and a plan may stay as it is for hours.
const TRY_ANEW: Duration = Duration::from_mins(10);

/// Bring this node the layers that its plan names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Carry out the plan of --plan, show how far it is, and end
    #[arg(long, requires = "plan")]
    once: bool,
    /// A NodePrefetch or PoolPrefetch as kubectl prints it, or a list, {images: [nginx:1.27]}; YAML or JSON
    #[arg(long, value_name = "FILE", requires = "once")]
    plan: Option<PathBuf>,
    /// Say what is found on this node, and what an agent may do here
    #[arg(long, conflicts_with = "once")]
    check: bool,
    /// Socket of containerd; images go there
    #[arg(long, value_name = "SOCKET")]
    containerd: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A node that is left alone.
#[derive(Debug, thiserror::Error)]
#[error("this node is left alone: {0}")]
struct LeftAlone(String);

/// Works until told to end.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let mut context = context.clone();
    if let Some(socket) = &args.containerd {
        context.layers = on_socket(context.layers, socket)?;
    }
    if args.check {
        return check::run(args.output.output == Output::Json, &context).await;
    }
    if let Some(plan) = args.plan {
        return by_hand(plan, args.output.output == Output::Json, context).await;
    }
    let (common, config) = config::agent(&context.layers)?;
    context.begin(&common)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client = kubernetes::client(&config.kubernetes).await?;
    let gates = Gates::default();
    let mut metrics = Metrics::new("agent");
    let listen = config.listen;
    let place = mirror::Place {
        socket: config.containerd.clone(),
        config_path: config.mirror.config_path.clone(),
    };
    let source = Registry::new(registry_options(&config)?)?;
    let anybody = Arc::new(anybody(&config, &source)?);
    let mut options = match options(&config, source, clock, &anybody).await {
        Err(error) if error.is::<LeftAlone>() => {
            // A pod that ended would only be started again.
            tracing::warn!("{error}");
            return serve::until_told(&common, listen, (metrics, gates), |stop| async move {
                mirror::run(None, place, stop.clone()).await;
                stop.cancelled().await;
                Ok(())
            })
            .await;
        }
        options => options?,
    };
    let is_containerd = is_containerd(&config);
    let mirrored = config.mirror.enabled && is_containerd;
    let mirror =
        mirrored.then(|| mirror::prepare(&config.mirror, &mut options, anybody, &mut metrics));
    options.gate = Some(gates.gate("plans"));
    let working = Agent::new(options, &mut metrics);
    serve::until_told(&common, listen, (metrics, gates), |stop| async move {
        let ended = stop.child_token();
        let beside = async {
            // Where there is none, what an earlier one left is taken away.
            if is_containerd || place.socket.exists() || place.config_path.is_some() {
                mirror::run(mirror, place, ended.clone()).await;
            }
        };
        let working = async {
            let worked = Box::pin(working.run(client, stop)).await;
            ended.cancel();
            worked
        };
        let (worked, ()) = tokio::join!(working, beside);
        Ok(worked?)
    })
    .await
}

async fn by_hand(plan: PathBuf, json: bool, mut context: Context) -> anyhow::Result<Exit> {
    // Nobody reads a node's name in what is done by hand.
    context.layers = named(context.layers);
    context.begin_quietly()?;
    let (_, config) = config::agent(&context.layers)?;
    // What is no plan is refused before anything of the node is touched.
    let plan = plan_file::read(&plan)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let node = config.node_name.clone();
    let source = Registry::new(registry_options(&config)?)?;
    let resolver = source.beside(registry_options(&config)?)?;
    let anybody = Arc::new(anybody(&config, &source)?);
    let options = options(&config, source, clock.clone(), &anybody).await?;
    let agent = Agent::new(options, &mut Metrics::new("agent"));
    let around = (clock, &resolver as _);
    Box::pin(once::run(plan, &node, agent, around, (json, &context))).await
}

/// Images go to this socket: by containerd's own services, unless the configuration says by CRI.
fn on_socket(layers: Layers, socket: &Path) -> Result<Layers, Problems> {
    let path = socket.display().to_string();
    let layers = layers.with_flag("agent.containerd", "--containerd", path.clone());
    let (_, config) = config::agent(&named(layers.clone()))?;
    Ok(match config.runtime {
        RuntimeKind::Cri => layers.with_flag("agent.cri", "--containerd", path),
        _ => layers.with_flag("agent.runtime", "--containerd", "containerd".into()),
    })
}

/// A node's name where nobody gave one.
fn named(layers: Layers) -> Layers {
    layers.with_default("agent.node_name", "this-node")
}

/// Who may read an image, and what its tag means, is the origin's to say, to anybody: a cache may have
/// credentials of its own, and answers from memory.
fn anybody(config: &config::Agent, source: &Registry) -> anyhow::Result<Registry> {
    Ok(source.beside(registry::Options {
        mirrors: Vec::new(),
        keychain: Keychain::default(),
        rounds: 1,
        ..registry_options(config)?
    })?)
}

/// Everything but the gate and the book.
async fn options(
    config: &config::Agent,
    source: Registry,
    clock: Arc<dyn Clock>,
    anybody: &Arc<Registry>,
) -> anyhow::Result<agent::Options> {
    let tags = config.origin_fallback.then(|| anybody.clone() as _);
    let runtime = runtime(config, &clock).await?;
    // What queues the kubelet's pulls is the kubelet: a second one of ours would only be in their way.
    let blobs = config.blobs && is_containerd(config) && !runtime.brings_images();
    let concurrency = if runtime.brings_images() {
        1
    } else {
        config.concurrency
    };
    Ok(agent::Options {
        node: config.node_name.clone(),
        pool: None,
        pool_labels: config.pool_labels.clone(),
        clock,
        runtime,
        source: Arc::new(source),
        tags,
        unrecorded: config.unrecorded.clone(),
        recheck: config.recheck,
        pressed: agent::guest::is_pressed,
        nice: Niceness::of_process(),
        limits: Limits {
            concurrency,
            disk: config.disk_budget,
            blobs,
            linger: config.linger,
            again: Some(TRY_ANEW),
            ..Limits::default()
        },
        bandwidth: config.bandwidth_limit,
        report_pause: Duration::from_secs(10),
        signals: None,
        gate: None,
        book: None,
    })
}

fn registry_options(config: &config::Agent) -> anyhow::Result<registry::Options> {
    let keychain = match &config.credentials {
        None => Keychain::default(),
        Some(path) => {
            let named = || format!("agent.credentials: {}", path.display());
            let text = std::fs::read_to_string(path).with_context(named)?;
            Keychain::from_docker_config(&text).with_context(named)?
        }
    };
    Ok(registry::Options {
        mirrors: config.caches.clone(),
        origins: config.origins.clone(),
        use_origins: config.origin_fallback,
        keychain,
        ..registry::Options::default()
    })
}

/// Whether pulls can be led to a mirror here.
fn is_containerd(config: &config::Agent) -> bool {
    match config.runtime {
        RuntimeKind::Containerd => true,
        RuntimeKind::Layout | RuntimeKind::Cri => false,
        RuntimeKind::Auto => config.containerd.exists(),
    }
}

/// What this node allows.
async fn runtime(
    config: &config::Agent,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn ContainerRuntime>> {
    let found = match choose(config).await? {
        Choice::Containerd(found) => found,
        Choice::Nothing(_, obstacle) => anyhow::bail!(LeftAlone(obstacle.to_string())),
        Choice::Cri { socket, why } => return pulling(config, clock, (socket, why)).await,
        Choice::Layout => {
            let (store, recovery) = Store::open(&config.layout, clock.now())?;
            tracing::info!(layout = %config.layout.display(), ?recovery, "layout opened");
            return Ok(Arc::new(OciLayout::open(&config.layout, Arc::new(store))?));
        }
    };
    if found.verifies {
        tracing::info!("image verifiers are configured: images are held ready, not recorded");
    }
    let staging = containerd::staging(&config.containerd, config.staging.clone()).await?;
    let (store, recovery) = Store::open(&staging, clock.now())?;
    tracing::info!(staging = %staging.display(), ?recovery, "staging opened");
    let options = containerd::Options {
        socket: config.containerd.clone(),
        staging,
        sync: config.sync,
        records: !found.verifies,
        pins: config.pin,
        blobs: config.blobs,
        clock: clock.clone(),
    };
    Ok(Arc::new(Containerd::open(options, Arc::new(store)).await?))
}

/// A runtime that pulls images itself.
async fn pulling(
    config: &config::Agent,
    clock: &Arc<dyn Clock>,
    (socket, why): (PathBuf, String),
) -> anyhow::Result<Arc<dyn ContainerRuntime>> {
    let state = config.state.clone();
    let named = || format!("agent.state: {}", state.display());
    let (store, recovery) = Store::open(&state, clock.now()).with_context(named)?;
    tracing::info!(socket = %socket.display(), state = %state.display(), why, ?recovery,
        "the runtime pulls images itself, whole, one at a time; private ones are left to the kubelet");
    if config.blobs {
        tracing::warn!(
            "agent.blobs does nothing here: what the runtime pulls it keeps as it likes"
        );
    }
    if config.bandwidth_limit.is_some() {
        tracing::warn!("agent.bandwidth_limit is not kept: CRI has no way to say it");
    }
    let options = cri::Options {
        socket,
        state,
        clock: clock.clone(),
    };
    Ok(Arc::new(CriRuntime::open(options, Arc::new(store)).await?))
}
