//! `forelay replay`: scores policies on recorded scenarios.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::exit::Usage;
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::{Context, Exit};
use crate::config;
use crate::domain::quantity::ByteSize;
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::forecast::model::Model;
use crate::sim::policy::{Policy, Replay, replay};
use crate::sim::report::{Report, Rows, page};
use crate::sim::score::Score;
use crate::source::scenario::{ScenarioReader, Strictness};

/// Arguments of `forelay replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Scenario files: JSON Lines, plain, gzip or zstd
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<PathBuf>,
    /// Policies to show, by comma: reactive, daemonsets, decayed, pending-only, forelay, oracle
    #[arg(
        long = "policy",
        value_name = "POLICY",
        value_delimiter = ',',
        default_values_t = Policy::ALL
    )]
    pub policies: Vec<Policy>,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Also write a page with tables and timelines
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Parameters of prediction and planning, TOML; without it the built-in ones
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Skip lines that are no signal, count them, go on
    #[arg(long)]
    pub lenient: bool,
}

/// Replays every file under every policy.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let progress = Progress::new(context.surroundings);
    tokio::task::spawn_blocking(move || replay_all(&args, &progress)).await?
}

fn replay_all(args: &Args, progress: &Progress) -> anyhow::Result<Exit> {
    let model = match &args.model {
        Some(path) => config::model::read(path)
            .map_err(|error| Usage(format!("--model {}: {error}", path.display())))?,
        None => Model::default(),
    };
    let mut replays = Vec::new();
    for path in &args.scenarios {
        let (header, signals) = read_scenario(path, args.lenient, progress)?;
        replays.push(replay_one(&header, &signals, args, &model, progress)?);
    }
    progress.clear();
    let report = Report::new(&replays, &args.policies);
    if let Some(path) = &args.report {
        std::fs::write(path, page(&replays, &report))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    match args.output.output {
        Output::Json => render::json(&report)?,
        Output::Text => render::out(&text(&report))?,
    }
    Ok(Exit::Ok)
}

fn replay_one(
    header: &Header,
    signals: &[Signal],
    args: &Args,
    model: &Model,
    progress: &Progress,
) -> anyhow::Result<Replay> {
    let bar = progress.bar(&header.name, Policy::ALL.len() as u64);
    let replay = replay(header, signals, &args.policies, model, |policy| {
        bar.set_position(policy as u64);
        bar.set_message(policy.name());
    })?;
    bar.finish_and_clear();
    Ok(replay)
}

pub(super) fn read_scenario(
    path: &Path,
    lenient: bool,
    progress: &Progress,
) -> anyhow::Result<(Header, Vec<Signal>)> {
    let strictness = if lenient {
        Strictness::Lenient
    } else {
        Strictness::Strict
    };
    let (header, mut reader) = ScenarioReader::open(path, strictness)?;
    let signals = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    for (reason, count) in reader.skipped() {
        progress.line(&format!(
            "{}: {count} lines skipped: {reason}",
            path.display()
        ));
    }
    Ok((header, signals))
}

fn text(report: &Report) -> String {
    let mut parts: Vec<String> = Vec::new();
    for scenario in &report.scenarios {
        parts.push(format!("{}\n{}", scenario.name, table(&scenario.policies)));
    }
    if report.scenarios.len() > 1 {
        parts.push(format!("all scenarios\n{}", table(&report.pooled.policies)));
    }
    parts.push(
        "wait: seconds from bound and Ready to the last image, pods on nodes that joined\n\
         gain: part of what the oracle saves over reactive; waste: unused bytes per byte needed\n\
         lead: seconds before Ready at which a plan named what was then used\n"
            .into(),
    );
    parts.join("\n")
}

fn table(rows: &Rows) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.3}"));
    let headers = [
        "policy", "gain", "waste", "wait s", "p50", "p95", "p99", "warm", "pods", "to nodes",
        "unused", "lead p10", "lead p50",
    ];
    let row = |(policy, score): &(Policy, Score)| {
        let lead = |secs: Option<f64>| secs.map_or_else(|| "-".into(), |s| format!("{s:.1}"));
        [
            policy.name().to_owned(),
            number(score.gain),
            number(score.waste_node),
            format!("{:.1}", score.wait_s.sum),
            format!("{:.1}", score.wait_s.p50),
            format!("{:.1}", score.wait_s.p95),
            format!("{:.1}", score.wait_s.p99),
            score.warm_pods.to_string(),
            score.pods.to_string(),
            ByteSize(score.node_bytes).to_string(),
            ByteSize(score.wasted_bytes).to_string(),
            lead(score.lead_s.p10),
            lead(score.lead_s.p50),
        ]
    };
    render::table(headers, rows.0.iter().map(row))
}
