//! Names of what was removed, so that a late or repeated word does not raise it again.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::time::Timestamp;

/// Removed things that are remembered, of each kind: at least half as many, at most so many.
const GONE_MAX: usize = 50_000;

/// Removed names by kind: a pod and a node may have the same.
#[derive(Debug, Default)]
pub struct Gone {
    pub pods: Removed,
    pub nodes: Removed,
    pub requests: Removed,
    pub workloads: Removed,
    pub capacities: Removed,
}

/// Names of one kind, with the instant of their removal. The older half is forgotten as a whole: one by
/// one they would be looked for once more each.
#[derive(Debug, Default)]
pub struct Removed {
    newer: HashMap<Arc<str>, Timestamp>,
    older: HashMap<Arc<str>, Timestamp>,
}

impl Removed {
    pub fn note(&mut self, name: impl AsRef<str> + Into<Arc<str>>, at: Timestamp) {
        if self.after(name.as_ref(), at) {
            return;
        }
        if self.newer.len() >= GONE_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(name.into(), at);
    }

    /// Whether a word of `at` on `name` is not newer than its removal.
    pub fn after(&self, name: &str, at: Timestamp) -> bool {
        let halves = [&self.newer, &self.older].into_iter();
        let mut gone = halves.filter_map(|half| half.get(name));
        gone.any(|gone| at <= *gone)
    }

    pub fn knows(&self, name: &str) -> bool {
        self.newer.contains_key(name) || self.older.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_last_is_remembered_and_a_repeated_removal_counts_as_new() {
        let mut removed = Removed::default();
        let at = |n: usize| Timestamp::from_micros(n as i64);
        removed.note("again", at(1));
        removed.note("once", at(2));
        let half = GONE_MAX / 2;
        for n in 3..=half {
            removed.note(n.to_string(), at(n));
        }
        removed.note("again", at(half + 1));
        assert!(removed.knows("once"));
        for n in half + 2..=2 * half + 1 {
            removed.note(n.to_string(), at(n));
        }
        assert!(removed.knows("again") && !removed.knows("once"));
        assert!(removed.after("again", at(half + 1)));
        assert!(!removed.after("again", at(half + 2)));
        assert!(removed.knows(&(half + 2).to_string()));
    }
}
