//! What both kinds of autoscalers share: who waits, what is on its way, which nodes could go.

use std::collections::BTreeMap;

use crate::compose::amount::{Amount, CPU};
use crate::compose::cast::{ClassId, PoolId};
use crate::compose::spec::{Consolidation, Kind};
use crate::compose::world::World;
use crate::compose::world::pack::{self, Bin, Wanted};
use crate::compose::world::state::{NodeId, PodId};

/// Nodes that are looked at for a place of one pod of a node that could go.
const PLACES_TRIED: usize = 30;

impl World<'_> {
    /// Pods that fit nowhere, and not on nodes that are on their way, largest first.
    pub(super) fn unplaced(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (class, queue) in &self.waiting {
            let told = queue
                .iter()
                .take_while(|pod| self.pods[**pod].unschedulable);
            let count = told.count() as u32;
            if count > 0 {
                wanted.push(self.wanted(*class, count));
            }
        }
        for buffer in &self.buffers {
            let missing = buffer
                .count
                .saturating_sub(self.free_places(buffer.class, buffer.count));
            if missing > 0 {
                wanted.push(self.wanted(buffer.class, missing));
            }
        }
        if wanted.is_empty() {
            return wanted;
        }
        wanted.sort_by(|a, b| {
            b.ask
                .get(CPU)
                .cmp(&a.ask.get(CPU))
                .then(a.class.cmp(&b.class))
        });
        let mut coming = self.coming();
        pack::fill(&mut coming, wanted, |class, pool, place| {
            self.cast.classes[class].admits[pool][place]
        })
    }

    fn wanted(&self, class: ClassId, count: u32) -> Wanted {
        Wanted {
            class,
            ask: self.cast.classes[class].ask.clone(),
            count,
        }
    }

    /// Places for pods of a class on nodes that are there, up to `most`.
    fn free_places(&self, class: ClassId, most: u32) -> u32 {
        let found = &self.cast.classes[class];
        let mut places = 0;
        for (pool, open) in self.open.iter().enumerate() {
            for (place, nodes) in open.iter().enumerate() {
                if !found.admits[pool][place] {
                    continue;
                }
                for (_, node) in nodes.range((found.ask.get(CPU), 0)..) {
                    places += found.ask.times(&self.nodes[*node].free);
                    if places >= most {
                        return most;
                    }
                }
            }
        }
        places
    }

    /// Nodes that are asked for, or there and not Ready.
    fn coming(&self) -> Vec<Bin> {
        let mut bins = Vec::new();
        for (pool, state) in self.pools.iter().enumerate() {
            for claim in &state.claims {
                bins.push(Bin {
                    pool,
                    place: self.claims[*claim].place,
                    free: self.cast.pools[pool].room_for_pods.clone(),
                });
            }
            // Nodes come in the order of their numbers: the ones that are not Ready are the last.
            for node in state.nodes.iter().rev().take(2000) {
                if self.nodes[*node].ready.is_none() {
                    bins.push(Bin {
                        pool,
                        place: self.nodes[*node].place,
                        free: self.nodes[*node].free.clone(),
                    });
                }
            }
        }
        bins
    }

    /// Whether a pool may grow now.
    pub(super) fn may_grow(&self, pool: PoolId) -> bool {
        let waits = self.pools[pool]
            .back_off
            .is_some_and(|until| until > self.now);
        !waits && self.pools[pool].size() < self.cast.pools[pool].spec.max
    }

    /// The wanted pods that a pool's nodes take, and the places of its zones that all of them admit.
    pub(super) fn for_pool(&self, pool: PoolId, wanted: &[Wanted]) -> (Vec<Wanted>, Vec<bool>) {
        let admits = |one: &Wanted| &self.cast.classes[one.class].admits[pool];
        let mut places = vec![true; self.cast.pools[pool].zones.len()];
        let mut taken = Vec::new();
        for one in wanted {
            let common: Vec<bool> = places
                .iter()
                .zip(admits(one))
                .map(|(a, b)| *a && *b)
                .collect();
            if common.iter().any(|place| *place) {
                places = common;
                taken.push(one.clone());
            }
        }
        (taken, places)
    }

    /// Pods of a class that wait, the first so many.
    pub(super) fn first_waiting(&self, class: ClassId, count: u32) -> Vec<PodId> {
        let queue = self.waiting.get(&class);
        queue.map_or_else(Vec::new, |queue| {
            queue.iter().take(count as usize).copied().collect()
        })
    }

    /// Whether an Event about a pod may be written now: a bucket of tokens.
    pub(super) fn may_say(&mut self, factor: f64) -> bool {
        let rate = self.cast.watch.pod_events * factor;
        let since = self.now.secs_since(self.event_at).max(0.0);
        self.event_at = self.now;
        self.event_tokens = (self.event_tokens + since * rate).min(rate * 2.0);
        if self.event_tokens < 1.0 {
            return false;
        }
        self.event_tokens -= 1.0;
        true
    }

    /// Pods of a node that are not DaemonSets'.
    fn own_pods(&self, node: NodeId) -> impl Iterator<Item = PodId> + '_ {
        let pods = self.nodes[node].pods.iter().copied();
        pods.filter(|pod| {
            let work = self.cast.classes[self.pods[*pod].class].work;
            self.cast.works[work].spec.kind != Kind::DaemonSet
        })
    }

    /// Updates since when each node could go; returns those that have been so long enough, emptiest
    /// first, each with whether it has no pods.
    pub(super) fn goers(&mut self) -> Vec<(NodeId, bool)> {
        if self.cast.autoscaler.consolidation == Consolidation::Never {
            return Vec::new();
        }
        let mut candidates: Vec<(i64, NodeId, bool)> = Vec::new();
        for pool in 0..self.pools.len() {
            let floor = self.cast.pools[pool].spec.min as usize;
            let many = self.pools[pool].nodes.len() > floor;
            let nodes: Vec<NodeId> = self.pools[pool].nodes.iter().copied().collect();
            for node in nodes {
                let share = self.used(node);
                let idle = many && self.nodes[node].ready.is_some();
                if !idle || share >= self.cast.autoscaler.utilisation {
                    self.nodes[node].unneeded = None;
                    continue;
                }
                let empty = self.own_pods(node).next().is_none();
                candidates.push(((share * 1e6) as i64, node, empty));
            }
        }
        candidates.sort_unstable();
        let mut moved: BTreeMap<NodeId, Amount> = BTreeMap::new();
        let mut tried = 0;
        let mut goers = Vec::new();
        let wait = self.cast.autoscaler.unneeded.0.as_secs_f64();
        for (_, node, empty) in candidates {
            let underused = self.cast.autoscaler.consolidation == Consolidation::Underused;
            // `--scale-down-non-empty-candidates-count` is 30.
            let goes = !moved.contains_key(&node)
                && (empty || (underused && tried < 30 && self.can_move(node, &mut moved)));
            tried += u32::from(!empty);
            if !goes {
                self.nodes[node].unneeded = None;
                continue;
            }
            let since = *self.nodes[node].unneeded.get_or_insert(self.now);
            if self.now.secs_since(since) >= wait {
                goers.push((node, empty));
            }
        }
        goers
    }

    /// Requested over allocatable.
    fn used(&self, node: NodeId) -> f64 {
        let room = &self.cast.pools[self.nodes[node].pool].room;
        let mut used = room.clone();
        used.take(&self.nodes[node].free, 1);
        used.share(room)
    }

    /// Whether all pods of a node find a place elsewhere; the places are then taken in `moved`.
    fn can_move(&self, node: NodeId, moved: &mut BTreeMap<NodeId, Amount>) -> bool {
        let mut taken: Vec<(NodeId, Amount)> = Vec::new();
        for pod in self.own_pods(node) {
            let class = self.pods[pod].class;
            let ask = &self.cast.classes[class].ask;
            let free = |other: NodeId, taken: &[(NodeId, Amount)]| {
                let mine = taken.iter().rev().find(|(id, _)| *id == other);
                let mine = mine.map(|(_, free)| free).or_else(|| moved.get(&other));
                mine.unwrap_or(&self.nodes[other].free).clone()
            };
            let admitted = self.open.iter().enumerate().flat_map(|(pool, places)| {
                let places = places.iter().enumerate();
                let places =
                    places.filter(move |(place, _)| self.cast.classes[class].admits[pool][*place]);
                places.flat_map(|(_, nodes)| {
                    nodes
                        .range((ask.get(CPU), 0)..)
                        .take(PLACES_TRIED)
                        .map(|(_, node)| *node)
                })
            });
            let mut others = admitted.filter(|other| *other != node);
            let Some((other, mut left)) = others.find_map(|other| {
                let left = free(other, &taken);
                (ask.fits(&left) && self.takes(class, other)).then_some((other, left))
            }) else {
                return false;
            };
            left.take(ask, 1);
            taken.push((other, left));
        }
        moved.extend(taken);
        true
    }
}
