//! The numbers that replay, forecasts and the engine are held to, beside what they are.
//!
//! `make bench-replay`, or `cargo bench --bench replay -- PART...`. Nothing is asserted: a goal that is
//! missed is a line of the table, not a failure.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures, so it asks the clock itself"
)]

mod crew;
mod engine;
mod files;
mod floor;
mod limits;
mod pack;
mod process;
mod series;
mod trouble;
mod tuning;

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use engine::{Engine, Pacing};
use files::{Words, folder, out};
use floor::FLOOR;
use limits::{Limit, limits};
use pack::{Numbers, OTHER_SEEDS, Played, numbers, play, play_seeds};
use series::Forecast;
use trouble::Robustness;
use tuning::Tuning;

/// What is written to `target/bench/replay.json`.
#[derive(Debug, Serialize)]
struct Page<'a> {
    limits: &'a [Limit],
    #[serde(flatten)]
    found: &'a Found,
    /// Wall clock of the whole, seconds.
    took_s: f64,
}

/// Parts that were not asked for are absent.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<HeldOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    robustness: Option<Robustness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<Forecast>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tuning: Option<Tuning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Engine>,
}

/// Scenarios that nothing was tuned on.
#[derive(Debug, Serialize)]
struct HeldOut {
    #[serde(flatten)]
    numbers: Numbers,
    /// The pack's gain less theirs.
    below_pack: f64,
    /// The composed part of the pack with other seeds.
    other_seeds: Numbers,
    seeds: [u64; 2],
    /// The gain of the composed part of the pack with its own seeds.
    composed_gain: f64,
    /// That less the one with other seeds.
    seeds_below_pack: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, file, day, pacing] = arguments.as_slice()
        && word == "feed"
    {
        let file = Path::new(file);
        let fed = if pacing == FLOOR {
            floor::feed(file)?
        } else {
            let pacing = Pacing::of(pacing).context("a pacing: day or backlog")?;
            engine::feed(file, day.parse()?, pacing)?
        };
        return show(&fed.to_string());
    }
    let words = Words::read(arguments.into_iter())?;
    let began = Instant::now();
    let found = measure(&words)?;
    let limits = limits(&found);
    let page = Page {
        limits: &limits,
        found: &found,
        took_s: began.elapsed().as_secs_f64(),
    };
    let file = out()?.join("replay.json");
    std::fs::write(&file, serde_json::to_string_pretty(&page)? + "\n")?;
    for limit in &limits {
        show(&limit.row())?;
    }
    for row in found.engine.iter().flat_map(Engine::rows) {
        show(&row)?;
    }
    show(&format!("{} ({:.0} s)", file.display(), page.took_s))
}

/// The engine comes last, when nothing else of this process runs or holds memory.
fn measure(words: &Words) -> anyhow::Result<Found> {
    let mut found = Found::default();
    if ["pack", "held-out", "robustness"]
        .iter()
        .any(|part| words.want(part))
    {
        let pack = play(&folder(""))?;
        if words.want("pack") {
            found.pack = Some(numbers(&pack)?);
        }
        if words.want("robustness") {
            say("robustness");
            found.robustness = Some(trouble::measure(&pack)?);
        }
        if words.want("held-out") {
            found.held_out = Some(held_out(pack)?);
        }
    }
    if words.want("forecast") {
        say("forecast");
        found.forecast = Some(series::measure()?);
    }
    if words.want("tuning") {
        found.tuning = Some(tuning::measure(&folder(""))?);
    }
    if words.want("engine") {
        found.engine = Some(engine::measure(words)?);
    }
    Ok(found)
}

fn held_out(pack: Vec<Played>) -> anyhow::Result<HeldOut> {
    let all = numbers(&pack)?;
    let composed = pack.into_iter().filter(|one| one.spec.recorded.is_none());
    let composed = numbers(&composed.collect::<Vec<_>>())?;
    let numbers_of_held = numbers(&play(&folder("held-out"))?)?;
    let other_seeds = numbers(&play_seeds(&folder(""))?)?;
    Ok(HeldOut {
        below_pack: all.gain - numbers_of_held.gain,
        numbers: numbers_of_held,
        seeds: OTHER_SEEDS,
        composed_gain: composed.gain,
        seeds_below_pack: composed.gain - other_seeds.gain,
        other_seeds,
    })
}

/// A line on standard output.
fn show(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// A line of progress on standard error, which may be closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
