//! The `forelay-agent` binary: the agent alone, small enough to be on a node first.

use std::process::ExitCode;

use clap::Parser;
use forelay::cli::{self, AgentCli};

fn main() -> ExitCode {
    let cli = AgentCli::parse();
    cli::enter("forelay-agent", || cli::run_agent(cli))
}
