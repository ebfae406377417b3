//! Which way images go on this node, and why no better one is open.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::{self, RuntimeKind};
use crate::runtime::containerd::check::{Found, Obstacle, look};

/// Where CRI-O listens unless it is told otherwise (`crio.conf`, `listen`).
const CRIO: &str = "/run/crio/crio.sock";

/// A way.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    /// Layers are unpacked beside containerd's own.
    Containerd(Box<Found>),
    /// The runtime on this socket pulls images itself.
    Cri {
        /// socket
        socket: PathBuf,
        /// why not the better way
        why: String,
    },
    /// Images go into a directory.
    Layout,
    /// None: the node is left alone, for this reason.
    Nothing(Box<Found>, Obstacle),
}

/// Looks at what is configured, and what is there.
pub(super) async fn choose(config: &config::Agent) -> anyhow::Result<Choice> {
    let containerd = &config.containerd;
    match config.runtime {
        RuntimeKind::Layout => Ok(Choice::Layout),
        RuntimeKind::Containerd => Ok(weigh(seen(containerd).await?, config)),
        RuntimeKind::Cri => {
            let socket = config.cri.clone().unwrap_or_else(|| first(containerd));
            // What is no containerd has no lazy snapshotter that it could tell of.
            if let Ok(found) = look(&socket).await
                && let Some(obstacle) = found.obstacle().filter(|o| !o.permits_pulls())
            {
                return Ok(Choice::Nothing(Box::new(found), obstacle));
            }
            let why = "agent.runtime says so".to_owned();
            Ok(Choice::Cri { socket, why })
        }
        RuntimeKind::Auto if containerd.exists() => {
            Ok(match weigh(seen(containerd).await?, config) {
                Choice::Nothing(_, obstacle) if obstacle.permits_pulls() => Choice::Cri {
                    socket: config.cri.clone().unwrap_or_else(|| containerd.clone()),
                    why: obstacle.to_string(),
                },
                other => other,
            })
        }
        RuntimeKind::Auto => {
            let socket = config.cri.clone().unwrap_or_else(|| first(containerd));
            if !socket.exists() {
                return Ok(Choice::Layout);
            }
            let why = format!("there is no {}", containerd.display());
            Ok(Choice::Cri { socket, why })
        }
    }
}

/// containerd's socket, or CRI-O's where only that is there.
fn first(containerd: &Path) -> PathBuf {
    let crio = Path::new(CRIO);
    if !containerd.exists() && crio.exists() {
        return crio.to_owned();
    }
    containerd.to_owned()
}

async fn seen(socket: &Path) -> anyhow::Result<Found> {
    let found = look(socket).await;
    found.with_context(|| format!("nothing to deliver to at {}", socket.display()))
}

fn weigh(found: Found, config: &config::Agent) -> Choice {
    let apart = || found.is_apart(config.staging.as_deref());
    let obstacle = found.obstacle().or_else(apart);
    let found = Box::new(found);
    match obstacle {
        Some(obstacle) => Choice::Nothing(found, obstacle),
        None => Choice::Containerd(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    async fn chosen(keys: &[(&'static str, &str)]) -> anyhow::Result<Choice> {
        let layers = Layers::default().with_default("agent.node_name", "here");
        let layers = keys.iter().fold(layers, |layers, (key, value)| {
            layers.with_flag(key, "--test", (*value).to_owned())
        });
        choose(&config::agent(&layers).unwrap().1).await
    }

    #[tokio::test]
    async fn a_socket_of_cri_is_taken_where_there_is_no_containerd() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (none, cri) = (path("none.sock"), path("cri.sock"));
        let keys = [("agent.containerd", none.as_str()), ("agent.cri", &cri)];
        assert_eq!(chosen(&keys).await.unwrap(), Choice::Layout);
        std::fs::write(&cri, "").unwrap();
        let Choice::Cri { socket, why } = chosen(&keys).await.unwrap() else {
            panic!("no way but CRI");
        };
        assert!(
            socket.ends_with("cri.sock") && why.contains("none.sock"),
            "{why}"
        );
        let keys = [keys[0], keys[1], ("agent.runtime", "layout")];
        assert_eq!(chosen(&keys).await.unwrap(), Choice::Layout);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.sock").display().to_string();
        std::fs::write(&path, "").unwrap();
        for runtime in ["auto", "containerd"] {
            let keys = [
                ("agent.containerd", path.as_str()),
                ("agent.runtime", runtime),
            ];
            let error = chosen(&keys).await.unwrap_err();
            assert!(format!("{error:#}").contains("dead.sock"), "{error:#}");
        }
    }
}
