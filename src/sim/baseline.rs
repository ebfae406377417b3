//! Planners without an engine: an operator's list, what ran last, the right images untimed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use crate::domain::image::ImageRef;
use crate::sim::agent::{CONCURRENCY, Schedule};
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId, PodId};
use crate::sim::score::used_pods;

/// Images on an operator's list, and in the memory of a pool: the top 20 of 156 apps are 72 % of the
/// pods of the one real trace with app ids.
pub const LISTED: usize = 20;

/// Part of the smallest node's disk that an operator gives to a list: the kubelet's garbage collection
/// begins at 85 %, and what the list does not name has to fit beside it.
const DISK_SHARE: f64 = 0.5;

/// What ran most when the scenario began, on every node: what an operator of kube-fledged would write
/// that day, and not touch again. Nothing where nothing ran.
#[must_use]
pub fn operators_list(facts: &Facts) -> BTreeMap<NodeId, Schedule> {
    let names = popular(facts);
    let on_node = |(node, fact): (NodeId, &crate::sim::facts::NodeFact)| {
        let arch = fact.arch.as_deref();
        let images = names.iter();
        let images = images.filter_map(|name| facts.catalogue.variant(name, arch));
        let images: Vec<ImageId> = images.collect();
        (!images.is_empty()).then(|| (node, list(images)))
    };
    let nodes = facts.nodes.iter().enumerate();
    nodes.filter_map(on_node).collect()
}

/// Names by the number of pods that ran them at the start, as many as fit.
fn popular(facts: &Facts) -> Vec<ImageRef> {
    let mut counts: BTreeMap<&ImageRef, (usize, ImageId)> = BTreeMap::new();
    for pod in facts.pods.iter().filter(|pod| pod.resident) {
        let images: BTreeSet<ImageId> = pod.images.iter().flatten().copied().collect();
        for image in images {
            let count = counts.entry(&facts.image(image).name);
            count.or_insert((0, image)).0 += 1;
        }
    }
    let mut ranked: Vec<(&ImageRef, usize, ImageId)> = counts
        .into_iter()
        .map(|(name, (count, image))| (name, count, image))
        .collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let disks = facts.nodes.iter().map(|node| node.world.disk.0);
    let mut room = DISK_SHARE * disks.min().unwrap_or(0) as f64;
    let mut listed = Vec::new();
    let mut layers: HashSet<LayerId> = HashSet::new();
    for (name, _, image) in ranked {
        let own = &facts.image(image).layers;
        let more = own.iter().filter(|layer| !layers.contains(*layer));
        let bytes: f64 = more.map(|layer| facts.bytes(*layer)).sum();
        if listed.len() < LISTED && bytes <= room {
            room -= bytes;
            layers.extend(own);
            listed.push(name.clone());
        }
    }
    listed
}

/// For every new node the images that its pods will need within the hour, most pods per missing byte
/// first (Smith's rule): no knowledge of when a node comes or a pod is bound.
#[must_use]
pub fn right_images(facts: &Facts) -> BTreeMap<NodeId, Schedule> {
    let new = (0..facts.nodes.len()).filter(|node| facts.nodes[*node].new);
    let needed = new.map(|node| (node, list(by_pods_per_byte(facts, node))));
    needed
        .filter(|(_, schedule)| !schedule.images.is_empty())
        .collect()
}

fn by_pods_per_byte(facts: &Facts, node: NodeId) -> Vec<ImageId> {
    let holds = &facts.nodes[node].holds;
    let mut users: BTreeMap<ImageId, f64> = BTreeMap::new();
    for pod in used_pods(facts, node) {
        let images: BTreeSet<ImageId> = facts.pods[pod].images.iter().flatten().copied().collect();
        for image in images {
            *users.entry(image).or_default() += 1.0;
        }
    }
    let missing = |image: ImageId| -> f64 {
        let layers = facts.image(image).layers.iter();
        let layers = layers.filter(|layer| !holds.contains(*layer));
        layers.map(|layer| facts.bytes(*layer)).sum()
    };
    let mut ranked: Vec<(f64, ImageId)> = users
        .into_iter()
        .map(|(image, users)| (missing(image) / users, image))
        .filter(|(cost, _)| *cost > 0.0)
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().map(|(_, image)| image).collect()
}

fn list(images: Vec<ImageId>) -> Schedule {
    Schedule {
        images,
        concurrency: CONCURRENCY,
        yields: true,
    }
}

/// The distinct images that were started last, by pool.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Newest first.
    pools: BTreeMap<String, VecDeque<ImageRef>>,
}

// === impl Recent ===

impl Recent {
    /// What a watcher knows at the start: pods that run already, in the order of binding.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let mut recent = Self::default();
        for pod in (0..facts.pods.len()).filter(|pod| facts.pods[*pod].resident) {
            recent.started(facts, pod);
        }
        recent
    }

    /// A pod started.
    pub fn started(&mut self, facts: &Facts, pod: PodId) {
        let fact = &facts.pods[pod];
        let pool = &facts.nodes[fact.node].pool;
        let images = self.pools.entry(pool.clone()).or_default();
        for &image in fact.images.iter().flatten() {
            let name = &facts.image(image).name;
            images.retain(|known| known != name);
            images.push_front(name.clone());
            images.truncate(LISTED);
        }
    }

    /// What a node's agent fetches, newest first.
    #[must_use]
    pub fn schedule(&self, facts: &Facts, node: NodeId) -> Schedule {
        let fact = &facts.nodes[node];
        let names = self.pools.get(&fact.pool).into_iter().flatten();
        let arch = fact.arch.as_deref();
        let images = names.filter_map(|name| facts.catalogue.variant(name, arch));
        list(images.collect())
    }
}
