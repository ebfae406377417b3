//! Where scenarios lie, where results go, and what was asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use forelay::domain::scenario::Header;
use forelay::domain::signal::Signal;
use forelay::source::scenario::{ScenarioReader, Strictness};

/// Parts of the benchmark, in the order in which they run.
pub const PARTS: [&str; 6] = [
    "pack",
    "held-out",
    "robustness",
    "forecast",
    "tuning",
    "engine",
];

/// Signals read at once, before the clock runs. A controller takes each as it decodes it: of a few, some
/// 700 KB, the second cache still has the texts.
pub const CHUNK: usize = 1_000;

/// What the command line asked for.
#[derive(Debug)]
pub struct Words {
    /// Names of parts; all where none was named.
    parts: Vec<String>,
    /// Composed files of an earlier run are taken.
    pub reuse: bool,
}

/// One scenario in memory.
#[derive(Debug)]
pub struct Scenario {
    pub header: Header,
    pub signals: Vec<Signal>,
}

// === impl Words ===

impl Words {
    /// Reads the arguments; `--bench` is cargo's own.
    pub fn read(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        let mut reuse = false;
        for word in words.filter(|word| word != "--bench") {
            match word.as_str() {
                "reuse" => reuse = true,
                part if PARTS.contains(&part) => parts.push(word),
                other => bail!(
                    "{other}: no part; there are {} and `reuse`",
                    PARTS.join(", ")
                ),
            }
        }
        Ok(Self { parts, reuse })
    }

    /// Whether a part was asked for.
    pub fn want(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

/// A folder below `scenarios`.
pub fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("scenarios").join(name)
}

/// `target/bench`, made if it is missing.
pub fn out() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Specs of a folder, in the order of their names.
pub fn specs(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The scenario that belongs to a spec.
pub fn scenario(spec: &Path) -> anyhow::Result<Scenario> {
    let file = spec.with_extension("jsonl.zst");
    let (header, reader) = ScenarioReader::open(&file, Strictness::Strict)?;
    let signals = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(Scenario { header, signals })
}
