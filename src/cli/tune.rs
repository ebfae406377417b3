//! `forelay tune`: searches model parameters on scenarios, and judges them on others.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::exit::Usage;
use crate::cli::render::{self, Output, OutputArgs, Progress};
use crate::cli::replay::input::load;
use crate::cli::{Context, Exit};
use crate::config;
use crate::domain::scenario::Header;
use crate::domain::signal::Signal;
use crate::forecast::model::{Card, Marks, Model};
use crate::sim::tune::{self, Ended, Halves, Options, Step, TuneError, Tuned};
use crate::telemetry::shutdown;

/// Every third of the scenarios, sorted by name, only judges (of two, the second), unless `--validate`
/// names others. Trials are kept in OUT.journal.jsonl: the same command goes on where it was stopped.
/// Ctrl-C ends with code 130 and writes no model; `--trials` with the number of trials that were made
/// writes the best of them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Scenario files to choose by, and to judge by where `--validate` is not given
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<PathBuf>,
    /// Scenario files to judge by; all others are chosen by
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub validate: Vec<PathBuf>,
    /// Sets of values to try
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub trials: u32,
    /// Model file to write
    #[arg(long, value_name = "FILE.toml")]
    pub out: PathBuf,
    /// Where everything random comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// End after so many trials without a better one
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// Scenarios played at once [default: the number of cores]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
    /// Model file to begin with; without it the parameters as argued by hand
    #[arg(long, value_name = "FILE.toml")]
    pub start: Option<PathBuf>,
    /// Throw an earlier journal away
    #[arg(long)]
    pub fresh: bool,
    /// Date for the model's card [default: the last instant of the scenarios]
    #[arg(long, value_name = "TEXT")]
    pub date: Option<String>,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `--output json`
#[derive(Serialize)]
struct Outcome<'a> {
    out: &'a Path,
    journal: &'a Path,
    /// Trials that were played to their end; the others could not have become the best.
    whole: usize,
    resumed: usize,
    best_trial: usize,
    ended: Ended,
    changed: BTreeMap<&'a str, Change>,
    card: &'a Card,
}

#[derive(Serialize)]
struct Change {
    before: f64,
    after: f64,
}

/// Reads, searches, writes the model.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    context.begin_quietly()?;
    let progress = Progress::new(context.surroundings);
    let told = shutdown::on_signals()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    tokio::spawn(async move {
        told.cancelled().await;
        flag.store(true, Ordering::Relaxed);
    });
    tokio::task::spawn_blocking(move || tune_all(&args, &progress, &stop)).await?
}

fn tune_all(args: &Args, progress: &Progress, stop: &AtomicBool) -> anyhow::Result<Exit> {
    let options = options(args)?;
    let tuned = match searched(args, &options, progress, stop) {
        Err(error) => match error.downcast_ref::<TuneError>() {
            Some(TuneError::Stopped(trials)) => {
                progress.clear();
                progress.line(&stopped(*trials, &options.journal));
                return Ok(Exit::Interrupted);
            }
            Some(TuneError::Twice(_) | TuneError::Journal(_)) => {
                return Err(Usage(error.to_string()).into());
            }
            _ => return Err(error),
        },
        Ok(tuned) => tuned,
    };
    progress.clear();
    write(&args.out, &tuned.file.to_toml())
        .with_context(|| format!("writing {}", args.out.display()))?;
    let card = tuned.file.card.clone().unwrap_or_default();
    match args.output.output {
        Output::Json => render::json(&Outcome {
            out: &args.out,
            journal: &options.journal,
            whole: tuned.whole,
            resumed: tuned.resumed,
            best_trial: tuned.best_trial,
            ended: tuned.ended,
            changed: changes(&tuned),
            card: &card,
        })?,
        Output::Text => render::out(&text(&args.out, &tuned, &card))?,
    }
    Ok(Exit::Ok)
}

