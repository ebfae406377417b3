//! How near the demo, by the clock of this machine, comes to the replay of the same recording.
//!
//! `make bench-demo`, or `cargo bench --bench demo -- ARGUMENTS OF THE DEMO...`. Nothing is asserted: how near
//! they come depends on how calm the machine is, which `late_s` tells.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// Runs whose waits are compared.
const RUNS: [&str; 2] = ["reactive", "forelay"];

fn main() -> anyhow::Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let out = target.join("bench");
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    // Cargo's own word among those for the demo.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let played = Command::new(env!("CARGO_BIN_EXE_forelay"))
        .args(["demo", "--output", "json", "--report"])
        .arg(out.join("demo"))
        .args(words)
        .stdout(Stdio::null())
        .status()?;
    ensure!(played.success(), "the demo ended with {played}");
    let report = std::fs::read(out.join("demo/report.json"))?;
    let page = page(&serde_json::from_slice(&report)?)?;
    let file = out.join("demo.json");
    std::fs::write(&file, serde_json::to_string_pretty(&page)? + "\n")?;
    let mut shown = std::io::stdout().lock();
    for run in RUNS {
        let row = &page["runs"][run];
        writeln!(
            shown,
            "{run:>9}: {:>8.1} s played, {:>8.1} s replayed, {:+.1} %",
            row["played_s"].as_f64().unwrap_or_default(),
            row["replayed_s"].as_f64().unwrap_or_default(),
            row["off"].as_f64().unwrap_or_default() * 100.0,
        )?;
    }
    writeln!(shown, "late by {}, {}", page["late_s"], file.display())?;
    Ok(())
}

/// What is written: for each run both waits in seconds, and by which part of the replay's the demo is off.
fn page(report: &Value) -> anyhow::Result<Value> {
    let mut runs = serde_json::Map::new();
    for run in RUNS {
        let number = |path: String| {
            let found = report.pointer(&path).and_then(Value::as_f64);
            found.with_context(|| format!("the demo's report has no number at {path}"))
        };
        let played = number(format!("/summary/{run}/wait_s/sum"))?;
        let replayed = number(format!("/replay/{run}_wait_s"))?;
        let off = (played / replayed.max(1.0) - 1.0) * 1e4;
        runs.insert(
            run.into(),
            json!({"played_s": played, "replayed_s": replayed, "off": off.round() / 1e4}),
        );
    }
    Ok(json!({
        "scenario": report["summary"]["scenario"],
        "scale": report["summary"]["scale"],
        "late_s": report["summary"]["late_s"],
        "runs": runs,
    }))
}
