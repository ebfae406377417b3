//! A containerd of one's own, in a temporary folder, ended with all that it started.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use forelay::runtime::containerd::Client;
use forelay::runtime::socket;
use forelay::runtime::wire::cri::VersionRequest;
use forelay::runtime::wire::cri::runtime_service_client::RuntimeServiceClient;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Looks whether it is ready, and the time between two of them: a start takes 0.3 s on an idle machine.
const LOOKS: u32 = 3_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What of its configuration a test may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of sandboxes: it has to be there, or to be had.
    pub sandbox: String,
    /// Whether layers' blobs go once they are unpacked.
    pub discard_unpacked_layers: bool,
    /// A network namespace to be in, as a file.
    pub network: Option<PathBuf>,
}

/// The daemon; when dropped it is killed with its containers, and what it mounted is unmounted.
pub struct Containerd {
    folder: TempDir,
    child: Child,
    network: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sandbox: "forelay.test/pause:1".to_owned(),
            discard_unpacked_layers: false,
            network: None,
        }
    }
}

impl Containerd {
    /// Starts one that keeps its files below the system's temporary folder.
    pub async fn start() -> Self {
        Self::start_in(&std::env::temp_dir(), &Options::default()).await
    }

    /// Starts one that keeps its files on the file system of `parent`.
    pub async fn start_in(parent: &Path, options: &Options) -> Self {
        // The path of a socket has 107 bytes at most.
        let folder = tempfile::Builder::new()
            .prefix("ctd")
            .tempdir_in(parent)
            .unwrap();
        fs::create_dir(folder.path().join("certs.d")).unwrap();
        fs::create_dir(folder.path().join("stage")).unwrap();
        fs::write(
            folder.path().join("config.toml"),
            config(folder.path(), options),
        )
        .unwrap();
        let network = options.network.clone();
        let child = spawn(folder.path(), network.as_deref());
        let started = Self {
            folder,
            child,
            network,
        };
        started.ready().await;
        started
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    /// A folder on the same mount as the snapshotter's.
    pub fn stage(&self) -> PathBuf {
        self.folder.path().join("stage")
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    /// For CRI, which containerd serves on the same socket.
    pub async fn channel(&self) -> Channel {
        socket::connect(&self.socket()).await.unwrap()
    }

    /// Where it reads `hosts.toml` files.
    pub fn certificates(&self) -> PathBuf {
        self.folder.path().join("certs.d")
    }

    /// Lets images of `host` be fetched from `address` over plain HTTP; read at every pull.
    pub fn mirror(&self, host: &str, address: &str) {
        let folder = self.certificates().join(host);
        fs::create_dir_all(&folder).unwrap();
        let hosts = format!(
            "server = \"http://{address}\"\n\n\
             [host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(folder.join("hosts.toml"), hosts).unwrap();
    }

    /// Ends the daemon in the middle of whatever it does; its containers go on.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on what it left.
    pub async fn restart(&mut self) {
        self.kill9();
        self.child = spawn(self.folder.path(), self.network.as_deref());
        self.ready().await;
    }

    /// Of the daemon itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn ready(&self) {
        for _ in 0..LOOKS {
            if let Ok(channel) = socket::connect(&self.socket()).await {
                let mut cri = RuntimeServiceClient::new(channel);
                if cri.version(VersionRequest::default()).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        panic!(
            "containerd, process {}, does not start:\n{}",
            self.pid(),
            self.log()
        );
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.kill9();
        for pid in descendants(&shims(&self.socket())) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(80)..];
            let _ = writeln!(
                std::io::stderr(),
                "containerd said last:\n{}",
                last.join("\n")
            );
        }
        for mount in mounts_below(self.folder.path()) {
            let _ = unmount(&mount, UnmountFlags::DETACH);
        }
    }
}

fn spawn(folder: &Path, network: Option<&Path>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let mut command = match network {
        None => Command::new("containerd"),
        // It becomes the daemon: there is no process between.
        Some(network) => {
            let mut command = Command::new("nsenter");
            let into = format!("--net={}", network.display());
            command.arg(into).arg("containerd");
            command
        }
    };
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(proxy);
    }
    command
        .arg("--config")
        .arg(folder.join("config.toml"))
        // Layers are inflated by Go itself, whichever helpers this machine has.
        .env("CONTAINERD_DISABLE_PIGZ", "1")
        .env("CONTAINERD_DISABLE_IGZIP", "1")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("containerd: {e}; apt-get install containerd"))
}

fn config(folder: &Path, options: &Options) -> String {
    let folder = folder.display();
    let Options {
        sandbox,
        discard_unpacked_layers,
        network: _,
    } = options;
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = {discard_unpacked_layers}
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/certs.d"
"#
    )
}

/// Shims of the daemon on this socket: they outlive it on purpose.
fn shims(socket: &Path) -> BTreeSet<i32> {
    let socket = socket.to_str().unwrap();
    let ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == socket.as_bytes())
    };
    processes().into_iter().filter(ours).collect()
}

/// These processes and all that descend from them.
fn descendants(of: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut all = of.clone();
    let processes = processes();
    loop {
        let before = all.len();
        let below = processes
            .iter()
            .filter(|pid| parent(**pid).is_some_and(|p| all.contains(&p)));
        let below: Vec<i32> = below.copied().collect();
        all.extend(below);
        if all.len() == before {
            return all;
        }
    }
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state parent ..; the name may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Where something is mounted below `folder`, deepest first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<PathBuf> = points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(folder) && point != folder)
        .collect();
    points.sort();
    points.reverse();
    points
}
