//! `forelay demo`: a recorded scale-up played twice on loopback, waiting and with Forelay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::demo::late::Late;
use crate::cli::demo::play::{Play, Played, Stage};
use crate::cli::demo::summary::{Lead, Replayed, Run, Scale, Summary};
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::{Context, Exit};
use crate::domain::quantity::ByteSize;
use crate::domain::scenario::Header;
use crate::domain::signal::{Fact, Signal};
use crate::embedded::origin::Origin;
use crate::forecast::model::Model;
use crate::port::Clock;
use crate::sim;
use crate::sim::policy::Policy;
use crate::source::scenario::{ScenarioReader, Strictness};
use crate::telemetry::clock::ScaledClock;

mod ahead;
mod late;
pub mod ledger;
mod node;
mod page;
mod play;
mod show;
pub mod summary;
mod timeline;
mod verify;

/// The scenario that is played when none is named: it travels inside the program.
const BUILT_IN: &[u8] = include_bytes!("../../scenarios/ca-flash-crowd.jsonl.zst");

/// Recorded seconds before the first signal: the processes list and watch an empty cluster.
const PRELUDE: Duration = Duration::from_secs(10);

/// Recorded time between two looks at how late timers fire.
const TICK: Duration = Duration::from_millis(500);

/// Play a recorded scale-up twice on loopback: waiting, and with Forelay
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file; the built-in recording of a flash crowd when absent
    pub scenario: Option<PathBuf>,
    /// Recorded seconds per real second
    #[arg(long, default_value_t = 9.0, value_parser = positive)]
    pub speed: f64,
    /// Recorded bytes per byte that travels
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub shrink: u64,
    /// Folder for report.html and report.json
    #[arg(long, default_value = "target/demo", value_name = "FOLDER")]
    pub report: PathBuf,
    /// What goes to standard output
    #[command(flatten)]
    pub output: OutputArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 && value <= 100.0 => Ok(value),
        _ => Err("a number above 0 and at most 100".into()),
    }
}

/// Plays, reports, and says whether every pod started and every blob verified.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let (header, signals) = load(args.scenario.as_deref())?;
    let folder = tempfile::Builder::new().prefix("forelay-demo-").tempdir()?;
    let scale = Scale {
        time: args.speed,
        bytes: args.shrink,
    };
    let stage = stage(header, signals, scale, folder.path()).await?;
    let progress = Progress::new(context.surroundings);
    progress.line(&format!(
        "{}: {} recorded seconds, {:.0} of them a second; a byte stands for {}.",
        stage.header.name,
        stage.header.end.since(stage.header.start).as_secs(),
        scale.time,
        scale.bytes
    ));
    let (reactive, planned, late_s) = play_both(&stage, &progress).await?;
    let summary = summarise(&stage, &reactive, &planned, late_s);
    let replayed = replay(stage.clone()).await?;
    let runs = (&reactive, &planned);
    let report = write_report(&args.report, &stage, (&summary, replayed), runs)?;
    let stored = {
        let folder = folder.path().to_owned();
        tokio::task::spawn_blocking(move || verify::blobs_below(&folder)).await??
    };
    match args.output.output {
        Output::Json => render::json(&summary)?,
        Output::Text => {
            render::out(&text(&summary))?;
            render::out(&format!("{}\n", replayed.sentence(&summary)))?;
        }
    }
    if let Some(warning) = summary.late_s.sentence() {
        progress.line(&warning);
    }
    let mut whole = true;
    for (name, run) in [("reactive", &reactive), ("forelay", &planned)] {
        let missing = missing(&stage, run);
        if !missing.is_empty() {
            whole = false;
            let (count, first) = (missing.len(), &missing[..missing.len().min(5)]);
            progress.line(&format!(
                "{name}: {count} pods of the recording did not start: {}",
                first.join(", ")
            ));
        }
        for (reason, count) in &run.refused {
            tracing::info!(
                name,
                reason,
                count,
                "writes that the API server refused the player"
            );
        }
    }
    for bad in &stored.bad {
        whole = false;
        progress.line(&format!(
            "{}: the blob is not what its name says",
            bad.display()
        ));
    }
    progress.line(&format!(
        "{} stored blobs verified; report: {}",
        stored.good,
        report.display()
    ));
    Ok(if whole { Exit::Ok } else { Exit::Failure })
}

fn load(path: Option<&Path>) -> anyhow::Result<(Header, Vec<Signal>)> {
    let (header, reader) = match path {
        Some(path) => ScenarioReader::open(path, Strictness::Strict)?,
        None => ScenarioReader::new(
            Path::new("the built-in scenario"),
            BUILT_IN,
            Strictness::Strict,
        )?,
    };
    Ok((header, reader.collect::<Result<_, _>>()?))
}

async fn stage(
    header: Header,
    signals: Vec<Signal>,
    scale: Scale,
    folder: &Path,
) -> anyhow::Result<Arc<Stage>> {
    let recorded: BTreeSet<String> = signals
        .iter()
        .filter_map(|signal| match &signal.fact {
            Fact::PodStarted(started) => Some(started.pod.name.clone()),
            _ => None,
        })
        .collect();
    let origin = Origin::new(&header, scale.bytes);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let origin_address = listener.local_addr()?;
    let served = origin.clone();
    tokio::spawn(async move { served.serve(listener, CancellationToken::new()).await });
    let recorded = Arc::new(recorded);
    let folder = folder.to_owned();
    Ok(Arc::new(Stage {
        header,
        signals,
        scale,
        origin,
        origin_address,
        folder,
        recorded,
    }))
}

