//! The node's mirror beside its agent, and where the file goes that leads containerd there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::agent::mirror::{self, Book, Mirror};
use crate::config;
use crate::registry::Registry;
use crate::runtime::containerd::check::{Found, look};
use crate::telemetry::metric::Metrics;

/// Where containerd from 2.2 on looks when nobody says otherwise (`plugins/cri/images`); 2.0 and 2.1 look
/// nowhere then, and a file more is read by nobody.
const USUAL: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// What has to be known of a node.
pub(super) struct Place {
    pub(super) socket: PathBuf,
    /// As configured.
    pub(super) config_path: Option<PathBuf>,
}

/// A mirror that answers from what the agent of these options will know.
pub(super) fn prepare(
    config: &config::Mirror,
    agent: &mut agent::Options,
    origins: Arc<Registry>,
    metrics: &mut Metrics,
) -> Mirror {
    let book = Book::new(config.fresh, agent.clock.clone());
    agent.book = Some(book.clone());
    let options = mirror::Options {
        listen: config.listen,
        book,
        runtime: agent.runtime.clone(),
        source: agent.source.clone(),
        origins,
        clock: agent.clock.clone(),
    };
    Mirror::new(options, metrics)
}

/// Folders of `hosts.toml` files, the first one that has a registry's being used.
pub(super) fn folders(configured: Option<&Path>, found: &Found) -> Vec<PathBuf> {
    match (configured, &found.config_paths) {
        (Some(path), _) => vec![path.to_owned()],
        (None, Some(told)) => told.clone(),
        (None, None) => USUAL.map(PathBuf::from).to_vec(),
    }
}

/// Runs the mirror until `stop`; without one, takes away what led to an earlier one.
pub(super) async fn run(mirror: Option<Mirror>, place: Place, stop: CancellationToken) {
    let found = look(&place.socket).await;
    let folders = match (&place.config_path, found) {
        (Some(path), _) => vec![path.clone()],
        (None, Ok(found)) => folders(None, &found),
        // Ours are told from others' by what is in them.
        (None, Err(_)) if mirror.is_none() => USUAL.map(PathBuf::from).to_vec(),
        (None, Err(error)) => {
            tracing::warn!(%error, "no mirror: containerd does not say where it looks");
            return;
        }
    };
    match mirror {
        Some(mirror) => mirror.run(folders, stop).await,
        None => mirror::sweep(&folders),
    }
}
