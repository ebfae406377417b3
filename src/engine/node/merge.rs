//! The wishes that count now: the node's own plan, or its pool's until there is one.

use std::collections::BTreeSet;

use crate::domain::plan::{Plan, PlanEntry};
use crate::domain::time::Timestamp;

/// Live entries, each image once, first to fetch first: who waits, then the plan's own order.
///
/// The pool's plan bridges the time until the node has its own. Beside it, it did harm: its later
/// entries are for nodes that are still to come, and on the recordings following both moved four
/// times the unused bytes and cost a sixth of the gain.
pub fn merged(node: Option<&Plan>, pool: Option<&Plan>, now: Timestamp) -> Vec<PlanEntry> {
    let mut seen = BTreeSet::new();
    let mut entries: Vec<PlanEntry> = node
        .or(pool)
        .into_iter()
        .flat_map(|plan| &plan.entries)
        .filter(|entry| entry.expires > now)
        .filter(|entry| seen.insert((&entry.digest, &entry.image)))
        .cloned()
        .collect();
    // Stable: the plan's order stays within a class.
    entries.sort_by_key(|entry| entry.priority);
    entries
}
