//! `forelay crds`: the custom resource definitions as one YAML stream.

use crate::api;
use crate::cli::{Context, Exit, render};

/// No arguments: `forelay crds | kubectl apply --server-side -f -`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints them.
pub async fn run(_: Args, _: &Context) -> anyhow::Result<Exit> {
    render::out(&api::crds_yaml())?;
    Ok(Exit::Ok)
}
