//! The program itself, by hand, on a node where the runtime has to pull.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::daemon::{Containerd, Options};
use crate::image::Form;
use crate::node::{NAME, named};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::Upstream;
use crate::small::Small;

/// `forelay agent` with these arguments and variables, and nothing of this process's.
fn agent(command: &mut Command, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command.args(["agent"]).args(arguments);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
    command.envs(variables.iter().copied()).output().unwrap()
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forelay"))
}

/// The program where something else is mounted over `hidden`, as in a pod that has the socket alone.
fn blindfold(hidden: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none \"$1\" && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(hidden).arg(env!("CARGO_BIN_EXE_forelay"));
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A daemon on a disk of its own, its registry, and where its socket and an agent's state are.
async fn around() -> (Upstream, On, PathBuf, PathBuf) {
    let origin = Upstream::start();
    busybox(Form::Gzip, "web")
        .push(&origin, "team/web", "1")
        .await;
    // How full this machine's disk is must not matter.
    let disk = Small::mount("1g");
    let daemon = Containerd::start_in(&disk.path, &Options::default()).await;
    daemon.mirror(NAME, &origin.address.to_string());
    let (socket, state) = (daemon.socket(), daemon.stage().join("state"));
    let on = On {
        daemon,
        _disk: disk,
    };
    (origin, on, socket, state)
}

/// The daemon ends before its disk goes.
struct On {
    daemon: Containerd,
    _disk: Small,
}

#[tokio::test]
async fn a_plan_is_carried_out_over_cri_when_the_configuration_says_so() {
    let (origin, on, socket, state) = around().await;
    let daemon = &on.daemon;
    let plan = daemon.stage().join("plan.yaml");
    std::fs::write(&plan, format!("images: [{}]", named("team/web:1"))).unwrap();
    let origins = format!("{NAME}=http://{}", origin.address);
    let variables = [
        ("FORELAY_AGENT__RUNTIME", "cri"),
        ("FORELAY_AGENT__STATE", text(&state)),
        ("FORELAY_AGENT__ORIGINS", &origins),
    ];
    let there = ["--containerd", text(&socket)];
    let arguments = ["--once", "--plan", text(&plan), there[0], there[1]];
    let (code, words) = said(&agent(&mut binary(), &arguments, &variables));
    assert_eq!(code, Some(0), "{words}");
    for part in ["Present", "by the runtime itself", "nobody asks again"] {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
    let mut cri = Cri::new(daemon.channel().await);
    assert!(cri.image(&named("team/web:1")).await.is_some());
    let checked = agent(&mut binary(), &["--check", there[0], there[1]], &variables);
    let (code, words) = said(&checked);
    assert_eq!(code, Some(0), "{words}");
    for part in [
        "pull images itself",
        "agent.runtime says so",
        "private images",
    ] {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
}

#[tokio::test]
async fn where_the_snapshots_are_not_seen_the_runtime_is_asked_to_pull() {
    let (_origin, on, socket, state) = around().await;
    let daemon = &on.daemon;
    let root = daemon.client().await.snapshotter_root().await.unwrap();
    let root = root.parent().unwrap();
    let variables = [
        ("FORELAY_AGENT__CONTAINERD", text(&socket)),
        ("FORELAY_AGENT__STATE", text(&state)),
    ];
    let (code, words) = said(&agent(&mut blindfold(root), &["--check"], &variables));
    assert_eq!(code, Some(0), "{words}");
    for part in ["pull images itself", "not mounted here"] {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
    // Seen, the better way is open, and how much may be added is told.
    let (code, words) = said(&agent(&mut binary(), &["--check"], &variables));
    assert_eq!(code, Some(0), "{words}");
    for part in ["delivers and records", "may be added"] {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
    // Whoever insists on it is told that it is not.
    let insists = [variables[0], ("FORELAY_AGENT__RUNTIME", "containerd")];
    let (code, words) = said(&agent(&mut blindfold(root), &["--check"], &insists));
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("agent.runtime"), "{words}");
}

#[tokio::test]
async fn what_is_no_plan_is_refused_before_the_node_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, socket) = (
        folder.path().join("plan.yaml"),
        folder.path().join("none.sock"),
    );
    std::fs::write(&plan, "images: []").unwrap();
    let arguments = [
        "--once",
        "--plan",
        text(&plan),
        "--containerd",
        text(&socket),
    ];
    let (code, words) = said(&agent(&mut binary(), &arguments, &[]));
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("`images` is empty"), "{words}");
}
