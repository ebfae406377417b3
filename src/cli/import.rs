//! `forelay import`: a raw watch recording becomes a scenario.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::render::{self, Output, OutputArgs};
use crate::cli::{Context, Exit};
use crate::domain::time::Timestamp;
use crate::sim::calibrate::{self, Calibration};
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

/// `--output json`
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    report: &'a Report,
    links: Option<Links>,
}

/// How the links were found.
#[derive(Serialize)]
struct Links {
    factor: f64,
    recorded_s: f64,
    modelled_s: f64,
}

impl From<Calibration> for Links {
    fn from(found: Calibration) -> Self {
        Self {
            factor: found.factor,
            recorded_s: found.recorded_s,
            modelled_s: found.modelled_s,
        }
    }
}

/// Reads, sets the links so that a kubelet alone waits as long as it did in the recording, writes,
/// and says what was skipped.
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
    let calibration = calibrate::calibrate(&imported.header, &imported.signals)?;
    if let Some(found) = &calibration {
        imported.header = calibrate::with_links_scaled(&imported.header, found.factor);
    }
    let mut writer = ScenarioWriter::create(&args.out, &imported.header)?;
    for signal in &imported.signals {
        writer.write(signal)?;
    }
    writer.finish()?;
    match args.output.output {
        Output::Json => render::json(&Outcome {
            report: &imported.report,
            links: calibration.map(Links::from),
        })?,
        Output::Text => render::out(&text(&args, &imported, calibration))?,
    }
    Ok(Exit::Ok)
}

fn text(args: &Args, imported: &Imported, calibration: Option<Calibration>) -> String {
    let report = &imported.report;
    let mut lines = vec![
        format!(
            "{}: {} signals from {} objects in {} lines\n",
            args.out.display(),
            imported.signals.len(),
            report.objects,
            report.lines,
        ),
        counts("signal", &report.signals),
        counts("gave no signal", &report.skipped),
    ];
    for (file, reason) in &report.left_out {
        lines.push(format!("not read: {file}: {reason}"));
    }
    let images = &report.images;
    lines.push(format!(
        "images: {} named; manifests: {} from the catalogue, {} with another architecture's layers, \
         {} of one layer by size",
        images.named, images.catalogue, images.other_arch, images.size_only,
    ));
    for image in &images.unknown {
        lines.push(format!("not in the header, nothing known of it: {image}"));
    }
    lines.push(match calibration {
        Some(found) => format!(
            "links: {:.3} of the estimate, so that pods wait {:.1} s for images as in the recording \
             ({:.1} s)",
            found.factor, found.modelled_s, found.recorded_s,
        ),
        None => "links: the estimate; the recording tells of no wait for images".to_owned(),
    });
    lines.join("\n") + "\n"
}

fn counts(title: &str, counts: &BTreeMap<String, u64>) -> String {
    let rows = counts.iter().map(|(name, n)| [name.clone(), n.to_string()]);
    render::table([title, "count"], rows)
}
