//! Pods that look for a node, shared out over the room that comes.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use statrs::function::gamma::ln_gamma;

use crate::domain::image::ImageRef;
use crate::domain::node::{NodeShape, Resources};
use crate::domain::plan::{Priority, Reason};
use crate::domain::workload::{PodNeeds, WorkloadRef};

/// One pod template, kept once however many pods have it.
///
/// `print` is a fingerprint of the content: it gives templates an order that does not depend on
/// who was seen first.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// Fingerprint of `needs`.
    pub print: u64,
    /// What one pod needs.
    pub needs: PodNeeds,
    /// Its images, each once, in the order the kubelet needs them.
    pub images: Arc<[ImageRef]>,
}

/// Pods of one kind that look for a node.
#[derive(Clone, Debug)]
pub struct Group {
    /// What one of them needs.
    pub template: Arc<Template>,
    /// Whose they are.
    pub owner: Option<Arc<WorkloadRef>>,
    /// How many (expected).
    pub count: f64,
    /// Probability that they come to look for a node at all, independent of where they land.
    pub chance: f64,
    /// Why they are counted.
    pub reason: Reason,
    /// Whether somebody waits already.
    pub priority: Priority,
}

/// Room for pods: a node that comes, or came and is not Ready yet.
#[derive(Clone, Debug)]
pub struct Room {
    /// Shape of the node, as far as known.
    pub shape: Arc<NodeShape>,
    /// Whether what the shape does not know may still turn up.
    pub partial: bool,
    /// What is still free; missing where nothing is known of the machine.
    pub free: Option<Resources>,
}

/// What one room gets of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Landing {
    /// Probability that at least one pod of the group lands here.
    pub any: f64,
    /// Expected number of pods that land here.
    pub pods: f64,
}

// === impl Template ===

impl Template {
    /// A template of these needs under this fingerprint.
    #[must_use]
    pub fn new(print: u64, needs: PodNeeds) -> Self {
        let mut images: Vec<ImageRef> = Vec::with_capacity(needs.images.len());
        for use_ in &needs.images {
            if !images.contains(&use_.image) {
                images.push(use_.image.clone());
            }
        }
        Self {
            print,
            needs,
            images: images.into(),
        }
    }

    /// The fingerprint of `needs`: equal needs have equal prints in every process of one build.
    #[must_use]
    pub fn print_of(needs: &PodNeeds) -> u64 {
        let mut hasher = DefaultHasher::new();
        needs.hash(&mut hasher);
        hasher.finish()
    }
}

