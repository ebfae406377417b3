//! `forelay cache`: the pull-through cache as a process.

use std::sync::Arc;

use crate::cache::{Cache, Options};
use crate::cli::{Context, Exit, serve};
use crate::config;
use crate::registry;
use crate::telemetry::admin::Gates;
use crate::telemetry::clock::SystemClock;
use crate::telemetry::metric::Metrics;

/// Serve layers to nodes, fetching each from its registry once
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Serves until told to end.
pub async fn run(_: Args, context: &Context) -> anyhow::Result<Exit> {
    let (common, cache) = config::cache(&context.layers)?;
    context.begin(&common)?;
    let mut metrics = Metrics::new("cache");
    let gates = Gates::default();
    let options = Options {
        quota: cache.max_bytes,
        client: registry::Options {
            idle_timeout: cache.request_timeout,
            ..registry::Options::default()
        },
        ..Options::new(cache.directory, cache.upstreams, Arc::new(SystemClock))
    };
    let listener = serve::bind(cache.listen).await?;
    let store = gates.gate("store");
    let server = Cache::open(options, &mut metrics)?;
    store.open();
    tracing::info!(address = %listener.local_addr()?, "cache");
    serve::until_told(
        &common,
        cache.admin_listen,
        (metrics, gates),
        |stop| async move { Ok(server.serve(listener, stop).await?) },
    )
    .await
}
