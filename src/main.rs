//! The `forelay` binary: parse, dispatch, map the outcome to an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use forelay::cli::{self, Cli, Exit};

fn main() -> ExitCode {
    // The one TLS provider: without it the first TLS connection of rustls' default builder panics.
    // It can only be refused when there is one already, and nothing has run before this line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(cli::run(cli)));
    let exit = outcome.unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        if exit != Exit::Ok {
            let _ = writeln!(io::stderr(), "forelay: {error:#}");
        }
        exit
    });
    exit.into()
}