fn options(args: &Args) -> anyhow::Result<Options> {
    if args.scenarios.len() < 2 && args.validate.is_empty() {
        let lack = "one scenario cannot both choose and judge: give more of them, or others with \
                    --validate";
        return Err(Usage(lack.into()).into());
    }
    let folder = args
        .out
        .parent()
        .filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Usage(format!("--out: {} is no folder", folder.display())).into());
    }
    let start = match &args.start {
        Some(path) => config::model::read(path)
            .map_err(|error| Usage(format!("--start {}: {error}", path.display())))?,
        None => Model::untuned(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut journal = args.out.clone().into_os_string();
    journal.push(".journal.jsonl");
    Ok(Options {
        seed: args.seed,
        trials: args.trials as usize,
        patience: args.patience as usize,
        threads: args.jobs.map_or(cores, |jobs| jobs as usize),
        start,
        journal: journal.into(),
        fresh: args.fresh,
        date: args.date.clone(),
    })
}

fn searched(
    args: &Args,
    options: &Options,
    progress: &Progress,
    stop: &AtomicBool,
) -> anyhow::Result<Tuned> {
    let read = |paths: &[PathBuf]| -> anyhow::Result<Vec<(Header, Vec<Signal>)>> {
        let scenarios = paths
            .iter()
            .map(|path| load(path, false, progress).map(|one| (one.header, one.signals)));
        let mut scenarios = scenarios.collect::<anyhow::Result<Vec<_>>>()?;
        scenarios.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(scenarios)
    };
    let (mut training, mut validation) = (read(&args.scenarios)?, read(&args.validate)?);
    if validation.is_empty() {
        (training, validation) = tune::split(training);
    }
    let bar = progress.bar("prepare", (training.len() + validation.len()) as u64);
    let told = |name: &str| {
        bar.inc(1);
        bar.set_message(name.to_owned());
    };
    let mut halves = Halves {
        training: tune::prepare(training, options, stop, told)?,
        validation: tune::prepare(validation, options, stop, told)?,
    };
    bar.finish_and_clear();
    // The ones with most to gain tell first which trials are worth their time.
    let by_wait = |course: &tune::course::Course| course.reactive.wait_s;
    halves
        .training
        .sort_by(|a, b| by_wait(b).total_cmp(&by_wait(a)));
    let bar = progress.bar("tune", options.trials as u64);
    let mut best = f64::NEG_INFINITY;
    let tuned = tune::tune(&halves, options, stop, |step: Step| {
        bar.set_position(step.trials as u64);
        let message = format!("best {:.4}, trial {}", step.best, step.best_trial);
        bar.set_message(message.clone());
        if step.best > best && !progress.is_live() {
            progress.line(&format!("{} trials: {message}", step.trials));
        }
        best = step.best;
    })?;
    bar.finish_and_clear();
    Ok(tuned)
}

/// The whole file or none of it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    // Temporary files are their owner's only; a model is for whoever may read the folder.
    let mut permissions = file.metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    file.set_permissions(permissions)?;
    Ok(())
}

fn stopped(trials: usize, journal: &Path) -> String {
    let journal = journal.display();
    format!(
        "stopped: {trials} trials are kept in {journal}; the same command goes on from there, with \
         --trials {} it writes the best of them",
        trials.max(1)
    )
}

fn changes(tuned: &Tuned) -> BTreeMap<&str, Change> {
    let changed = tuned.changed.iter();
    changed
        .map(|(key, (before, after))| {
            let (before, after) = (*before, *after);
            (key.as_str(), Change { before, after })
        })
        .collect()
}

fn text(out: &Path, tuned: &Tuned, card: &Card) -> String {
    let end = match tuned.ended {
        Ended::Trials => "",
        Ended::Patience => ", then nothing improved for long enough",
    };
    let mut parts = vec![format!(
        "{}: best of {} trials ({} played to their end, {} from the journal){end}\n",
        out.display(),
        card.trials,
        tuned.whole,
        tuned.resumed,
    )];
    for (half, sources, scores) in [
        ("training", &card.training, &card.training_scores),
        ("validation", &card.validation, &card.validation_scores),
    ] {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        parts.push(format!("{half}: {}\n{}", names.join(", "), table(scores)));
    }
    let rows = tuned
        .changed
        .iter()
        .map(|(key, (before, after))| [key.clone(), before.to_string(), after.to_string()]);
    parts.push(render::table(["parameter", "before", "after"], rows));
    if let Some(warning) = warning(card) {
        parts.push(warning.to_owned());
    }
    parts.join("\n")
}

fn table(scores: &BTreeMap<String, Marks>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.3}"));
    let mut rows: Vec<(&String, &Marks)> = scores.iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.objective.total_cmp(&a.objective));
    let row = |(name, marks): (&String, &Marks)| {
        [
            name.clone(),
            number(marks.gain),
            number(marks.gain_median),
            number(marks.waste_node),
            format!("{:.3}", marks.objective),
        ]
    };
    let headers = ["policy", "gain", "median", "waste", "objective"];
    render::table(headers, rows.into_iter().map(row))
}

/// What was learned by heart does not help elsewhere.
fn warning(card: &Card) -> Option<&'static str> {
    let scores = &card.validation_scores;
    let before = scores.get("untuned").or_else(|| scores.get("start"))?;
    let after = scores.get("tuned")?;
    (after.objective < before.objective).then_some(
        "On the scenarios that were held back the tuned values are worse than those before: they \
         fit the training scenarios only. Give more of these.\n",
    )
}
