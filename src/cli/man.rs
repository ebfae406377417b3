//! `forelay man`: manual pages of this command line.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_mangen::Man;

use crate::cli::{self, Context, Exit, render};

/// One page, or all of them into a directory.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub into: Option<PathBuf>,
}

/// Prints the main page, or writes all pages.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<Exit> {
    let Some(directory) = args.into else {
        let mut page = Vec::new();
        Man::new(cli::command()).render(&mut page)?;
        render::out(&String::from_utf8(page)?)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(&directory)
        .and_then(|()| clap_mangen::generate_to(cli::command(), &directory))
        .with_context(|| format!("writing manual pages into {}", directory.display()))?;
    Ok(Exit::Ok)
}
