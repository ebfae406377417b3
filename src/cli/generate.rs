//! `forelay generate`: the files of the repository that are made from its code.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::api;
use crate::cli::exit::Usage;
use crate::cli::{Context, Exit, render};
use crate::config::reference;
use crate::source::schema;
use crate::telemetry::metric;

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// What `forelay generate` calls it.
    pub name: &'static str,
    /// Where it is, from the root of the repository.
    pub path: &'static str,
    /// What has to be in it.
    pub text: String,
}

/// One of them to standard output, or all into a repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// configuration, metrics, signal-schema, scenario-schema or crds; all are written when absent
    pub name: Option<String>,
    /// Root of the repository that all are written into
    #[arg(long, default_value = ".", value_name = "DIRECTORY")]
    pub into: PathBuf,
}

/// Prints or writes them.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<Exit> {
    let files = files();
    if let Some(name) = args.name {
        let names: Vec<_> = files.iter().map(|file| file.name).collect();
        let Some(file) = files.iter().find(|file| file.name == name) else {
            let mend = format!("`{name}` is not generated; these are: {}", names.join(", "));
            return Err(Usage(mend).into());
        };
        render::out(&file.text)?;
        return Ok(Exit::Ok);
    }
    for file in files {
        let path = args.into.join(file.path);
        let folder = path.parent().unwrap_or(&args.into);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, &file.text))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Exit::Ok)
}

/// All generated files, as they have to be.
pub fn files() -> Vec<Generated> {
    let file = |name, path, text| Generated { name, path, text };
    vec![
        file(
            "configuration",
            "docs/configuration.md",
            reference::markdown(),
        ),
        file("metrics", "docs/metrics.md", metric::markdown()),
        file(
            "signal-schema",
            "docs/schema/signal.v1.json",
            schema::signal_schema(),
        ),
        file(
            "scenario-schema",
            "docs/schema/scenario.v1.json",
            schema::scenario_schema(),
        ),
        file("crds", "deploy/crds/forelay.yaml", api::crds_yaml()),
    ]
}
