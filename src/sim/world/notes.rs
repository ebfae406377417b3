//! What a run leaves for the scorer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId, PodId};
use crate::sim::world::{Sight, Whys};

/// A node's first minutes: the horizon of a plan's probabilities (the model's `window_s`).
pub const WINDOW: Duration = Duration::from_mins(10);

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

/// The first use of an image on a new node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct First {
    /// Where.
    pub node: NodeId,
    /// What.
    pub image: ImageId,
    /// The pod that was bound with it.
    pub pod: PodId,
    /// Since when the plan that counts for the node has named it, without a break until the binding.
    pub since: Option<Timestamp>,
    /// The probability that such a plan said last, if one ever named it.
    pub said: Option<f64>,
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
    /// Per node: since when pods can use a layer that was brought.
    pub present: Vec<BTreeMap<LayerId, Timestamp>>,
    /// First uses of images on new nodes, in the order of binding.
    pub firsts: Vec<First>,
    /// Per new node: probabilities of images that plans named, and that no pod has used yet.
    pub said: Vec<BTreeMap<ImageId, f64>>,
    /// What the engine thought of the targets that were watched.
    pub sights: Vec<Sight>,
    /// Why plans named images.
    pub whys: Whys,
    /// Since when the plan that counts for a node has named an image, without a break.
    named: Vec<BTreeMap<ImageId, Timestamp>>,
    pool_named: BTreeMap<String, BTreeMap<ImageId, Named>>,
    has_own: Vec<bool>,
    used: Vec<BTreeSet<ImageId>>,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    since: Timestamp,
    said: f64,
}

// === impl Notes ===

impl Notes {
    /// Empty notes for a scenario.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let nodes = facts.nodes.len();
        Self {
            pods: vec![None; facts.pods.len()],
            present: vec![BTreeMap::new(); nodes],
            said: vec![BTreeMap::new(); nodes],
            named: vec![BTreeMap::new(); nodes],
            has_own: vec![false; nodes],
            used: vec![BTreeSet::new(); nodes],
            ..Self::default()
        }
    }

    pub(super) fn moved(&mut self, span: Span) {
        if span.bytes > 0.0 {
            self.spans.push(span);
        }
    }

    /// A pool's plan is known to `nodes`, those of the pool that may follow it.
    pub(super) fn pool_plan(
        &mut self,
        pool: &str,
        plan: Option<&Plan>,
        nodes: &[NodeId],
        (facts, now): (&Facts, Timestamp),
    ) {
        let wanted = images(plan, facts);
        let before = self.pool_named.remove(pool).unwrap_or_default();
        let mine = |node: &&NodeId| !self.has_own[**node] && facts.nodes[**node].new;
        for &node in nodes.iter().filter(mine) {
            self.whys.inherit(node, pool);
            self.whys.follow(node, plan, facts);
        }
        self.whys.pool_plan(pool, plan, facts);
        let named = wanted.iter().map(|(&image, &said)| {
            let since = before.get(&image).map_or(now, |named| named.since);
            (image, Named { since, said })
        });
        let named: BTreeMap<ImageId, Named> = named.collect();
        for &node in nodes {
            if !self.has_own[node] && facts.nodes[node].new {
                self.inherit(node, &before);
                self.follow(node, &wanted, (facts, now));
            }
        }
        self.pool_named.insert(pool.to_owned(), named);
    }

    pub(super) fn node_plan(
        &mut self,
        node: NodeId,
        plan: Option<&Plan>,
        facts: &Facts,
        now: Timestamp,
    ) {
        if !facts.nodes[node].new {
            return;
        }
        self.inherit_own(node, facts);
        self.whys.inherit(node, &facts.nodes[node].pool);
        self.whys.follow(node, plan, facts);
        self.has_own[node] = plan.is_some();
        let wanted = if plan.is_some() {
            images(plan, facts)
        } else {
            let pool = self.pool_named.get(&facts.nodes[node].pool);
            let pool = pool.into_iter().flatten();
            pool.map(|(image, named)| (*image, named.said)).collect()
        };
        self.follow(node, &wanted, (facts, now));
    }

    /// A node's agent follows a list from now on. A list says no probability.
    pub(super) fn listed(&mut self, node: NodeId, list: &[ImageId], facts: &Facts, now: Timestamp) {
        self.has_own[node] = true;
        for image in list {
            self.named[node]
                .entry(facts.image(*image).same)
                .or_insert(now);
        }
    }

    pub(super) fn pod_bound(&mut self, pod: PodId, facts: &Facts) {
        let fact = &facts.pods[pod];
        let node = fact.node;
        if !facts.nodes[node].new || facts.nodes[node].ready.is_none() {
            return;
        }
        self.inherit_own(node, facts);
        self.whys.inherit(node, &facts.nodes[node].pool);
        for &image in fact.images.iter().flatten() {
            let image = facts.image(image).same;
            if !self.used[node].insert(image) {
                continue;
            }
            let in_time = window_end(facts, node).is_some_and(|end| fact.bound <= end);
            self.firsts.push(First {
                node,
                image,
                pod,
                since: self.named[node].get(&image).copied(),
                said: if in_time {
                    self.said[node].remove(&image)
                } else {
                    None
                },
            });
        }
    }

    fn inherit_own(&mut self, node: NodeId, facts: &Facts) {
        let pool = &facts.nodes[node].pool;
        if let Some(named) = self.pool_named.remove(pool) {
            self.inherit(node, &named);
            self.pool_named.insert(pool.clone(), named);
        }
    }

    /// A node begins with what its pool's plan named before it existed.
    fn inherit(&mut self, node: NodeId, pool: &BTreeMap<ImageId, Named>) {
        if !self.has_own[node] && self.named[node].is_empty() {
            for (&image, named) in pool {
                self.named[node].insert(image, named.since);
                if !self.used[node].contains(&image) {
                    self.said[node].entry(image).or_insert(named.said);
                }
            }
        }
    }

    fn follow(
        &mut self,
        node: NodeId,
        wanted: &BTreeMap<ImageId, f64>,
        (facts, now): (&Facts, Timestamp),
    ) {
        let named = &mut self.named[node];
        named.retain(|image, _| wanted.contains_key(image));
        let late = window_end(facts, node).is_some_and(|end| now > end);
        for (&image, &said) in wanted {
            named.entry(image).or_insert(now);
            if !late && !self.used[node].contains(&image) {
                self.said[node].insert(image, said);
            }
        }
    }
}

/// Until when a use on a node is what a plan's probability is about; `None` before it is Ready.
#[must_use]
pub fn window_end(facts: &Facts, node: NodeId) -> Option<Timestamp> {
    Some(facts.nodes[node].ready? + WINDOW)
}

fn images(plan: Option<&Plan>, facts: &Facts) -> BTreeMap<ImageId, f64> {
    let entries = plan.into_iter().flat_map(|plan| &plan.entries);
    let known = entries.filter_map(|entry| {
        let image = facts.catalogue.by_manifest.get(&entry.digest)?;
        Some((*image, entry.probability))
    });
    known.collect()
}
