//! What a delivery into a real containerd costs, beside containerd's own pull.
//!
//! `make bench-node`, or `cargo bench --bench node -- WORD...`, as root. Nothing is asserted: a goal that is
//! missed is a line of the table, not a failure. Forms other than gzip are images whose layers are zstd or
//! plain tar in the registry; the peer pulls the gzip one.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures, so it asks the clock itself"
)]

#[expect(dead_code, reason = "the tests' own, which need more of it")]
#[path = "../../tests/containerd/daemon.rs"]
mod daemon;
mod disk;
mod floor;
mod guest;
mod images;
mod kinds;
mod limits;
mod link;
mod memory;
mod process;
#[expect(dead_code, reason = "the tests' own, which need more of it")]
#[path = "../../tests/delivery/registry.rs"]
mod registry;
mod rows;
mod seen;
mod site;
mod stream;
mod words;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use guest::Guest;
use images::{Image, image};
use kinds::{Form, Link};
use limits::limits;
use rows::Row;
use site::Registry;
use words::Words;

/// What is written to `target/bench/node.json`; parts that were not asked for are null.
#[derive(Debug, Serialize)]
struct Found {
    machine: String,
    peer: Peer,
    rows: Vec<Row>,
    guest: Option<Guest>,
    cri_visible_ms: Option<f64>,
    rss_unpack_mib: Option<f64>,
    rss_idle_mib: Option<f64>,
    binary_mib: Option<f64>,
    /// How the numbers are to be read.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Peer {
    name: &'static str,
    version: String,
    inflate: &'static str,
}

fn main() -> anyhow::Result<()> {
    let words = Words::read(std::env::args().skip(1))?;
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the bench mounts and starts daemons: run it as root"
    );
    let began = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    let found = runtime.block_on(measure(&words))?;
    let file = out()?.join("node.json");
    fs::write(&file, serde_json::to_string_pretty(&found)? + "\n")?;
    for row in &found.rows {
        show(&row.row())?;
    }
    for limit in limits(&found) {
        show(&limit.row())?;
    }
    for note in &found.notes {
        show(note)?;
    }
    let took = began.elapsed().as_secs_f64();
    show(&format!("{} ({took:.0} s)", file.display()))
}

async fn measure(words: &Words) -> anyhow::Result<Found> {
    let root = out()?.join("images");
    fs::create_dir_all(&root)?;
    let mut found = Found {
        machine: machine()?,
        peer: Peer {
            name: "containerd",
            version: version()?,
            inflate: "Go's own gzip (CONTAINERD_DISABLE_PIGZ=1, CONTAINERD_DISABLE_IGZIP=1)",
        },
        rows: Vec::new(),
        guest: None,
        cri_visible_ms: None,
        rss_unpack_mib: None,
        rss_idle_mib: None,
        binary_mib: None,
        notes: vec![
            "forelay_blobs_s: with agent.blobs, until the layers' blobs are in the content store, too; gzip without a link and with 1gbit, null elsewhere".into(),
            "zstd and plain: images whose layers are so in the registry; the peer pulls the gzip image".into(),
            "rss_idle_mib: with an API server that takes the connection and never answers".into(),
        ],
    };
    let registry = Registry::over(&root);
    let images = words.images.iter().map(|name| image(&root, name));
    let images: Vec<_> = images.collect::<Result<_, _>>()?;
    found.notes.extend(images.iter().map(Image::row));
    found.rows = rows(words, (&root, &registry), &images).await?;
    let (first, last) = (&images[0], &images[images.len() - 1]);
    if words.want("seen") {
        found.cri_visible_ms = Some(seen::measure(&registry, first, words.runs).await?);
    }
    if words.want("memory") {
        let cost = memory::limited(&registry, last).await?;
        found.notes.push(format!(
            "{} in a cgroup of {} MiB: {:.2} s, {:.2} CPU s, {:.1} MiB resident",
            last.name,
            memory::LIMIT_MIB,
            cost.wall_s,
            cost.cpu_s,
            cost.peak_mib
        ));
        let peaks = found.rows.iter().map(|row| row.peak_mib);
        found.rss_unpack_mib = Some(peaks.fold(cost.peak_mib, f64::max));
        found.rss_idle_mib = Some(memory::idle(&registry).await?);
        found.binary_mib = Some(memory::binary()?);
        let size = found.binary_mib.unwrap_or_default();
        found
            .notes
            .push(format!("forelay-agent, stripped: {size:.1} MiB"));
    }
    // A guess of the image itself would help its pull.
    if words.want("guest") && first.name != last.name {
        let guest = guest::measure(&registry, (first, last), words.pairs).await?;
        found.notes.push(format!(
            "guest: {} of {}, beside a guess of {}: median {:+.1} %",
            guest.pairs,
            first.name,
            last.name,
            guest.slowdown * 100.0
        ));
        found.guest = Some(guest);
    }
    Ok(found)
}

/// All rows that were asked for.
async fn rows(
    words: &Words,
    around: (&Path, &Registry),
    images: &[Image],
) -> anyhow::Result<Vec<Row>> {
    let mut all = Vec::new();
    for link in [Link::None, Link::Gigabit, Link::Slow] {
        if !words.want(link.word()) {
            continue;
        }
        for image in images {
            // A large image takes a minute and more over the slow link, and shows nothing else.
            let (forms, runs): (&[Form], usize) = match link {
                Link::None => (&Form::ALL, words.runs),
                Link::Gigabit => (&[Form::Gzip], words.runs),
                Link::Slow if ["py", "quick"].contains(&image.name.as_str()) => {
                    (&[Form::Gzip], words.runs.min(2))
                }
                Link::Slow => continue,
            };
            let rows = rows::measure(around, image, link, (forms, runs)).await?;
            for row in &rows {
                say(&row.row());
            }
            all.extend(rows);
        }
    }
    Ok(all)
}

/// Cores that may be used.
pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

fn machine() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("{} x {model}, load {load} before", cores()))
}

fn version() -> anyhow::Result<String> {
    let output = Command::new("containerd").arg("--version").output();
    let output = output.context("containerd; apt-get install containerd")?;
    // `containerd <source> <version> <revision>`.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned())
}

/// `target/bench`, made if it is missing.
fn out() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// A line on standard output.
fn show(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// A line of progress on standard error, which may be closed.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
