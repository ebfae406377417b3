//! `forelay replay`: scores policies on recorded scenarios.

pub(super) mod input;

use std::cmp::Reverse;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::exit::Usage;
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::{Context, Exit};
use crate::config;
use crate::config::unit::Span;
use crate::domain::quantity::ByteSize;
use crate::forecast::model::Model;
use crate::sim::perturb::Trouble;
use crate::sim::policy::{Policy, Replay, Setting, replay_in};
use crate::sim::report::{Report, Rows, page};
use crate::sim::score::Score;

use input::{Loaded, load, refuse_repeats};

/// Arguments of `forelay replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Scenario files: JSON Lines, plain, gzip or zstd; `-` is standard input
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<PathBuf>,
    /// Policies to show, by comma: reactive, reactive-cache, static, daemonsets, last-n, decayed,
    /// pending-only, forelay, oracle-images, oracle
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
    /// Also write a page with drawings and every number; it runs what --frontier and --sensitivity run
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Parameters of prediction and planning, TOML; without it the built-in ones
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Skip lines that are no signal, count them, go on
    #[arg(long)]
    pub lenient: bool,
    /// Also run forelay at an eighth to eight times the price of a second
    #[arg(long)]
    pub frontier: bool,
    /// Also run with kubelets that pull five images at once
    #[arg(long)]
    pub sensitivity: bool,
    /// Images that a kubelet pulls at once; 1 is its default
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub parallel_pulls: u16,
    /// What goes wrong on the way to the engine.
    #[command(flatten)]
    pub trouble: TroubleArgs,
}

/// Switches that make the signals worse than they were recorded.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Robustness")]
pub struct TroubleArgs {
    /// Part of Events, Kafka messages and load samples that is lost
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub drop: f64,
    /// A tenth of these messages is so late, and every watch of objects stalls so long, a tenth of the time
    #[arg(long, value_name = "TIME")]
    pub delay: Option<Span>,
    /// Part of these messages that comes twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub duplicate: f64,
    /// Part of these messages that changes places with the next
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub reorder: f64,
    /// Kill the controller so long after the start; 15 s later another one loads what was saved
    #[arg(long, value_name = "TIME")]
    pub restart_at: Option<Span>,
    /// Nothing is remembered of earlier nodes
    #[arg(long)]
    pub no_history: bool,
    /// Of the choice what is lost, doubled, late, reordered
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Replays every file under every policy.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let progress = Progress::new(context.surroundings);
    tokio::task::spawn_blocking(move || replay_all(&args, &progress)).await?
}

fn replay_all(args: &Args, progress: &Progress) -> anyhow::Result<Exit> {
    let setting = setting(args)?;
    let replays = replay_files(args, &setting, progress)?;
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

fn setting(args: &Args) -> anyhow::Result<Setting> {
    let mut model = match &args.model {
        Some(path) => config::model::read(path)
            .map_err(|error| Usage(format!("--model {}: {error}", path.display())))?,
        None => Model::default(),
    };
    let trouble = &args.trouble;
    if trouble.no_history {
        model.uses.history = false;
    }
    let span = |span: Option<Span>| span.map(|Span(span)| span);
    Ok(Setting {
        model,
        pulls: usize::from(args.parallel_pulls),
        restart_after: span(trouble.restart_at),
        trouble: Trouble {
            drop: trouble.drop,
            duplicate: trouble.duplicate,
            reorder: trouble.reorder,
            delay: span(trouble.delay).unwrap_or(Duration::ZERO),
            seed: trouble.seed,
        },
        frontier: args.frontier || args.report.is_some(),
        sensitivity: args.sensitivity || args.report.is_some(),
    })
}

/// A part of something, 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a share between 0 and 1, such as 0.1".into()),
    }
}

/// Outcome of the file with this number.
type Numbered = (usize, anyhow::Result<(Loaded, Replay)>);

/// All files, over all cores; results in the order of the arguments.
fn replay_files(
    args: &Args,
    setting: &Setting,
    progress: &Progress,
) -> anyhow::Result<Vec<Replay>> {
    refuse_repeats(&args.scenarios)?;
    let files = args.scenarios.len();
    let bar = progress.bar("scenarios", files as u64);
    let order = longest_first(&args.scenarios);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Numbered>> = Mutex::default();
    let work = || {
        loop {
            let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let path = &args.scenarios[number];
            let result = load(path, args.lenient, progress).and_then(|mut loaded| {
                let replay = replay_one(&mut loaded, args, setting, progress)?;
                Ok((loaded, replay))
            });
            if result.is_err() {
                // The first error ends the command: nothing more is begun.
                next.store(files, Ordering::Relaxed);
            }
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((number, result));
            bar.inc(1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(files) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    let done = done.into_iter().map(|(_, result)| result);
    let (loaded, replays): (Vec<Loaded>, Vec<Replay>) =
        done.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    input::refuse_copies(&loaded)?;
    Ok(replays)
}

/// Numbers of the files, the largest first: a core that begins the longest one last would leave the others
/// idle for as long.
fn longest_first(paths: &[PathBuf]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..paths.len()).collect();
    let bytes = |number: &usize| std::fs::metadata(&paths[*number]).map_or(0, |file| file.len());
    order.sort_by_key(|number| Reverse(bytes(number)));
    order
}

fn replay_one(
    loaded: &mut Loaded,
    args: &Args,
    setting: &Setting,
    progress: &Progress,
) -> anyhow::Result<Replay> {
    let signals = std::mem::take(&mut loaded.signals);
    let bar = progress.bar(&loaded.header.name, Policy::ALL.len() as u64);
    let replay = replay_in(
        &loaded.header,
        &signals,
        &args.policies,
        setting,
        |policy| {
            bar.set_position(policy as u64);
            bar.set_message(policy.name());
        },
    )?;
    bar.finish_and_clear();
    Ok(replay)
}

fn text(report: &Report) -> String {
    let mut parts: Vec<String> = Vec::new();
    for scenario in &report.scenarios {
        parts.push(format!("{}\n{}", scenario.name, table(&scenario.policies)));
    }
    if report.scenarios.len() > 1 {
        parts.push(format!("all scenarios\n{}", table(&report.pooled.policies)));
    }
    if let Some(over) = report.pooled.over_pending
        && let Some(gain) = over.gain
    {
        let interval = over.interval.map_or_else(String::new, |[low, high]| {
            format!(", 95 % between {low:+.3} and {high:+.3}")
        });
        parts.push(format!(
            "forelay over pending-only: {gain:+.3} of gain{interval}\n"
        ));
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
