//! `forelay completions`: a script that completes this command line in a shell.

use clap_complete::Shell;

use crate::cli::{self, Context, Exit, render};

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub async fn run(args: Args, _: &Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "forelay", &mut script);
    render::out(&String::from_utf8(script)?)?;
    Ok(Exit::Ok)
}
