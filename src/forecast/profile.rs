//! The typical shape of a pool's nodes, learned from the nodes it had.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::node::{NodeShape, Resources};
use crate::domain::time::Timestamp;
use crate::domain::workload::PodNeeds;

/// What all nodes of a pool had in common, and what the latest one offered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    common: Option<NodeShape>,
    latest: Option<(Timestamp, String)>,
    /// What an autoscaler takes for a node of the pool: it counts until there was one.
    #[serde(skip)]
    told: Option<NodeShape>,
}

impl Profile {
    /// Takes a node into account; the order in which nodes are told does not matter.
    pub fn note(&mut self, node: &str, joined: Timestamp, shape: &NodeShape) {
        let newest = self
            .latest
            .as_ref()
            .is_none_or(|(at, name)| (*at, name.as_str()) <= (joined, node));
        let Some(common) = &mut self.common else {
            self.common = Some(shape.clone());
            self.latest = Some((joined, node.to_owned()));
            return;
        };
        common
            .labels
            .retain(|key, value| shape.labels.get(key) == Some(value));
        common.taints.retain(|taint| shape.taints.contains(taint));
        if common.arch.as_deref() != shape.architecture() {
            common.arch = None;
        }
        if common.zone != shape.zone {
            common.zone = None;
        }
        if newest {
            common.capacity.clone_from(&shape.capacity);
            self.latest = Some((joined, node.to_owned()));
        }
    }

    /// The shape of a coming node of which nothing is told: [`Self::coming`] of nothing, without a copy.
    #[must_use]
    pub fn typical(&self) -> Cow<'_, NodeShape> {
        self.base().map_or_else(Cow::default, Cow::Borrowed)
    }

    /// The shape of a coming node, refined by what its request says.
    #[must_use]
    pub fn coming(&self, told: &NodeShape) -> NodeShape {
        let Some(common) = self.base() else {
            return told.clone();
        };
        let mut shape = common.clone();
        shape.arch = told.architecture().map(str::to_owned).or(shape.arch);
        shape.zone = told.zone.clone().or(shape.zone);
        shape
            .labels
            .extend(told.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        if !told.taints.is_empty() {
            shape.taints.clone_from(&told.taints);
        }
        shape.capacity = larger(shape.capacity.take(), told.capacity.as_ref());
        shape
    }

    /// Whether what the nodes had in common forbids no pod with these needs, whatever the next one's
    /// size.
    #[must_use]
    pub fn attracts(&self, needs: &PodNeeds) -> bool {
        self.base()
            .is_none_or(|common| common.attracts(needs, true))
    }

    /// A joined node's own shape; until it is Ready, what it does not offer yet but its siblings do
    /// (a GPU is published only after its driver runs) is taken from them.
    #[must_use]
    pub fn completed(&self, own: &Arc<NodeShape>) -> Arc<NodeShape> {
        let siblings = self.base().and_then(|c| c.capacity.as_ref());
        let lacks = |capacity: &Resources| {
            let mut siblings = siblings.iter().flat_map(|s| &s.extended);
            siblings.any(|(name, amount)| {
                let own = capacity.extended.get(name);
                own.is_none_or(|own| own < amount)
            })
        };
        if own
            .capacity
            .as_ref()
            .map_or(siblings.is_none(), |own| !lacks(own))
        {
            return Arc::clone(own);
        }
        let mut shape = NodeShape::clone(own);
        if let Some(capacity) = &mut shape.capacity {
            for (name, amount) in siblings.iter().flat_map(|s| &s.extended) {
                let have = capacity.extended.entry(name.clone()).or_default();
                *have = (*have).max(*amount);
            }
        } else {
            shape.capacity = siblings.cloned();
        }
        Arc::new(shape)
    }

    /// The architecture, where all nodes had the same.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.base().and_then(NodeShape::architecture)
    }

    /// Takes an autoscaler's word for a pool; true when that is news for the next node.
    pub fn tell(&mut self, shape: &NodeShape) -> bool {
        let news = self.common.is_none() && self.told.as_ref() != Some(shape);
        self.told = Some(shape.clone());
        news
    }

    fn base(&self) -> Option<&NodeShape> {
        self.common.as_ref().or(self.told.as_ref())
    }
}

/// Member by member the larger of two amounts: a `NodeClaim` tells the sum of what is requested,
/// which is a lower bound of what the machine offers.
fn larger(a: Option<Resources>, b: Option<&Resources>) -> Option<Resources> {
    let (Some(mut a), Some(b)) = (a.clone(), b) else {
        return a.or_else(|| b.cloned());
    };
    a.cpu_milli = a.cpu_milli.max(b.cpu_milli);
    a.memory = a.memory.max(b.memory);
    a.ephemeral = a.ephemeral.max(b.ephemeral);
    a.pods = a.pods.max(b.pods);
    for (name, amount) in &b.extended {
        let have = a.extended.entry(name.clone()).or_default();
        *have = (*have).max(*amount);
    }
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(zone: &str, cpu: u64) -> NodeShape {
        NodeShape {
            arch: Some("amd64".into()),
            zone: Some(zone.into()),
            capacity: Some(Resources {
                cpu_milli: cpu,
                pods: 110,
                ..Resources::default()
            }),
            labels: [
                ("pool".to_owned(), "general".to_owned()),
                ("zone".to_owned(), zone.to_owned()),
            ]
            .into(),
            taints: vec![],
        }
    }

    #[test]
    fn only_what_all_nodes_had_is_expected_of_the_next() {
        let (mut there, mut back) = (Profile::default(), Profile::default());
        let nodes = [("a", 1, shape("z1", 4000)), ("b", 2, shape("z2", 8000))];
        for (name, at, shape) in &nodes {
            there.note(name, Timestamp::from_micros(*at), shape);
        }
        for (name, at, shape) in nodes.iter().rev() {
            back.note(name, Timestamp::from_micros(*at), shape);
        }
        assert_eq!(
            there.coming(&NodeShape::default()),
            back.coming(&NodeShape::default())
        );
        let coming = there.coming(&NodeShape::default());
        assert_eq!(coming.zone, None);
        assert_eq!(coming.labels.len(), 1);
        assert_eq!(coming.architecture(), Some("amd64"));
        assert_eq!(coming.capacity.unwrap().cpu_milli, 8000);
    }

    #[test]
    fn an_autoscalers_word_counts_until_there_was_a_node() {
        let mut profile = Profile::default();
        let told = shape("z9", 16_000);
        assert!(profile.tell(&told));
        assert!(!profile.tell(&told));
        assert_eq!(*profile.typical(), told);
        profile.note("a", Timestamp::ZERO, &shape("z1", 4000));
        assert_eq!(*profile.typical(), shape("z1", 4000));
        assert!(!profile.tell(&shape("z9", 32_000)));
    }

    #[test]
    fn a_request_refines_the_typical_shape() {
        let mut profile = Profile::default();
        profile.note("a", Timestamp::ZERO, &shape("z1", 4000));
        let told = NodeShape {
            arch: Some("arm64".into()),
            ..NodeShape::default()
        };
        assert_eq!(profile.coming(&told).architecture(), Some("arm64"));
    }
}
