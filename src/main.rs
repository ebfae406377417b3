//! The `forelay` binary: parse, dispatch, map the outcome to an exit code.

use std::process::ExitCode;

use clap::Parser;
use forelay::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::enter("forelay", || cli::run(cli))
}
