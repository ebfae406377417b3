//! Why plans named images for nodes, as a run leaves it for its readers.

use std::collections::BTreeMap;

use crate::domain::plan::{Plan, Reason};
use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, ImageId, NodeId};

/// Why an image was named, when a plan that counts for the node first did so.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// The plan was made.
    pub made: Timestamp,
    /// Its strongest reason.
    pub reason: Reason,
    /// Probability that the node needs the image, 0 to 1.
    pub probability: f64,
}

/// First reasons per node and image. Reasons are copied once each: plans of a pool are renewed for
/// thousands of nodes, and name the same images every time.
#[derive(Clone, Debug, Default)]
pub struct Whys {
    nodes: BTreeMap<NodeId, BTreeMap<ImageId, Why>>,
    /// Of what each pool's plan names now: what the next node begins with.
    pools: BTreeMap<String, BTreeMap<ImageId, Why>>,
}

// === impl Whys ===

impl Whys {
    /// The first reason; `None` where no plan named the image for the node.
    #[must_use]
    pub fn of(&self, node: NodeId, image: ImageId) -> Option<&Why> {
        self.nodes.get(&node)?.get(&image)
    }

    /// All images that plans named for a node.
    pub fn images(&self, node: NodeId) -> impl Iterator<Item = (ImageId, &Why)> {
        let images = self.nodes.get(&node).into_iter().flatten();
        images.map(|(image, why)| (*image, why))
    }

    /// A plan that counts for a node from now on.
    pub(super) fn follow(&mut self, node: NodeId, plan: Option<&Plan>, facts: &Facts) {
        if let Some(plan) = plan {
            note(self.nodes.entry(node).or_default(), plan, facts);
        }
    }

    /// A pool's plan, for nodes that are yet to come.
    pub(super) fn pool_plan(&mut self, pool: &str, plan: Option<&Plan>, facts: &Facts) {
        let Some(plan) = plan else {
            self.pools.remove(pool);
            return;
        };
        let whys = self.pools.entry(pool.to_owned()).or_default();
        let digests = plan.entries.iter().map(|entry| &entry.digest);
        let named: Vec<ImageId> = digests
            .filter_map(|digest| facts.catalogue.by_manifest.get(digest).copied())
            .collect();
        whys.retain(|image, _| named.contains(image));
        note(whys, plan, facts);
    }

    /// A node begins with what its pool's plan names.
    pub(super) fn inherit(&mut self, node: NodeId, pool: &str) {
        if let Some(whys) = self.pools.get(pool)
            && !self.nodes.contains_key(&node)
        {
            self.nodes.insert(node, whys.clone());
        }
    }
}

fn note(whys: &mut BTreeMap<ImageId, Why>, plan: &Plan, facts: &Facts) {
    for entry in &plan.entries {
        if let Some(image) = facts.catalogue.by_manifest.get(&entry.digest) {
            whys.entry(*image).or_insert_with(|| Why {
                made: plan.made,
                reason: entry.reason.clone(),
                probability: entry.probability,
            });
        }
    }
}
