//! `forelay agent --check`: what is on this node, and what an agent may do here, in words.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::agent::check::pulls::Pulls;
use crate::cli::agent::choice::{Choice, choose};
use crate::cli::{Context, Exit, render};
use crate::config;
use crate::domain::quantity::ByteSize;
use crate::runtime::containerd::check::{Found, Obstacle, Space};
use crate::runtime::cri;

mod pulls;

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Report {
    socket: PathBuf,
    containerd: String,
    snapshotter: Option<String>,
    root: Option<PathBuf>,
    bytes: Option<ByteSize>,
    bytes_free: Option<ByteSize>,
    inodes_free: Option<u64>,
    /// Before the kubelet would begin to remove images.
    may_be_added: Option<ByteSize>,
    /// Lazy snapshotters that are started.
    lazy: Vec<&'static str>,
    config_path: Option<PathBuf>,
    image_verifiers: bool,
    /// `record`, `warm`, or `nothing`.
    may: &'static str,
    /// Why no more than that, and what would help.
    because: Vec<String>,
}

/// Looks, and changes nothing: exit code 0 when an agent can deliver here.
pub(super) async fn run(json: bool, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let (_, config) = config::agent(&super::named(context.layers.clone()))?;
    let socket = &config.containerd;
    let (found, obstacle) = match choose(&config).await? {
        Choice::Containerd(found) => (found, None),
        Choice::Nothing(found, obstacle) => (found, Some(obstacle)),
        Choice::Cri { socket, why } => {
            let found = cri::look::look(&socket).await?;
            let pulls = Pulls::new(socket, &found, why);
            if json {
                render::json(&pulls)?;
            } else {
                render::out(&pulls.words())?;
            }
            return Ok(Exit::Ok);
        }
        Choice::Layout => anyhow::bail!(
            "nothing to deliver to at {}: images go into the directory {}; agent.containerd and agent.cri \
             say where a runtime listens",
            socket.display(),
            config.layout.display()
        ),
    };
    let report = report(socket, &found, obstacle);
    if json {
        render::json(&report)?;
    } else {
        render::out(&words(&report))?;
    }
    Ok(match report.may {
        "nothing" => Exit::Failure,
        _ => Exit::Ok,
    })
}

fn report(socket: &Path, found: &Found, obstacle: Option<Obstacle>) -> Report {
    let (may, because) = verdict(found, obstacle);
    let space = |pick: fn(&Space) -> u64| found.space.as_ref().map(pick);
    Report {
        socket: socket.to_owned(),
        containerd: found.version.clone(),
        snapshotter: found.snapshotter.clone(),
        root: found.root.clone(),
        bytes: space(|s| s.bytes).map(ByteSize),
        bytes_free: space(|s| s.bytes_free).map(ByteSize),
        inodes_free: space(|s| s.inodes_free),
        may_be_added: found.space.as_ref().map(Space::may_be_added),
        lazy: found.lazy.iter().map(|lazy| lazy.name).collect(),
        config_path: found.config_path.clone(),
        image_verifiers: found.verifies,
        may,
        because,
    }
}

/// What an agent does here at most, and what keeps it from more.
fn verdict(found: &Found, obstacle: Option<Obstacle>) -> (&'static str, Vec<String>) {
    if let Some(obstacle) = obstacle {
        let mut because = vec![obstacle.to_string()];
        if obstacle.permits_pulls() {
            because.push(
                "agent.runtime = \"auto\" or \"cri\" has the runtime pull images itself".to_owned(),
            );
        }
        return ("nothing", because);
    }
    let mut because = Vec::new();
    if found.verifies {
        because.push(
            "image verifiers judge images before they are used: no record is made past them".into(),
        );
        return ("warm", because);
    }
    ("record", because)
}

fn words(report: &Report) -> String {
    let path = |path: &Option<PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "not told".to_owned(),
    };
    let lazy = match report.lazy.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let does = match report.may {
        "record" => "delivers and records images: pods start without a word to the registry",
        "warm" => "delivers images and holds them: a pod's pull moves no layer",
        _ => "delivers nothing",
    };
    let rows = [
        (
            "containerd",
            format!("{} at {}", report.containerd, report.socket.display()),
        ),
        (
            "snapshotter",
            report
                .snapshotter
                .clone()
                .unwrap_or_else(|| "unknown".into()),
        ),
        ("snapshots in", path(&report.root)),
        (
            "free there",
            free(report.bytes_free, report.bytes, report.inodes_free),
        ),
        ("may be added", added(report.may_be_added)),
        ("hosts.toml in", path(&report.config_path)),
        ("lazy snapshotters", lazy),
        (
            "image verifiers",
            if report.image_verifiers { "yes" } else { "no" }.to_owned(),
        ),
        ("an agent here", does.to_owned()),
    ];
    lines(&rows, &report.because)
}

fn free(free: Option<ByteSize>, all: Option<ByteSize>, inodes: Option<u64>) -> String {
    match (free, all, inodes) {
        (Some(free), Some(all), Some(inodes)) => format!("{free} of {all}, {inodes} inodes"),
        _ => "not seen from here".to_owned(),
    }
}

/// As the agent counts room.
fn added(bytes: Option<ByteSize>) -> String {
    match bytes {
        Some(ByteSize(0)) => {
            "nothing: the kubelet would begin to remove images, or soon".to_owned()
        }
        Some(bytes) => format!("{bytes} before the kubelet begins to remove images"),
        None => "not known: the disk is not seen from here".to_owned(),
    }
}

fn lines(rows: &[(&str, String)], because: &[String]) -> String {
    let rows = rows
        .iter()
        .map(|(name, value)| format!("{name:<18} {value}\n"));
    let because = because
        .iter()
        .map(|reason| format!("{:<18} {reason}\n", ""));
    rows.chain(because).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::containerd::check::Lazy;

    fn found() -> Found {
        Found {
            version: "1.6.20".into(),
            snapshotter: Some("overlayfs".into()),
            root: Some("/r".into()),
            space: Some(Space {
                bytes: 100 << 30,
                bytes_free: 50 << 30,
                inodes: 1_000,
                inodes_free: 900,
            }),
            lazy: Vec::new(),
            config_path: None,
            discards_layers: None,
            verifies: false,
        }
    }

    #[test]
    fn a_plain_node_gets_records() {
        let report = report(Path::new("/c.sock"), &found(), None);
        assert_eq!((report.may, report.because.len()), ("record", 0));
        let words = words(&report);
        assert!(words.contains("50.0 GiB of 100.0 GiB, 900 inodes"));
        assert!(words.contains("33.0 GiB before the kubelet"), "{words}");
    }

    #[test]
    fn whatever_keeps_an_agent_from_records_is_said_with_the_reason() {
        let lazy = Lazy {
            id: "soci".into(),
            name: "SOCI (AWS)",
            in_use: true,
        };
        for (found, may, word) in [
            (
                Found {
                    lazy: vec![lazy],
                    ..found()
                },
                "nothing",
                "SOCI",
            ),
            (
                Found {
                    verifies: true,
                    ..found()
                },
                "warm",
                "verifiers",
            ),
            (
                Found {
                    space: None,
                    ..found()
                },
                "nothing",
                "same path",
            ),
            (
                Found {
                    snapshotter: Some("native".into()),
                    ..found()
                },
                "nothing",
                "native",
            ),
        ] {
            let report = report(Path::new("/c.sock"), &found, found.obstacle());
            assert_eq!(report.may, may);
            assert!(words(&report).contains(word), "{}", words(&report));
        }
    }
}
