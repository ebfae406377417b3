//! `forelay compose`: a spec of a cluster becomes a scenario.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::exit::Usage;
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::{Context, Exit};
use crate::compose::{self, ComposeError, Summary};

/// Load makes replicas, replicas make pods, pods make nodes: docs/compose.md has all keys of a spec.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Spec of the cluster and of what happens in it
    #[arg(value_name = "SPEC.toml")]
    pub spec: PathBuf,
    /// Scenario to write; .zst and .gz compress
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    pub out: Option<PathBuf>,
    /// Other draws than the spec's own
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Only check the spec and what it refers to; write nothing
    #[arg(long, conflicts_with = "out")]
    pub check: bool,
    /// Form of the summary.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `--output json`
#[derive(Serialize)]
struct Outcome<'a> {
    name: &'a str,
    seed: u64,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Checks, plays, writes, and says what happened.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let progress = Progress::new(context.surroundings);
    tokio::task::spawn_blocking(move || compose(&args, &progress)).await?
}

fn compose(args: &Args, progress: &Progress) -> anyhow::Result<Exit> {
    let spec = compose::read(&args.spec).map_err(judged)?;
    let cast = compose::cast(&spec, &args.spec, args.seed).map_err(judged)?;
    let Some(out) = &args.out else {
        render::out(&format!("{}: sound\n", args.spec.display()))?;
        return Ok(Exit::Ok);
    };
    let length = cast.end.secs_since(cast.begin);
    let bar = progress.bar(&spec.name, length as u64);
    bar.set_message("s of the scenario");
    let summary = compose::write(&spec, &cast, out, |seconds| {
        bar.set_position(seconds as u64);
    })?;
    bar.finish_and_clear();
    progress.clear();
    match args.output.output {
        Output::Json => render::json(&Outcome {
            name: &spec.name,
            seed: cast.seed,
            summary: &summary,
        })?,
        Output::Text => render::out(&format!("{}\n{}", out.display(), text(&summary)))?,
    }
    Ok(Exit::Ok)
}

/// A spec that is wrong was asked wrongly; a disk that is full was not.
fn judged(error: ComposeError) -> anyhow::Error {
    match error {
        ComposeError::Form { .. } | ComposeError::Recorded { .. } | ComposeError::Faults { .. } => {
            Usage(error.to_string()).into()
        }
        other => other.into(),
    }
}

fn text(summary: &Summary) -> String {
    let counts = [
        ("nodes at the start", summary.nodes_at_start),
        ("nodes joined", summary.nodes_joined),
        ("nodes removed", summary.nodes_removed),
        ("pods at the start", summary.pods_at_start),
        ("pods created", summary.pods_created),
        ("most pods at once", summary.pods_most),
        ("pods without room at first", summary.pods_without_room),
        ("pods on new nodes", summary.pods_on_new_nodes),
        ("pulls on new nodes", summary.pulls_on_new_nodes),
        ("image wait there, s", summary.image_wait_s),
    ];
    let row = |name: &str, count: u64| [name.to_owned(), count.to_string()];
    let first = render::table(
        ["what happened", "count"],
        counts.map(|(name, n)| row(name, n)),
    );
    let signals = summary
        .signals
        .iter()
        .map(|(kind, n)| row(kind.as_str(), *n));
    format!("{first}\n{}", render::table(["signal", "count"], signals))
}
