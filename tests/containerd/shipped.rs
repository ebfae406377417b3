//! The agent as the manifests start it: their capabilities are enough, and none is to spare.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};
use serde_json::json;
use tar::{EntryType, Header};

use crate::equal::Reference;
use crate::image::{Form, Image, Layer, Tar};
use crate::node::{NAME, Node, named};
use crate::registry::Upstream;

/// It gives way to others by its priority, and does without where it may not take that back.
const CONVENIENT: &str = "SYS_NICE";

fn pod() -> PodSpec {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/kustomize/base/agent.yaml"
    );
    let text = std::fs::read_to_string(file).unwrap();
    let set: DaemonSet = serde_saphyr::from_str(&text).unwrap();
    set.spec.template.spec.unwrap()
}

fn capabilities() -> Vec<String> {
    let context = pod().containers[0].security_context.clone().unwrap();
    let capabilities = context.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    capabilities.add.unwrap()
}

/// An entry of another user's.
fn of_user(tar: &mut Tar, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(1_000);
    header.set_gid(1_000);
    header.set_mtime(1_600_000_000);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).unwrap();
}

/// Everything that only root's rights make: owners, set-group-ID, devices, capabilities of files, removed files
/// and hidden directories.
fn demanding() -> Image {
    // cap_net_raw+ep, version 2 (linux/capability.h).
    let raw = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let base = Layer::new(Form::Gzip, |tar| {
        of_user(tar, "data/", EntryType::Directory, 0o700, b"");
        of_user(tar, "data/a", EntryType::Regular, 0o600, b"a");
        of_user(tar, "data/tool", EntryType::Regular, 0o2755, b"tool");
        of_user(tar, "data/old/", EntryType::Directory, 0o700, b"");
        of_user(tar, "data/old/x", EntryType::Regular, 0o600, b"x");
        // /dev/null: marks of removed files alone need no MKNOD (Linux 5.8).
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Char);
        header.set_mode(0o666);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        tar.append_data(&mut header, "null", &b""[..]).unwrap();
        tar.append_pax_extensions([("SCHILY.xattr.security.capability", &raw[..])])
            .unwrap();
        of_user(tar, "data/ping", EntryType::Regular, 0o755, b"ping");
    });
    let top = Layer::new(Form::Gzip, |tar| {
        of_user(tar, "data/", EntryType::Directory, 0o700, b"");
        of_user(tar, "data/.wh.a", EntryType::Regular, 0o600, b"");
        of_user(tar, "data/old/", EntryType::Directory, 0o700, b"");
        of_user(tar, "data/old/.wh..wh..opq", EntryType::Regular, 0o600, b"");
        of_user(tar, "data/old/y", EntryType::Regular, 0o600, b"y");
    });
    Image::new(vec![base, top], &json!({"Cmd": ["/data/tool"]}))
}

/// What is wrong with what an agent with these capabilities brings: why a layer did not come, or every difference.
async fn bring(origin: &Upstream, image: &Image, with: &[String]) -> Vec<String> {
    let node = Node::start(format!("http://{}", origin.address)).await;
    let stage = node.daemon.stage();
    let (plan, log) = (stage.join("plan.yaml"), stage.join("agent.log"));
    std::fs::write(&plan, format!("images: [{}]", named("team/web:1"))).unwrap();
    let names = with.iter().map(|name| format!(",+{}", name.to_lowercase()));
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{}", names.collect::<String>()));
    command.arg(env!("CARGO_BIN_EXE_forelay"));
    command.args(["--log-level", "warn", "agent", "--once", "--plan"]);
    command
        .arg(&plan)
        .arg("--containerd")
        .arg(node.daemon.socket());
    let at = format!("{NAME}=http://{}", origin.address);
    command.env("FORELAY_AGENT__ORIGINS", at);
    let said = File::create(&log).unwrap();
    command.stdout(said.try_clone().unwrap()).stderr(said);
    let mut agent = Killed(command.spawn().unwrap());
    let code = loop {
        if let Some(status) = agent.0.try_wait().unwrap() {
            break status.code();
        }
        let words = std::fs::read_to_string(&log).unwrap();
        if let Some(why) = words.lines().find(|line| line.contains("did not come")) {
            return vec![why.to_owned()];
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let words = std::fs::read_to_string(&log).unwrap();
    assert_eq!(code, Some(0), "{words}");
    assert!(!words.contains("by the runtime itself"), "{words}");
    let reference = Reference::pull(origin, image).await;
    let client = node.daemon.client().await;
    let mut found = reference.differences(&client, image).await;
    // The mark of a removed file is as old as its unpacking.
    found.retain(|line| !line.starts_with("data/a: time"));
    found
}

/// Ended when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_capabilities_of_the_manifest_are_enough_and_none_is_to_spare() {
    let (origin, image) = (Upstream::start(), demanding());
    image.push(&origin, "team/web", "1").await;
    let all = capabilities();
    assert_eq!(bring(&origin, &image, &all).await, Vec::<String>::new());
    for one in all.iter().filter(|name| *name != CONVENIENT) {
        let rest: Vec<String> = all.iter().filter(|name| *name != one).cloned().collect();
        let wrong = bring(&origin, &image, &rest).await;
        assert!(!wrong.is_empty(), "{one} is to spare");
    }
}

#[test]
fn the_manifest_shows_the_agent_what_it_looks_for_where_the_node_has_it() {
    let pod = pod();
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let volumes = pod.volumes.unwrap();
    let shown = |path: &Path| {
        let holds = |m: &&VolumeMount| path.starts_with(&m.mount_path);
        let mount = mounts.iter().find(holds);
        let mount = mount.unwrap_or_else(|| panic!("{}", path.display()));
        let volume = volumes.iter().find(|v| v.name == mount.name).unwrap();
        let host = volume.host_path.clone().unwrap().path;
        assert_eq!(host, mount.mount_path, "the daemon tells paths of the node");
    };
    let defaults = forelay::config::raw::RawAgent::default();
    // The snapshots and the staging beside them, on one mount (rename(2): EXDEV).
    for path in [
        &defaults.containerd,
        Path::new("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"),
        Path::new("/etc/containerd/certs.d"),
        Path::new(forelay::runtime::containerd::check::VERIFIERS),
        &defaults.state,
        &defaults.layout,
    ] {
        shown(path);
    }
}
