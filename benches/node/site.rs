//! A new node: fresh disk, fresh daemon; and the two ways in which an image comes onto it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use forelay::runtime::containerd::Client;
use forelay::runtime::cri::Cri;
use serde_json::{Value, json};

use crate::daemon::{Containerd, Options};
use crate::disk::Disk;
use crate::images::Image;
use crate::link::Net;
use crate::process::{Spent, cpu_s, wait};
use crate::{Form, registry};

/// The registry in every image's name; where it is, daemon and agent are told.
pub const HOST: &str = "forelay.test";

/// The largest image over the slowest link takes a minute.
const PATIENCE: Duration = Duration::from_mins(10);

/// Debian's registry over what `images` made.
pub struct Registry {
    child: Child,
    pub port: u16,
}

/// Everything that a run needs anew. The daemon ends before its disk goes.
pub struct Site {
    pub daemon: Containerd,
    disk: Disk,
    address: String,
    network: Option<PathBuf>,
}

/// What one delivery took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall_s: f64,
    /// Of everybody but the registry.
    pub cpu_s: f64,
    /// The agent's.
    pub peak_mib: f64,
}

impl Registry {
    pub fn over(root: &Path) -> Self {
        let (child, address) = registry::serve(root, ([0; 4], 0).into());
        Self {
            child,
            port: address.port(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    pub async fn fresh(registry: &Registry, net: Option<&Net>) -> anyhow::Result<Self> {
        let address = match net {
            None => format!("127.0.0.1:{}", registry.port),
            Some(_) => Net::address(registry.port),
        };
        let network = net.map(|net| PathBuf::from(net.path()));
        let disk = Disk::fresh()?;
        let options = Options {
            network: network.clone(),
            ..Options::default()
        };
        let daemon = Containerd::start_in(&disk.path(), &options).await;
        daemon.mirror(HOST, &address);
        Ok(Self {
            daemon,
            disk,
            address,
            network,
        })
    }

    pub async fn cri(&self) -> anyhow::Result<Cri> {
        Ok(Cri::connect(&self.daemon.socket()).await?)
    }

    /// As a kubelet asks for it.
    pub async fn pull(&self, image: &Image, form: Form) -> anyhow::Result<Cost> {
        let cri = self.cri().await?;
        let before = cpu_s(self.daemon.pid())?;
        let began = Instant::now();
        cri.pull(&name(image, form), None, PATIENCE).await?;
        Ok(Cost {
            wall_s: began.elapsed().as_secs_f64(),
            cpu_s: cpu_s(self.daemon.pid())? - before,
            peak_mib: 0.0,
        })
    }

    /// By an agent, as a process of its own.
    pub async fn deliver(&self, image: &Image, form: Form) -> anyhow::Result<Cost> {
        self.deliver_in(image, form, &[]).await
    }

    /// The same, until the layers' blobs are in the content store, too.
    pub async fn deliver_with_blobs(&self, image: &Image, form: Form) -> anyhow::Result<Cost> {
        let words = ["env", "FORELAY_AGENT__BLOBS=true"].map(str::to_owned);
        let cost = self.deliver_in(image, form, &words).await?;
        let there = Client::connect(&self.daemon.socket())
            .await?
            .blobs(&[])
            .await?;
        for layer in image.digests(form) {
            ensure!(
                there.iter().any(|info| info.digest == layer),
                "{layer} is not in the content store: {}",
                self.said()
            );
        }
        Ok(cost)
    }

    /// The same behind words that begin a command.
    pub async fn deliver_in(
        &self,
        image: &Image,
        form: Form,
        words: &[String],
    ) -> anyhow::Result<Cost> {
        let plan = json!({"images": [name(image, form)]});
        let before = cpu_s(self.daemon.pid())?;
        let began = Instant::now();
        let child = self.agent(&plan, words)?;
        let spent = ended(child, began).await?;
        let cpu_s = spent.cpu_s + cpu_s(self.daemon.pid())? - before;
        ensure!(
            spent.status.success(),
            "forelay-agent: {}: {}",
            spent.status,
            self.said()
        );
        let there = self.cri().await?.image(&name(image, form)).await?;
        ensure!(there.is_some(), "CRI does not know what was delivered");
        Ok(Cost {
            wall_s: spent.wall_s,
            cpu_s,
            peak_mib: spent.peak_mib,
        })
    }

    /// A started agent that carries out a plan.
    pub fn agent(&self, plan: &Value, words: &[String]) -> anyhow::Result<Child> {
        let file = self.disk.path().join("plan.json");
        fs::write(&file, plan.to_string())?;
        let mut command: Vec<String> = words.to_vec();
        if let Some(network) = &self.network {
            command.extend(["nsenter".into(), format!("--net={}", network.display())]);
        }
        command.push(program());
        let (program, rest) = command.split_first().context("a program")?;
        let said = fs::File::create(self.disk.path().join("agent.log"))?;
        let origin = format!("{HOST}=http://{}", self.address);
        Command::new(program)
            .args(rest)
            .args(["--once", "--output", "json", "--plan"])
            .arg(&file)
            .arg("--containerd")
            .arg(self.daemon.socket())
            .env("FORELAY_AGENT__ORIGINS", origin)
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("forelay-agent")
    }

    /// What the agent said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.disk.path().join("agent.log")).unwrap_or_default()
    }

    /// Where the fresh file system is.
    pub fn disk(&self) -> PathBuf {
        self.disk.path()
    }
}

/// The agent's program: what `make agent` built where it is named, cargo's otherwise.
pub fn program() -> String {
    let named = std::env::var("FORELAY_BENCH_AGENT");
    named.unwrap_or_else(|_| env!("CARGO_BIN_EXE_forelay-agent").to_owned())
}

/// Waits on a thread of its own: daemon and events go on.
pub async fn ended(child: Child, began: Instant) -> anyhow::Result<Spent> {
    tokio::task::spawn_blocking(move || wait(child, began)).await?
}

/// A tag for each form.
pub fn name(image: &Image, form: Form) -> String {
    format!("{HOST}/{}:{}", image.name, form.word())
}
