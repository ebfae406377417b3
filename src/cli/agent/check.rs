//! `forelay agent --check`: what is on this node, and what an agent may do here, in words.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::agent::mirror::{self, Outlook};
use crate::cli::agent::check::pulls::Pulls;
use crate::cli::agent::choice::{Choice, choose};
use crate::cli::agent::mirror::folders;
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
    /// Folders of `hosts.toml` files.
    config_paths: Option<Vec<PathBuf>>,
    /// The file that leads to the mirror, where there can be one.
    mirror: Option<PathBuf>,
    /// Why there is none.
    mirror_obstacle: Option<String>,
    /// Directories of registries that pass the mirror by.
    mirror_apart: Vec<PathBuf>,
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
    let outlook = outlook(&config.mirror, &found);
    let report = report(socket, &found, obstacle, outlook);
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

/// What a mirror would find here.
fn outlook(config: &config::Mirror, found: &Found) -> Outlook {
    if !config.enabled {
        return Outlook {
            obstacle: Some("agent.mirror.enabled or agent.origin_fallback is false".to_owned()),
            ..Outlook::default()
        };
    }
    mirror::look(&folders(config.config_path.as_deref(), found))
}

fn report(socket: &Path, found: &Found, obstacle: Option<Obstacle>, outlook: Outlook) -> Report {
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
        config_paths: found.config_paths.clone(),
        mirror: outlook.file,
        mirror_obstacle: outlook.obstacle,
        mirror_apart: outlook.apart,
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
        ("hosts.toml in", folders_of(report)),
        ("mirror", mirror_of(report)),
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

fn folders_of(report: &Report) -> String {
    match report.config_paths.as_deref() {
        None => "not told".to_owned(),
        Some([]) => "none is configured".to_owned(),
        Some(paths) => listed(paths),
    }
}

/// Whether pulls that ask again come to the agent first.
fn mirror_of(report: &Report) -> String {
    let apart = match report.mirror_apart.as_slice() {
        [] => String::new(),
        apart => format!("; passed by: {}", listed(apart)),
    };
    match (&report.mirror, &report.mirror_obstacle) {
        (Some(file), _) => format!("can be, by {}{apart}", file.display()),
        (None, Some(obstacle)) => format!("none: {obstacle}{apart}"),
        (None, None) => "none".to_owned(),
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
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
            config_paths: None,
            discards_layers: None,
            verifies: false,
        }
    }

    #[test]
    fn a_plain_node_gets_records() {
        let report = report(Path::new("/c.sock"), &found(), None, Outlook::default());
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
            let outlook = Outlook::default();
            let report = report(Path::new("/c.sock"), &found, found.obstacle(), outlook);
            assert_eq!(report.may, may);
            assert!(words(&report).contains(word), "{}", words(&report));
        }
    }

    #[test]
    fn a_mirror_is_told_with_who_passes_it_by_or_what_stands_in_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        std::fs::create_dir(root.join("quay.io")).unwrap();
        let config = config::Mirror {
            enabled: true,
            listen: ([127, 0, 0, 1], 1).into(),
            config_path: Some(root.clone()),
            fresh: std::time::Duration::ZERO,
        };
        let said = |config: &config::Mirror, found: &Found| {
            words(&report(
                Path::new("/c.sock"),
                found,
                None,
                outlook(config, found),
            ))
        };
        let told = said(&config, &found());
        let file = root.join("_default/hosts.toml");
        let expected = format!(
            "can be, by {}; passed by: {}",
            file.display(),
            root.join("quay.io").display()
        );
        assert!(told.contains(&expected), "{told}");
        std::fs::create_dir(root.join("_default")).unwrap();
        std::fs::write(&file, "theirs").unwrap();
        assert!(said(&config, &found()).contains("is somebody else's"));
        let unconfigured = config::Mirror {
            config_path: None,
            ..config
        };
        let none = Found {
            config_paths: Some(Vec::new()),
            ..found()
        };
        assert!(said(&unconfigured, &none).contains("no config_path"));
    }
}
