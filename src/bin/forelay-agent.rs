//! The `forelay-agent` binary: the agent alone, since it has to reach a node before it can help there.

use std::process::ExitCode;

use clap::Parser;
use forelay::cli::{self, AgentCli};

fn main() -> ExitCode {
    let cli = AgentCli::parse();
    cli::enter("forelay-agent", || cli::run_agent(cli))
}
