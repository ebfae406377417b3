//! Uid and pool of every node that exists: what an owner reference and a policy need.

use std::collections::BTreeMap;

use crate::domain::signal::{Fact, Signal};

/// A node that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Uid of the Node object: a name may be used again, a uid is not.
    pub uid: String,
    /// Its pool, empty where none is known.
    pub pool: String,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Roster {
    nodes: BTreeMap<String, Member>,
}

impl Roster {
    /// Takes note of nodes that join and leave; other signals mean nothing here. Answers with the
    /// name of a node whose uid or pool is new.
    pub fn apply<'a>(&mut self, signal: &'a Signal) -> Option<&'a str> {
        match &signal.fact {
            Fact::NodeJoined(joined) => {
                let member = Member {
                    uid: joined.uid.clone(),
                    pool: joined.pool.clone(),
                };
                let old = self.nodes.insert(joined.node.clone(), member.clone());
                (old.as_ref() != Some(&member)).then_some(joined.node.as_str())
            }
            Fact::NodeRemoved(removed) => {
                if let Some(node) = &removed.node {
                    self.nodes.remove(node);
                }
                None
            }
            _ => None,
        }
    }

    /// A node, if it exists.
    #[must_use]
    pub fn get(&self, node: &str) -> Option<&Member> {
        self.nodes.get(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signal::{NodeJoined, NodeRemoved};
    use crate::domain::time::Timestamp;

    fn joined(node: &str, uid: &str) -> Signal {
        let fact = Fact::NodeJoined(NodeJoined {
            node: node.into(),
            uid: uid.into(),
            ..NodeJoined::default()
        });
        Signal::new("/test", uid, Timestamp::ZERO, fact)
    }

    #[test]
    fn a_name_that_is_used_again_is_a_new_node() {
        let mut roster = Roster::default();
        assert_eq!(roster.apply(&joined("a", "1")), Some("a"));
        assert_eq!(roster.apply(&joined("a", "1")), None);
        assert_eq!(roster.apply(&joined("a", "2")), Some("a"));
        assert_eq!(roster.get("a").unwrap().uid, "2");
    }

    #[test]
    fn a_node_that_is_gone_owns_nothing() {
        let mut roster = Roster::default();
        roster.apply(&joined("a", "1"));
        let fact = Fact::NodeRemoved(NodeRemoved {
            node: Some("a".into()),
            ..NodeRemoved::default()
        });
        roster.apply(&Signal::new("/test", "2", Timestamp::ZERO, fact));
        assert_eq!(roster.get("a"), None);
    }
}