impl PartialOrd for Template {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Template {
    fn cmp(&self, other: &Self) -> Ordering {
        self.print.cmp(&other.print)
    }
}

impl Room {
    /// Whether a pod of the group could run here if the room were empty of other newcomers.
    #[must_use]
    pub fn admits(&self, needs: &PodNeeds) -> bool {
        self.shape.admits(needs, self.partial)
            && self.free.as_ref().is_none_or(|free| fits(needs, free))
    }
}

/// How many pods with these requests `free` holds, a fraction below one included.
#[must_use]
pub fn capacity_in_pods(needs: &PodNeeds, free: &Resources) -> f64 {
    let request = &needs.requests;
    let mut least = f64::INFINITY;
    let mut limit = |wanted: u64, have: u64| {
        if wanted > 0 {
            least = least.min(have as f64 / wanted as f64);
        }
    };
    limit(request.cpu_milli, free.cpu_milli);
    limit(request.memory.0, free.memory.0);
    limit(request.pods.max(1), free.pods);
    for (name, amount) in &request.extended {
        limit(*amount, free.extended.get(name).copied().unwrap_or(0));
    }
    least
}

fn fits(needs: &PodNeeds, free: &Resources) -> bool {
    capacity_in_pods(needs, free) >= 1.0
}

/// Shares so many pods of each group out over the rooms, first room first: `landings[room][group]`.
///
/// Within a room, groups that it admits get room in proportion to what they still ask for, because
/// the scheduler takes waiting pods in an order that nobody outside knows. The probability that a
/// group of m among N waiting pods is drawn at least once in A draws is hypergeometric:
/// 1 - C(N-m, A) / C(N, A). `race` is the probability that a later room is filled first.
#[must_use]
pub fn share(groups: &[Group], counts: &[f64], rooms: &[Room], race: f64) -> Vec<Vec<Landing>> {
    let mut left = counts.to_vec();
    // Rooms of one wave are alike: the last answer often holds for the next room.
    let mut last: Option<(Vec<bool>, &Option<Resources>, Vec<Landing>)> = None;
    rooms
        .iter()
        .enumerate()
        .map(|(position, room)| {
            let admitted: Vec<bool> = groups
                .iter()
                .map(|group| room.admits(&group.template.needs))
                .collect();
            let in_turn = fill(groups, &admitted, &left, room);
            for (rest, landing) in left.iter_mut().zip(&in_turn) {
                *rest = (*rest - landing.pods).max(0.0);
            }
            if position == 0 {
                return in_turn;
            }
            let alone = match last.take() {
                Some(known) if known.0 == admitted && *known.1 == room.free => known.2,
                _ => fill(groups, &admitted, counts, room),
            };
            let (_, _, alone) = last.insert((admitted, &room.free, alone));
            in_turn
                .iter()
                .zip(&*alone)
                .map(|(turn, alone)| Landing {
                    any: turn.any.max(race * alone.any),
                    pods: turn.pods.max(race * alone.pods),
                })
                .collect()
        })
        .collect()
}

fn fill(groups: &[Group], admitted: &[bool], left: &[f64], room: &Room) -> Vec<Landing> {
    let wanting = || {
        groups
            .iter()
            .zip(admitted)
            .zip(left)
            .filter(|((_, admitted), left)| **admitted && **left > 0.0)
            .map(|((group, _), left)| (group, *left))
    };
    let load = room.free.as_ref().map_or(0.0, |free| load(wanting(), free));
    let part = if load > 1.0 { 1.0 / load } else { 1.0 };
    let urn = Urn::new(wanting().map(|(_, left)| left).sum(), part);
    groups
        .iter()
        .zip(admitted)
        .zip(left)
        .map(|((_, admitted), left)| {
            if !admitted || *left <= 0.0 {
                return Landing::default();
            }
            Landing {
                any: urn.drawn_at_least_once(*left),
                pods: part * left,
            }
        })
        .collect()
}

/// The largest part of any resource that the groups ask for; above 1 they do not all fit.
fn load<'a>(groups: impl Iterator<Item = (&'a Group, f64)>, free: &Resources) -> f64 {
    let (mut cpu, mut memory, mut pods) = (0.0, 0.0, 0.0);
    let mut extended = BTreeMap::<&str, f64>::new();
    for (group, count) in groups {
        let request = &group.template.needs.requests;
        cpu += count * request.cpu_milli as f64;
        memory += count * request.memory.0 as f64;
        pods += count * request.pods.max(1) as f64;
        for (name, amount) in &request.extended {
            *extended.entry(name).or_default() += count * *amount as f64;
        }
    }

    let part = |asked: f64, have: u64| {
        if asked > 0.0 {
            asked / (have as f64).max(1e-9)
        } else {
            0.0
        }
    };
    let mut most = part(cpu, free.cpu_milli)
        .max(part(memory, free.memory.0))
        .max(part(pods, free.pods));
    for (name, asked) in extended {
        most = most.max(part(asked, free.extended.get(name).copied().unwrap_or(0)));
    }
    most
}

/// Pods that a part of is drawn for one room.
struct Urn {
    total: f64,
    draws: f64,
    /// What is the same for all groups, if one asks: a logarithm of the gamma function takes 20 ns.
    logs: OnceCell<(f64, f64)>,
}

// === impl Urn ===

impl Urn {
    fn new(total: f64, part: f64) -> Self {
        Self {
            total,
            draws: part * total,
            logs: OnceCell::new(),
        }
    }

    /// 1 - C(total - marked, draws) / C(total, draws), continued to real numbers.
    fn drawn_at_least_once(&self, marked: f64) -> f64 {
        let (total, draws) = (self.total, self.draws);
        let marked = marked.min(total);
        if marked <= 0.0 || draws <= 0.0 {
            return 0.0;
        }
        let missed = total - marked - draws;
        if missed <= -1.0 + 1e-9 {
            return 1.0;
        }
        let logs = || {
            (
                ln_gamma((total - draws).max(0.0) + 1.0),
                ln_gamma(total + 1.0),
            )
        };
        let (undrawn, all) = *self.logs.get_or_init(logs);
        let log = ln_gamma(total - marked + 1.0) + undrawn - all - ln_gamma(missed + 1.0);
        // A fraction of a pod is drawn with that fraction's probability at most.
        (1.0 - log.exp()).clamp(0.0, 1.0).min(marked * 2.0).min(1.0)
    }
}