/// Both runs side by side: each has servers, cache and links of its own.
async fn play_both(
    stage: &Arc<Stage>,
    progress: &Progress,
) -> anyhow::Result<(Played, Played, Late)> {
    let reactive = Play::new(stage.clone(), "reactive");
    let planned = Play::new(stage.clone(), "forelay");
    let watched = [&reactive, &planned].map(|play| show::Watched {
        name: play.name(),
        ledger: play.ledger.clone(),
    });
    let begin = stage.header.start - PRELUDE;
    let clock: Arc<dyn Clock> = Arc::new(ScaledClock::starting_at(begin, stage.scale.time));
    let showing = show::watch(
        Vec::from(watched),
        progress.clone(),
        clock.clone(),
        (stage.header.start, stage.header.end),
    );
    // A task like all others: it is late when they are.
    let ended = CancellationToken::new();
    let late = tokio::spawn(late::measure(clock.clone(), TICK, ended.clone()));
    let (reactive, planned, ()) = tokio::join!(
        reactive.run(clock.clone(), false),
        planned.run(clock.clone(), true),
        showing
    );
    ended.cancel();
    Ok((
        reactive.context("the reactive run")?,
        planned.context("the run with Forelay")?,
        late.await.context("the watch over the clock")?,
    ))
}

fn summarise(stage: &Stage, reactive: &Played, planned: &Played, late_s: Late) -> Summary {
    let run = |played: &Played| {
        let ledger = played.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Run::of(
            &ledger,
            played.origin_bytes,
            played.cache_bytes,
            stage.scale,
        )
    };
    let ledger = planned
        .ledger
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let lead_s = Lead::of(&ledger);
    drop(ledger);
    Summary {
        scenario: stage.header.name.clone(),
        scale: stage.scale,
        reactive: run(reactive),
        forelay: run(planned),
        lead_s,
        late_s,
    }
}

/// The same two runs in event time: by how much they differ tells what the machine's own pace did.
async fn replay(stage: Arc<Stage>) -> anyhow::Result<Replayed> {
    let replayed = tokio::task::spawn_blocking(move || {
        let wait = |policy| {
            let wait =
                sim::policy::wait_s(&stage.header, &stage.signals, policy, &Model::default());
            wait.map(|wait| (wait * 1e3).round() / 1e3)
        };
        Ok::<_, sim::facts::FactsError>(Replayed {
            reactive_wait_s: wait(Policy::Reactive)?,
            forelay_wait_s: wait(Policy::Forelay)?,
        })
    });
    Ok(replayed.await??)
}

/// Writes page and numbers; returns the page's path.
fn write_report(
    folder: &Path,
    stage: &Stage,
    (summary, replayed): (&Summary, Replayed),
    (reactive, planned): (&Played, &Played),
) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: the report's folder cannot be made", folder.display()))?;
    let (before, after) = (
        reactive
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
        planned
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let mut note = replayed.sentence(summary);
    if let Some(warning) = summary.late_s.sentence() {
        note = format!("{note} {warning}");
    }
    let html = page::render(&stage.header, summary, &note, (&before, &after));
    let nodes = serde_json::json!({
        "summary": summary, "replay": replayed, "reactive": before.nodes(), "forelay": after.nodes()});
    let path = folder.join("report.html");
    std::fs::write(&path, html).with_context(|| path.display().to_string())?;
    std::fs::write(
        folder.join("report.json"),
        serde_json::to_vec_pretty(&nodes)?,
    )?;
    Ok(path)
}

/// Pods that started in the recording and not in the run.
fn missing(stage: &Stage, run: &Played) -> Vec<String> {
    let ledger = run.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let started = ledger.started();
    stage
        .recorded
        .iter()
        .filter(|pod| !started.contains(pod.as_str()))
        .cloned()
        .collect()
}

fn text(summary: &Summary) -> String {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    let seconds = |value: f64| format!("{value:.1} s");
    let (a, b) = (&summary.reactive, &summary.forelay);
    let rows = [
        [
            "pods on new nodes".into(),
            a.pods.to_string(),
            b.pods.to_string(),
        ],
        [
            "started warm".into(),
            a.warm_pods.to_string(),
            b.warm_pods.to_string(),
        ],
        [
            "image wait p50".into(),
            seconds(a.wait_s.p50),
            seconds(b.wait_s.p50),
        ],
        [
            "image wait p95".into(),
            seconds(a.wait_s.p95),
            seconds(b.wait_s.p95),
        ],
        [
            "image wait p99".into(),
            seconds(a.wait_s.p99),
            seconds(b.wait_s.p99),
        ],
        [
            "image wait, sum".into(),
            seconds(a.wait_s.sum),
            seconds(b.wait_s.sum),
        ],
        [
            "bytes from the origin".into(),
            size(a.origin_bytes),
            size(b.origin_bytes),
        ],
        [
            "bytes from the cache".into(),
            size(a.cache_bytes),
            size(b.cache_bytes),
        ],
        [
            "bytes brought in vain".into(),
            size(a.wasted_bytes),
            size(b.wasted_bytes),
        ],
    ];
    let table = render::table(["", "reactive", "forelay"], rows);
    let lead = summary
        .lead_s
        .p50
        .map_or("never".into(), |lead| format!("{lead:.1} s"));
    format!("{table}\nUsed images were in the plan {lead} (median) before their node was Ready.\n")
}
