//! What a run leaves for the scorer.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::image::Digest;
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId, PodId};
use crate::sim::world::Sight;

/// Who brought bytes to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mover {
    /// The agent, ahead of a pod.
    Agent,
    /// The kubelet, for a pod.
    Kubelet,
}

/// One transfer, or a part of one that was stopped.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Where to.
    pub node: NodeId,
    /// What.
    pub layer: LayerId,
    /// By whom.
    pub mover: Mover,
    /// First byte asked for.
    pub from: Timestamp,
    /// Last byte, or the stop.
    pub to: Timestamp,
    /// Bytes.
    pub bytes: f64,
}

/// When a pod had all its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNote {
    /// The last of its images was there.
    pub ready: Timestamp,
    /// No pull was queued for it.
    pub warm: bool,
}

/// Notes of one run.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Per pod of the scenario; `None` for those that are not played.
    pub pods: Vec<Option<PodNote>>,
    /// Every transfer to a node, in the order of their ends.
    pub spans: Vec<Span>,
    /// Bytes from the origin: into the cache, or straight to nodes where there is none.
    pub origin_bytes: f64,
    /// Bytes out of the cache.
    pub cache_bytes: f64,
    /// When each layer that the cache fetched was whole there.
    pub cached: BTreeMap<LayerId, Timestamp>,
    /// Per image on a new node that a pod used and a plan named before it was used: seconds before the
    /// node's Ready at which it entered the plan.
    pub leads: Vec<f64>,
    /// Images on new nodes that pods used.
    pub uses: usize,
    /// What the engine thought of the targets that were watched.
    pub sights: Vec<Sight>,
    /// Since when the plan that counts for a node has named an image, without a break.
    named: Vec<BTreeMap<Digest, Timestamp>>,
    pool_named: BTreeMap<String, BTreeMap<Digest, Timestamp>>,
    has_own: Vec<bool>,
    used: Vec<BTreeSet<u32>>,
    pools: Vec<String>,
    joined: Vec<Option<Timestamp>>,
}

// === impl Notes ===

impl Notes {
    /// Empty notes for a scenario.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let nodes = facts.nodes.len();
        Self {
            pods: vec![None; facts.pods.len()],
            named: vec![BTreeMap::new(); nodes],
            has_own: vec![false; nodes],
            used: vec![BTreeSet::new(); nodes],
            pools: facts.nodes.iter().map(|node| node.pool.clone()).collect(),
            joined: facts
                .nodes
                .iter()
                .map(|node| node.new.then_some(node.joined))
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn moved(&mut self, span: Span) {
        if span.bytes > 0.0 {
            self.spans.push(span);
        }
    }

    pub(super) fn pool_plan(&mut self, pool: &str, plan: Option<&Plan>, now: Timestamp) {
        let wanted = digests(plan);
        let named = self.pool_named.entry(pool.to_owned()).or_default();
        keep_since(named, &wanted, now);
        for node in 0..self.named.len() {
            let here = self.joined[node].is_some_and(|joined| joined <= now);
            if here && !self.has_own[node] && self.pools[node] == pool {
                self.inherit(node);
                keep_since(&mut self.named[node], &wanted, now);
            }
        }
    }

    pub(super) fn node_plan(&mut self, node: NodeId, plan: Option<&Plan>, now: Timestamp) {
        self.inherit(node);
        self.has_own[node] = plan.is_some();
        let wanted = if plan.is_some() {
            digests(plan)
        } else {
            let pool = self.pool_named.get(&self.pools[node]);
            pool.into_iter().flatten().map(|(d, _)| d.clone()).collect()
        };
        keep_since(&mut self.named[node], &wanted, now);
    }

    /// A node's agent follows a list from now on.
    pub(super) fn listed(
        &mut self,
        node: NodeId,
        images: &[ImageId],
        facts: &Facts,
        now: Timestamp,
    ) {
        let digest = |image: &ImageId| facts.image(*image).manifest.digest.clone();
        let wanted: BTreeSet<Digest> = images.iter().map(digest).collect();
        self.has_own[node] = true;
        keep_since(&mut self.named[node], &wanted, now);
    }

    /// A node begins with what its pool's plan named before it existed.
    fn inherit(&mut self, node: NodeId) {
        if !self.has_own[node]
            && self.named[node].is_empty()
            && let Some(pool) = self.pool_named.get(&self.pools[node])
        {
            self.named[node].clone_from(pool);
        }
    }

    pub(super) fn pod_bound(&mut self, pod: PodId, facts: &Facts) {
        let node = facts.pods[pod].node;
        let Some(ready) = facts.nodes[node].ready.filter(|_| facts.nodes[node].new) else {
            return;
        };
        self.inherit(node);
        for &image in facts.pods[pod].images.iter().flatten() {
            if !self.used[node].insert(image) {
                continue;
            }
            self.uses += 1;
            let digest = &facts.image(image).manifest.digest;
            if let Some(since) = self.named[node].get(digest) {
                self.leads.push(ready.secs_since(*since));
            }
        }
    }
}

fn digests(plan: Option<&Plan>) -> BTreeSet<Digest> {
    let entries = plan.into_iter().flat_map(|plan| &plan.entries);
    entries.map(|entry| entry.digest.clone()).collect()
}

fn keep_since(named: &mut BTreeMap<Digest, Timestamp>, wanted: &BTreeSet<Digest>, now: Timestamp) {
    named.retain(|digest, _| wanted.contains(digest));
    for digest in wanted {
        named.entry(digest.clone()).or_insert(now);
    }
}
