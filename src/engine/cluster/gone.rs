//! Names of what was removed, so that a late or repeated word does not raise it again.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::domain::time::Timestamp;

/// Removed things that are remembered, of each kind.
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

/// Names of one kind, with the instant of their removal; the first noted are the first forgotten.
#[derive(Debug)]
pub struct Removed {
    at: HashMap<Arc<str>, Timestamp>,
    order: VecDeque<(Timestamp, Arc<str>)>,
}

impl Default for Removed {
    fn default() -> Self {
        Self {
            at: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl Removed {
    pub fn note(&mut self, name: impl AsRef<str> + Into<Arc<str>>, at: Timestamp) {
        if self.after(name.as_ref(), at) {
            return;
        }
        let name: Arc<str> = name.into();
        self.at.insert(Arc::clone(&name), at);
        self.order.push_back((at, name));
        if self.order.len() > GONE_MAX
            && let Some((at, name)) = self.order.pop_front()
            && self.at.get(&name) == Some(&at)
        {
            self.at.remove(&name);
        }
    }

    /// Whether a word of `at` on `name` is not newer than its removal.
    pub fn after(&self, name: &str, at: Timestamp) -> bool {
        self.at.get(name).is_some_and(|gone| at <= *gone)
    }

    pub fn knows(&self, name: &str) -> bool {
        self.at.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_noted_is_the_first_forgotten_unless_it_was_removed_again() {
        let mut removed = Removed::default();
        let at = |n: usize| Timestamp::from_micros(n as i64);
        removed.note("again", at(1));
        removed.note("once", at(2));
        for n in 3..GONE_MAX {
            removed.note(n.to_string(), at(n));
        }
        removed.note("again", at(GONE_MAX));
        removed.note("x", at(GONE_MAX + 1));
        removed.note("y", at(GONE_MAX + 2));
        assert!(removed.knows("again") && !removed.knows("once"));
        assert!(removed.after("again", at(GONE_MAX)));
        assert!(!removed.after("again", at(GONE_MAX + 1)));
    }
}
