//! The scheduler: oldest pods first, on the node with the best score that has room.
//!
//! A class of pods that fits nowhere is not tried again before some node has more room, and nodes
//! are looked up by their free CPU: the work for a pod does not grow with the cluster.

use std::cmp::Reverse;

use crate::compose::amount::{CPU, MEMORY};
use crate::compose::cast::ClassId;
use crate::compose::spec::Topology;
use crate::compose::tape::Stamp;
use crate::compose::world::state::{NodeId, PodId};
use crate::compose::world::{Due, World};

/// Nodes of a pool and zone that are scored, the emptiest: kube-scheduler scores a sample too.
const SCORED: usize = 12;

/// Nodes that are looked at when the emptiest have no room in memory or pods.
const LOOKED_AT: usize = 400;

/// ImageLocality's thresholds, in bytes (kube-scheduler): below 23 MB nothing, full marks from 1 GB
/// for each container.
const LOCALITY: (f64, f64) = (23e6, 1e9);

impl World<'_> {
    /// A pass comes soon: kube-scheduler takes some milliseconds for a pod.
    pub(super) fn wake_scheduler(&mut self) {
        if !self.scheduling {
            self.scheduling = true;
            let delay = 0.01 + 0.04 * self.draws.scheduler.unit();
            self.after(delay, Due::Schedule);
        }
    }

    /// One pass over all classes that wait.
    pub(super) fn schedule(&mut self) {
        self.scheduling = false;
        let mut classes: Vec<ClassId> = self.waiting.keys().copied().collect();
        classes.sort_by_key(|class| {
            let first = self.waiting[class].front();
            (first.map(|pod| self.pods[*pod].created), *class)
        });
        let mut told = false;
        for class in classes {
            self.place_all(class);
            told |= self.say_unschedulable(class);
        }
        if told && self.has_claims() {
            self.wake_batch();
        }
    }

    fn place_all(&mut self, class: ClassId) {
        if self.nowhere[class] == Some(self.room_version) {
            return;
        }
        while let Some(pod) = self
            .waiting
            .get(&class)
            .and_then(|queue| queue.front().copied())
        {
            let Some(node) = self.find_node(class) else {
                self.nowhere[class] = Some(self.room_version);
                return;
            };
            if let Some(queue) = self.waiting.get_mut(&class) {
                queue.pop_front();
                if queue.is_empty() {
                    self.waiting.remove(&class);
                }
            }
            self.bind(pod, node);
        }
    }

    /// Pods that wait are told so once; new ones stand at the end.
    fn say_unschedulable(&mut self, class: ClassId) -> bool {
        let Some(queue) = self.waiting.get(&class) else {
            return false;
        };
        let fresh = queue
            .iter()
            .rev()
            .take_while(|pod| !self.pods[**pod].unschedulable);
        let fresh: Vec<PodId> = fresh.copied().collect();
        for pod in fresh.iter().rev() {
            self.pods[*pod].unschedulable = true;
            if self.tape.is_live() {
                self.summary.pods_without_room += 1;
                let fact = self.pending(*pod);
                self.say_pod(*pod, "pending", Stamp::Second, fact);
            }
        }
        !fresh.is_empty()
    }

    /// The best of the nodes that take one more pod of the class.
    fn find_node(&mut self, class: ClassId) -> Option<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for (pool, places) in self.open.iter().enumerate() {
            for (place, nodes) in places.iter().enumerate() {
                if !self.cast.classes[class].admits[pool][place] {
                    continue;
                }
                // Below this much free CPU no node needs to be looked at.
                let least = (self.cast.classes[class].ask.get(CPU), 0);
                let emptiest = nodes.range(least..).rev().take(LOOKED_AT);
                let fitting = emptiest
                    .map(|(_, node)| *node)
                    .filter(|node| self.takes(class, *node));
                found.extend(fitting.take(SCORED));
            }
        }
        let most = |count: fn(&Self, ClassId, NodeId) -> u32| {
            found
                .iter()
                .map(|node| count(self, class, *node))
                .max()
                .unwrap_or(0)
        };
        let (hosts, zones) = (most(Self::on_host), most(Self::on_zone));
        let score = |node: NodeId| {
            let apart =
                |count: u32, most: u32| 100.0 * (1.0 - f64::from(count) / f64::from(most.max(1)));
            // Weights of the default plugins: resources 1, balance 1, locality 1, spread 2.
            self.resources(class, node)
                + self.locality(class, node)
                + apart(self.on_host(class, node), hosts)
                + apart(self.on_zone(class, node), zones)
        };
        let best = found
            .iter()
            .map(|node| ((score(*node) * 1e3) as i64, Reverse(*node)));
        best.max().map(|(_, Reverse(node))| node)
    }

    /// Whether a node takes one more pod of the class.
    pub(super) fn takes(&self, class: ClassId, node: NodeId) -> bool {
        let found = &self.cast.classes[class];
        let spec = &self.cast.works[found.work].spec;
        found.ask.fits(&self.nodes[node].free)
            && spec
                .spread
                .iter()
                .filter(|spread| spread.hard)
                .all(|spread| match spread.over {
                    // The least count over hosts is taken as 0: there is nearly always an empty one.
                    Topology::Host => self.on_host(class, node) < spread.skew,
                    Topology::Zone => {
                        let least = self.least_in_a_zone(class);
                        self.on_zone(class, node) < least + spread.skew
                    }
                })
    }

    fn on_host(&self, class: ClassId, node: NodeId) -> u32 {
        let work = self.cast.classes[class].work;
        self.nodes[node].by_work.get(&work).copied().unwrap_or(0)
    }

    fn on_zone(&self, class: ClassId, node: NodeId) -> u32 {
        let work = self.cast.classes[class].work;
        self.in_zone[work][self.nodes[node].zone]
    }

    /// The least count over the zones in which the class has a node.
    fn least_in_a_zone(&self, class: ClassId) -> u32 {
        let found = &self.cast.classes[class];
        let zones = self.open.iter().enumerate().flat_map(|(pool, places)| {
            let places = places.iter().enumerate();
            let open = places
                .filter(move |(place, nodes)| found.admits[pool][*place] && !nodes.is_empty());
            open.map(move |(place, _)| self.cast.pools[pool].zones[place])
        });
        zones
            .map(|zone| self.in_zone[found.work][zone])
            .min()
            .unwrap_or(0)
    }

    /// LeastAllocated and BalancedAllocation, 0 to 200.
    fn resources(&self, class: ClassId, node: NodeId) -> f64 {
        let node = &self.nodes[node];
        let room = &self.cast.pools[node.pool].room;
        let ask = &self.cast.classes[class].ask;
        let left = |place: usize| {
            let left = node.free.get(place).saturating_sub(ask.get(place));
            left as f64 / (room.get(place) as f64).max(1.0)
        };
        let (cpu, memory) = (left(CPU), left(MEMORY));
        50.0 * (cpu + memory) + 100.0 * (1.0 - (cpu - memory).abs() / 2.0)
    }

    /// ImageLocality, 0 to 100: bytes of the pod's images that the node has.
    fn locality(&self, class: ClassId, node: NodeId) -> f64 {
        let node = &self.nodes[node];
        let images = &self.cast.classes[class].images;
        let arch = &self.cast.pools[node.pool].spec.arch;
        let there = images
            .iter()
            .filter(|image| node.images.contains_key(image));
        let bytes: u64 = there.map(|image| self.cast.images.size(*image, arch)).sum();
        let most = LOCALITY.1 * images.len().max(1) as f64;
        100.0 * ((bytes as f64).clamp(LOCALITY.0, most) - LOCALITY.0) / (most - LOCALITY.0)
    }

    /// Takes a node out of the index before its room changes.
    pub(super) fn close_index(&mut self, node: NodeId) {
        let found = &self.nodes[node];
        if found.is_open() {
            self.open[found.pool][found.place].remove(&(found.free.get(CPU), node));
        }
    }

    /// Puts it back.
    pub(super) fn open_index(&mut self, node: NodeId) {
        let found = &self.nodes[node];
        if found.is_open() {
            self.open[found.pool][found.place].insert((found.free.get(CPU), node));
        }
    }
}
