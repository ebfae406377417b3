//! What an agent holds: while it unpacks, under a limit, and idle; and how large its program is.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::Form;
use crate::disk::run;
use crate::images::Image;
use crate::process::memory_mib;
use crate::site::{Cost, Registry, Site, program};

/// Half of what the manifests give (`deploy/kustomize/base/agent.yaml`).
pub const LIMIT_MIB: u64 = 256;

/// A memory cgroup, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Of version 1 or 2, whichever has the memory controller.
    fn new(mib: u64) -> anyhow::Result<Self> {
        let old = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = if old.exists() {
            (old, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let group = Self(root.join(format!("forelay-bench-{}", std::process::id())));
        fs::create_dir(&group.0).with_context(|| group.0.display().to_string())?;
        let limit = group.0.join(limit);
        fs::write(&limit, (mib << 20).to_string()).with_context(|| limit.display().to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A delivery inside a cgroup, where the pages of the files that are written count too.
pub async fn limited(registry: &Registry, image: &Image) -> anyhow::Result<Cost> {
    let site = Site::fresh(registry, None).await?;
    let group = Group::new(LIMIT_MIB)?;
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec \"$@\"",
        group.0.display()
    );
    let words = ["sh", "-c", &enter, "sh"].map(str::to_owned);
    site.deliver_in(image, Form::Gzip, &words).await
}

/// Resident memory of the agent 5 s after its start, MiB, with an API server that takes its
/// connection and says nothing: without a plan there is nothing to do.
pub async fn idle(registry: &Registry) -> anyhow::Result<f64> {
    let site = Site::fresh(registry, None).await?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let server = format!("http://{}", silent.local_addr()?);
    let kubeconfig = site.disk().join("kubeconfig");
    let mut file = fs::File::create(&kubeconfig)?;
    write!(
        file,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: '{server}'}}\n\
         users:\n- name: c\n  user: {{}}\ncontexts:\n- name: c\n  context: {{cluster: c, user: c}}\n"
    )?;
    let log = fs::File::create(site.disk().join("idle.log"))?;
    let mut child = Command::new(program())
        .arg("--containerd")
        .arg(site.daemon.socket())
        .env("FORELAY_KUBERNETES__KUBECONFIG", &kubeconfig)
        .env("FORELAY_AGENT__LISTEN", "127.0.0.1:0")
        .env("NODE_NAME", "this-node")
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("forelay-agent")?;
    thread::sleep(Duration::from_secs(5));
    let resident = memory_mib(child.id(), "VmRSS");
    let _ = child.kill();
    child.wait()?;
    let said = || fs::read_to_string(site.disk().join("idle.log")).unwrap_or_default();
    resident.with_context(|| format!("forelay-agent ended: {}", said()))
}

/// Size of the program without symbols, MiB.
pub fn binary() -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let stripped = folder.path().join("forelay");
    let whole = program();
    run(&["strip", "-o"], &[&stripped, Path::new(&whole)])?;
    Ok(fs::metadata(&stripped)?.len() as f64 / f64::from(1 << 20))
}
