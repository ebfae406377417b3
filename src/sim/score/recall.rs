//! How much of what new nodes needed was there in time, at the node and at the cache.

use std::collections::BTreeMap;

use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId, PodId};
use crate::sim::world::{First, Notes, window_end};

/// Bytes by what became of them; recalls are their quotients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recall {
    /// Layers that pods of new nodes needed within the node's first ten minutes.
    pub needed: f64,
    /// Of these, on the node when the first of those pods was bound and the node Ready.
    pub at_node: f64,
    /// Of these, whole at the cache when the node was Ready.
    pub at_cache: f64,
    /// Of these, of images that a plan named longer ago than their own transfer and unpacking take.
    pub in_time: f64,
}

// === impl Recall ===

impl Recall {
    /// Counts one run.
    #[must_use]
    pub fn of(facts: &Facts, notes: &Notes) -> Self {
        let firsts: BTreeMap<(NodeId, ImageId), &First> = notes
            .firsts
            .iter()
            .map(|first| ((first.node, first.image), first))
            .collect();
        let new = (0..facts.nodes.len()).filter(|node| facts.nodes[*node].new);
        new.map(|node| at_node(facts, notes, &firsts, node))
            .fold(Self::default(), Self::plus)
    }

    /// Sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            needed: self.needed + other.needed,
            at_node: self.at_node + other.at_node,
            at_cache: self.at_cache + other.at_cache,
            in_time: self.in_time + other.in_time,
        }
    }
}

/// Who needs a layer first.
#[derive(Clone, Copy)]
struct Need {
    at: Timestamp,
    image: ImageId,
}

fn at_node(
    facts: &Facts,
    notes: &Notes,
    firsts: &BTreeMap<(NodeId, ImageId), &First>,
    node: NodeId,
) -> Recall {
    let fact = &facts.nodes[node];
    let (Some(ready), Some(end)) = (fact.ready, window_end(facts, node)) else {
        return Recall::default();
    };
    let mut needs: BTreeMap<LayerId, Need> = BTreeMap::new();
    let mut pods: Vec<PodId> = fact.pods.clone();
    pods.sort_by_key(|pod| (facts.waits_from(*pod), *pod));
    pods.retain(|pod| !facts.pods[*pod].resident && facts.pods[*pod].bound <= end);
    for pod in pods {
        let at = facts.waits_from(pod);
        for &image in facts.pods[pod].images.iter().flatten() {
            for &layer in &facts.image(image).layers {
                let image = facts.image(image).same;
                needs.entry(layer).or_insert(Need { at, image });
            }
        }
    }
    needs.retain(|layer, _| !fact.holds.contains(layer));
    let mut bytes: BTreeMap<ImageId, f64> = BTreeMap::new();
    for (layer, need) in &needs {
        *bytes.entry(need.image).or_default() += facts.bytes(*layer);
    }
    // Alone on the link, then unpacked by one core: what a kubelet would take.
    let takes = |bytes: f64| bytes / rate(fact.world.link.0) + bytes / rate(fact.world.unpack.0);
    let mut recall = Recall::default();
    for (&layer, need) in &needs {
        let size = facts.bytes(layer);
        let by = |at: Option<&Timestamp>, when: Timestamp| at.is_some_and(|at| *at <= when);
        let planned = firsts
            .get(&(node, need.image))
            .and_then(|first| first.since);
        let lead = planned.map(|since| need.at.secs_since(since));
        recall.needed += size;
        recall.at_node += size * share(by(notes.present[node].get(&layer), need.at));
        recall.at_cache += size * share(by(notes.cached.get(&layer), ready));
        recall.in_time += size * share(lead.is_some_and(|lead| lead > takes(bytes[&need.image])));
    }
    recall
}

fn share(all: bool) -> f64 {
    if all { 1.0 } else { 0.0 }
}

/// Zero or less means no limit, as in the network.
fn rate(rate: f64) -> f64 {
    if rate > 0.0 { rate } else { f64::INFINITY }
}
