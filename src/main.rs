//! The `forelay` binary. All of it is the library's, where it is compiled once.

use std::process::ExitCode;

fn main() -> ExitCode {
    forelay::cli::forelay()
}
