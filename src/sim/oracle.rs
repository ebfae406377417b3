//! The best schedule known for nodes whose future is known.
//!
//! The problem (one link, shared layers, pods that need several images) contains single-machine
//! scheduling with weighted completion times over shared jobs, which is NP-hard: this searches. Each
//! node is tried alone, in the same simulator, under several rules and then small changes of the best;
//! links couple nodes only through the cache's uplink, which is checked by one run of all together.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::time::Timestamp;
use crate::sim::agent::{CONCURRENCY, Schedule};
use crate::sim::facts::{Facts, ImageId, LayerId, NodeId, PodId};
use crate::sim::world::{Notes, Planner, Stage, World};

/// Schedules tried per node beyond the rules: bounds a replay's time, not measured against more.
const TRIES: usize = 80;

/// A wait in all that is not worth a further try, in seconds.
const GOOD_ENOUGH_S: f64 = 0.01;

/// Plays the scenario with the best schedules found.
#[must_use]
pub fn run(stage: Stage<'_>) -> Notes {
    World::new(stage, Planner::Listed(schedules(stage))).run()
}

/// The best schedule found for every node that has something to gain.
#[must_use]
pub fn schedules(stage: Stage<'_>) -> BTreeMap<NodeId, Schedule> {
    let facts = stage.facts;
    let new = (0..facts.nodes.len()).filter(|node| facts.nodes[*node].new);
    let best = new.filter_map(|node| {
        let alone = facts.only(node);
        let search = Search::new(Stage {
            facts: &alone,
            signals: &[],
            ..stage
        });
        Some((node, search.best()?))
    });
    best.collect()
}

/// The search on one node, which is number 0 of its world.
struct Search<'a> {
    stage: Stage<'a>,
    /// Scored pods in the order of need.
    pods: Vec<PodId>,
}

struct Tried {
    wait_s: f64,
    schedule: Schedule,
}

// === impl Search ===

impl<'a> Search<'a> {
    fn new(stage: Stage<'a>) -> Self {
        let facts = stage.facts;
        let mut pods: Vec<PodId> = (0..facts.pods.len())
            .filter(|pod| facts.is_scored(*pod))
            .collect();
        pods.sort_by_key(|pod| (facts.waits_from(*pod), *pod));
        Self { stage, pods }
    }

    /// `None` where nobody waits even without an agent.
    fn best(&self) -> Option<Schedule> {
        if self.pods.is_empty() || self.wait_s(Planner::Cache) < GOOD_ENOUGH_S {
            return None;
        }
        let mut best: Option<Tried> = None;
        for images in self.rules() {
            for (concurrency, yields) in [(1, false), (1, true), (CONCURRENCY, false)] {
                self.try_one(
                    Schedule {
                        images: images.clone(),
                        concurrency,
                        yields,
                    },
                    &mut best,
                );
            }
        }
        let mut best = best?;
        self.improve(&mut best);
        Some(best.schedule)
    }

    /// Moves single images to other places while that helps, earlier needs first.
    fn improve(&self, best: &mut Tried) {
        let mut tries = TRIES;
        loop {
            let before = best.wait_s;
            let count = best.schedule.images.len();
            // Near places first: a swap of neighbours is the smallest change.
            for distance in 1..count {
                for from in 0..count - distance {
                    if tries == 0 || best.wait_s < GOOD_ENOUGH_S {
                        return;
                    }
                    tries -= 1;
                    let mut schedule = best.schedule.clone();
                    let image = schedule.images.remove(from + distance);
                    schedule.images.insert(from, image);
                    let wait_s = self.wait_of(&schedule);
                    if wait_s < best.wait_s {
                        *best = Tried { wait_s, schedule };
                    }
                }
            }
            if best.wait_s >= before {
                return;
            }
        }
    }

    fn try_one(&self, schedule: Schedule, best: &mut Option<Tried>) {
        let wait_s = self.wait_of(&schedule);
        if best.as_ref().is_none_or(|best| wait_s < best.wait_s) {
            *best = Some(Tried { wait_s, schedule });
        }
    }

    fn wait_of(&self, schedule: &Schedule) -> f64 {
        self.wait_s(Planner::Listed([(0, schedule.clone())].into()))
    }

    fn wait_s(&self, planner: Planner) -> f64 {
        let notes = World::new(self.stage, planner).run();
        let wait = |pod: &PodId| {
            let ready = notes.pods[*pod].map_or(Timestamp::MAX, |note| note.ready);
            let from = self.stage.facts.waits_from(*pod);
            ready.secs_since(from).max(0.0)
        };
        self.pods.iter().map(wait).sum()
    }

    /// Orders of the images that pods need, by rules known from scheduling.
    fn rules(&self) -> Vec<Vec<ImageId>> {
        let facts = self.stage.facts;
        // Earliest need first (EDF), as the kubelet would.
        let mut by_need: Vec<ImageId> = Vec::new();
        let mut users: BTreeMap<ImageId, f64> = BTreeMap::new();
        for &pod in &self.pods {
            let images: BTreeSet<ImageId> =
                facts.pods[pod].images.iter().flatten().copied().collect();
            for &image in facts.pods[pod].images.iter().flatten() {
                if !by_need.contains(&image) {
                    by_need.push(image);
                }
            }
            for image in images {
                *users.entry(image).or_default() += 1.0;
            }
        }
        // Shortest first (SPT), and per waiting pod (Smith's rule, WSPT).
        let bytes = |image: &ImageId| missing_bytes(facts, [*image], &BTreeSet::new());
        let mut shortest = by_need.clone();
        shortest.sort_by(|a, b| bytes(a).total_cmp(&bytes(b)));
        let mut weighted = by_need.clone();
        weighted.sort_by(|a, b| (bytes(a) / users[a]).total_cmp(&(bytes(b) / users[b])));
        let cheapest_pods = self.cheapest_pods();
        vec![by_need, shortest, weighted, cheapest_pods]
    }

    /// The pod that lacks the fewest bytes beside those chosen already, again and again.
    fn cheapest_pods(&self) -> Vec<ImageId> {
        let facts = self.stage.facts;
        let mut left = self.pods.clone();
        let mut chosen: Vec<ImageId> = Vec::new();
        let mut layers: BTreeSet<LayerId> = BTreeSet::new();
        while !left.is_empty() {
            let cost = |pod: PodId| {
                let images = facts.pods[pod].images.iter().flatten().copied();
                missing_bytes(facts, images, &layers)
            };
            let costs: Vec<f64> = left.iter().map(|pod| cost(*pod)).collect();
            let cheapest = (0..left.len())
                .min_by(|a, b| costs[*a].total_cmp(&costs[*b]))
                .unwrap_or(0);
            let pod = left.remove(cheapest);
            for &image in facts.pods[pod].images.iter().flatten() {
                if !chosen.contains(&image) {
                    chosen.push(image);
                }
            }
            layers.extend(facts.layers_of(pod));
        }
        chosen
    }
}

/// Bytes of images' layers that node 0 does not hold and that are not among `chosen`.
fn missing_bytes(
    facts: &Facts,
    images: impl IntoIterator<Item = ImageId>,
    chosen: &BTreeSet<LayerId>,
) -> f64 {
    let holds = &facts.nodes[0].holds;
    let layers: BTreeSet<LayerId> = images
        .into_iter()
        .flat_map(|image| facts.image(image).layers.iter().copied())
        .collect();
    let missing = |layer: &&LayerId| !holds.contains(layer) && !chosen.contains(layer);
    let bytes = layers
        .iter()
        .filter(missing)
        .map(|layer| facts.bytes(*layer));
    bytes.sum()
}
