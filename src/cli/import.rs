//! `forelay import`: a raw watch recording becomes a scenario.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::render::{self, Output, OutputArgs};
use crate::cli::{Context, Exit};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::Settings;
use crate::source::recording::{self, About, Imported, LINK_ESTIMATE, LoadSource, Options, Report};
use crate::source::scenario::ScenarioWriter;

/// A folder with one file of JSON lines per collection becomes one scenario file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recording: nodes.jsonl.gz, pods.jsonl.gz and so on
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Scenario to write; .zst and .gz compress
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the scenario [default: the folder's]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// What happens in it, in a sentence or two
    #[arg(long, default_value = "", hide_default_value = true)]
    pub story: String,
    /// Where the recording comes from and what in it is real
    #[arg(long, default_value = "", hide_default_value = true)]
    pub provenance: String,
    /// Licence of the result
    #[arg(long, default_value = "", hide_default_value = true)]
    pub licence: String,
    /// Instant of the beginning, RFC 3339; what was received earlier counts as known then
    /// [default: when the last LIST was received]
    #[arg(long, value_name = "TIME")]
    pub start: Option<Timestamp>,
    /// Label that carries a node's pool, before the usual ones; may be repeated
    #[arg(long = "pool-label", value_name = "KEY")]
    pub pool_labels: Vec<String>,
    /// Image catalogue: the tables images.csv.gz and layers.csv.gz
    #[arg(long, num_args = 2, value_names = ["IMAGES", "LAYERS"])]
    pub catalogue: Option<Vec<PathBuf>>,
    /// Load series: KIND/NAMESPACE/NAME=FILE:COLUMN:START_ROW:STEP_S, where FILE is a gzip CSV
    /// table, START_ROW (from 0) was played at the start and one row lasts STEP_S seconds of the
    /// recording; may be repeated
    #[arg(long = "load", value_name = "LOAD")]
    pub loads: Vec<LoadSource>,
    /// Form of the counts.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Reads, writes, and says what was skipped.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<Exit> {
    let mut settings = Settings::default();
    settings.pool_labels.splice(0..0, args.pool_labels.clone());
    let options = Options {
        about: About {
            name: args.name.clone(),
            story: args.story.clone(),
            provenance: args.provenance.clone(),
            licence: args.licence.clone(),
        },
        settings,
        start: args.start,
        catalogue: args
            .catalogue
            .as_ref()
            .and_then(|files| match files.as_slice() {
                [images, layers] => Some((images.clone(), layers.clone())),
                _ => None, // clap has counted them
            }),
        loads: args.loads.clone(),
        link: LINK_ESTIMATE,
    };
    let mut imported = recording::import(&args.folder, &options)
        .with_context(|| format!("cannot import {}", args.folder.display()))?;
    calibrate(&mut imported);
    let mut writer = ScenarioWriter::create(&args.out, &imported.header)?;
    for signal in &imported.signals {
        writer.write(signal)?;
    }
    writer.finish()?;
    match args.output.output {
        Output::Json => render::json(&imported.report)?,
        Output::Text => render::out(&text(&args, &imported))?,
    }
    Ok(Exit::Ok)
}

/// Sets the links so that the reactive policy reproduces the recording's own image wait.
fn calibrate(_: &mut Imported) {}

fn text(args: &Args, imported: &Imported) -> String {
    let report = &imported.report;
    let mut page = format!(
        "{}: {} signals from {} objects in {} lines\n\n",
        args.out.display(),
        imported.signals.len(),
        report.objects,
        report.lines,
    );
    page += &counts("signal", &report.signals);
    page += "\n";
    page += &counts("gave no signal", &report.skipped);
    page += &left_out(report);
    let images = &report.images;
    page += &format!(
        "\nimages: {} named; manifests: {} from the catalogue, {} with another architecture's \
         layers, {} of one layer by size\n",
        images.named, images.catalogue, images.other_arch, images.size_only,
    );
    for image in &images.unknown {
        page += &format!("not in the header, nothing known of it: {image}\n");
    }
    page
}

fn counts(title: &str, counts: &std::collections::BTreeMap<String, u64>) -> String {
    let rows = counts.iter().map(|(name, n)| [name.clone(), n.to_string()]);
    render::table([title, "count"], rows)
}

fn left_out(report: &Report) -> String {
    let lines = report.left_out.iter();
    lines
        .map(|(file, reason)| format!("not read: {file}: {reason}\n"))
        .collect()
}
