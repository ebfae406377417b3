//! `forelay explain`: why a node or a pool was sent what it was sent, and what came of it.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::exit::Usage;
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::replay::input::{Loaded, load};
use crate::cli::{Context, Exit};
use crate::config;
use crate::config::unit::Span;
use crate::domain::time::Timestamp;
use crate::forecast::model::Model;
use crate::sim::explain::{ExplainError, Question};

mod text;

/// Replays the scenario with Forelay and without, and tells for one node or pool what was sent, why,
/// when, what it saved, what was wasted, and what was not sent.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Scenario file: JSON Lines, plain, gzip or zstd
    #[arg(long, value_name = "FILE")]
    pub scenario: PathBuf,
    /// What is explained
    #[arg(value_enum)]
    pub kind: Kind,
    /// Its name
    pub name: String,
    /// Also how things stood then: an instant (RFC 3339), or the time since the start (90s, 12m)
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Parameters of prediction and planning, TOML; without it the built-in ones
    #[arg(long, value_name = "FILE.toml")]
    pub model: Option<PathBuf>,
    /// How the answer is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One node, by name
    Node,
    /// Any coming node of a pool
    Pool,
}

/// Replays and tells.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let progress = Progress::new(context.surroundings);
    tokio::task::spawn_blocking(move || explain(&args, &progress)).await?
}

fn explain(args: &Args, progress: &Progress) -> anyhow::Result<Exit> {
    let model = match &args.model {
        Some(path) => config::model::read(path)
            .map_err(|error| Usage(format!("--model {}: {error}", path.display())))?,
        None => Model::default(),
    };
    let Loaded {
        header, signals, ..
    } = load(&args.scenario, false, progress)?;
    let at = args.at.as_deref().map(|text| instant(text, header.start));
    let question = Question {
        header: &header,
        signals: &signals,
        model: &model,
        at: at.transpose()?,
    };
    match args.kind {
        Kind::Node => {
            let story = question.node(&args.name).map_err(wrong)?;
            show(args, &story, || text::node(&story))?;
        }
        Kind::Pool => {
            let story = question.pool(&args.name).map_err(wrong)?;
            show(args, &story, || text::pool(&story))?;
        }
    }
    Ok(Exit::Ok)
}

fn show<T: serde::Serialize>(
    args: &Args,
    story: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    match args.output.output {
        Output::Json => render::json(story),
        Output::Text => render::out(&text()),
    }
}

fn wrong(error: ExplainError) -> anyhow::Error {
    match error {
        ExplainError::Unknown { .. } | ExplainError::Outside { .. } => {
            Usage(error.to_string()).into()
        }
        ExplainError::Facts(_) => error.into(),
    }
}

fn instant(text: &str, start: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let since = text.strip_prefix('+').unwrap_or(text).parse::<Span>();
    let since = since.map_err(|_| {
        Usage(format!(
            "--at `{text}` is no instant (2026-11-23T08:40:00Z) and no time since the start (90s)"
        ))
    })?;
    Ok(start + since.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn instants_are_given_in_full_or_since_the_start() {
        let start: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        let later = start + Duration::from_secs(90);
        for text in ["90s", "+90s", "1m 30s", "2026-11-23T08:01:30Z"] {
            assert_eq!(instant(text, start).unwrap(), later, "{text}");
        }
        let error = instant("noon", start).unwrap_err().to_string();
        assert!(error.contains("--at `noon`"), "{error}");
    }
}
