//! `forelay agent`: the node's agent as a process.

use std::sync::Arc;
use std::time::Duration;

use crate::agent;
use crate::cli::{Context, Exit, kubernetes, serve};
use crate::config;
use crate::engine::node::Limits;
use crate::port::Clock;
use crate::registry::{self, Registry};
use crate::runtime::oci_layout::OciLayout;
use crate::store::Store;
use crate::telemetry::admin::Gates;
use crate::telemetry::clock::SystemClock;
use crate::telemetry::metric::Metrics;

/// Bring this node the layers that its plan names
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Works until told to end.
pub async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (common, agent) = config::agent(&context.layers)?;
    context.begin(&common)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, recovery) = Store::open(&agent.layout, clock.now())?;
    tracing::info!(layout = %agent.layout.display(), ?recovery, "layout opened");
    let runtime = OciLayout::open(&agent.layout, Arc::new(store))?;
    let source = Registry::new(registry::Options {
        mirrors: agent.caches,
        origins: agent.origins,
        use_origins: agent.origin_fallback,
        ..registry::Options::default()
    })?;
    let gates = Gates::default();
    let mut metrics = Metrics::new("agent");
    let options = agent::Options {
        client: kubernetes::client(&agent.kubernetes).await?,
        node: agent.node_name,
        pool: None,
        pool_labels: agent.pool_labels,
        clock,
        runtime: Arc::new(runtime),
        source: Arc::new(source),
        limits: Limits {
            concurrency: agent.concurrency,
            disk: agent.disk_budget,
            linger: agent.linger,
            ..Limits::default()
        },
        bandwidth: agent.bandwidth_limit,
        report_pause: Duration::from_secs(10),
        signals: None,
        gate: Some(gates.gate("plans")),
    };
    let working = agent::Agent::new(options, &mut metrics);
    serve::until_told(&common, agent.listen, (metrics, gates), |stop| async move {
        Ok(Box::pin(working.run(stop)).await?)
    })
    .await
}
