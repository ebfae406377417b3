//! One list of wishes out of the pool's plan and the node's own.

use std::collections::BTreeSet;

use crate::domain::plan::{Plan, PlanEntry};
use crate::domain::time::Timestamp;

/// Live entries of both plans, first to fetch first.
///
/// The node's word on an image wins; what only the pool's plan names is used beside it. Order: who
/// waits, then the node's plan before the pool's, then the plan's own order.
pub fn merged(node: Option<&Plan>, pool: Option<&Plan>, now: Timestamp) -> Vec<PlanEntry> {
    let mut seen = BTreeSet::new();
    let mut entries: Vec<PlanEntry> = node
        .into_iter()
        .chain(pool)
        .flat_map(|plan| &plan.entries)
        .filter(|entry| entry.expires > now)
        .filter(|entry| seen.insert((&entry.digest, &entry.image)))
        .cloned()
        .collect();
    // A stable sort keeps node before pool, and each plan's order, within a class.
    entries.sort_by_key(|entry| entry.priority);
    entries
}
