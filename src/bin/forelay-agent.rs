//! The `forelay-agent` binary: the agent alone, small enough to be on a node first.

use std::process::ExitCode;

fn main() -> ExitCode {
    forelay::cli::forelay_agent()
}
