//! What every long-running process has: an admin server, an end on signals, and a deadline for it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::Exit;
use crate::config::Common;
use crate::telemetry::admin::{Admin, Gates};
use crate::telemetry::metric::Metrics;
use crate::telemetry::shutdown;

/// Runs `work` with an admin server beside it until SIGTERM or SIGINT, then gives it the configured
/// deadline to finish. Unready from the first signal on, so that nobody sends new work.
pub async fn until_told<W>(
    common: &Common,
    admin: SocketAddr,
    (metrics, gates): (Metrics, Gates),
    work: impl FnOnce(CancellationToken) -> W,
) -> anyhow::Result<Exit>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let listener = bind(admin).await?;
    tracing::info!(address = %listener.local_addr()?, "admin server");
    let asked = shutdown::on_signals()?;
    let leaving = gates.gate("running");
    leaving.open();
    let closed = CancellationToken::new();
    let serving = tokio::spawn(
        Admin::new(Arc::new(metrics), gates).serve(listener, closed.clone().cancelled_owned()),
    );
    let late = async {
        asked.cancelled().await;
        leaving.close("ending");
        tokio::time::sleep(common.shutdown_deadline).await;
    };
    let exit = tokio::select! {
        outcome = work(asked.clone()) => outcome.map(|()| Exit::Ok),
        () = late => {
            tracing::warn!("the deadline has passed: leaving work undone");
            Ok(Exit::Failure)
        }
    };
    closed.cancel();
    // Admin requests are small; one that hangs is nobody's reason to stay.
    serving.abort();
    exit
}

/// Binds an address, and says which one when that fails.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
