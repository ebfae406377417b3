//! `forelay agent --check`: what is on this node, and what an agent may do here, in words.

use crate::cli::{Context, Exit};

/// Looks, and changes nothing.
pub(super) async fn run(_json: bool, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("not yet")
}
