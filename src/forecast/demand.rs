//! Pods that look for a node, shared out over the room that comes.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use statrs::function::gamma::ln_gamma;

use crate::domain::image::ImageRef;
use crate::domain::node::{NodeShape, Resources};
use crate::domain::plan::{Priority, Reason};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
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
    /// Since when the first of them waits; missing where nobody does.
    pub since: Option<Timestamp>,
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

/// Pods made within one step of Kubernetes' stamps are equally old.
pub const AS_OLD: Duration = Duration::from_secs(1);

/// How a room is filled: per group what lands there, given which groups it admits and how many pods of
/// each are left.
type Filling<'a> = dyn Fn(&[bool], &[f64], &Room) -> Vec<Landing> + 'a;

/// Shares so many pods of each group out over the rooms, first room first: `landings[room][group]`.
///
/// As far as nothing is known of the scheduler's order, groups that a room admits get room in proportion
/// to what they still ask for. The probability that a group of m among N waiting pods is drawn at least
/// once in A draws is hypergeometric: 1 - C(N-m, A) / C(N, A). As far as the scheduler is seen to take
/// the oldest or the youngest first (`lean`: [`Order::lean`](crate::forecast::order::Order::lean)), they
/// fill the room one age after the other.
/// `race` is the probability that a later room is filled first.
#[must_use]
pub fn share(
    groups: &[Group],
    counts: &[f64],
    rooms: &[Room],
    race: f64,
    lean: f64,
) -> Vec<Vec<Landing>> {
    let draw = |admitted: &[bool], left: &[f64], room: &Room| fill(groups, admitted, left, room);
    let drawn = share_by(&draw, groups, counts, (rooms, race));
    if lean == 0.0 || groups.len() < 2 {
        return drawn;
    }
    let mut line = equally_old(groups);
    if line.len() < 2 {
        return drawn;
    }
    if lean < 0.0 {
        line.reverse();
    }
    let queue = |admitted: &[bool], left: &[f64], room: &Room| {
        fill_in_line(&line, groups, (admitted, left), room)
    };
    let queued = share_by(&queue, groups, counts, (rooms, race));
    let known = lean.abs().min(1.0);
    let mix = |drawn: f64, queued: f64| drawn + known * (queued - drawn);
    let rooms = drawn.into_iter().zip(queued);
    rooms
        .map(|(drawn, queued)| {
            let both = drawn.into_iter().zip(queued);
            both.map(|(drawn, queued)| Landing {
                any: mix(drawn.any, queued.any),
                pods: mix(drawn.pods, queued.pods),
            })
            .collect()
        })
        .collect()
}

fn share_by(
    fill: &Filling<'_>,
    groups: &[Group],
    counts: &[f64],
    (rooms, race): (&[Room], f64),
) -> Vec<Vec<Landing>> {
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
            let in_turn = fill(&admitted, &left, room);
            for (rest, landing) in left.iter_mut().zip(&in_turn) {
                *rest = (*rest - landing.pods).max(0.0);
            }
            if position == 0 {
                return in_turn;
            }
            let alone = match last.take() {
                Some(known) if known.0 == admitted && *known.1 == room.free => known.2,
                _ => fill(&admitted, counts, room),
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

/// Places of groups, the oldest first; those that are [`AS_OLD`] as the first of them stand together.
fn equally_old(groups: &[Group]) -> Vec<Vec<usize>> {
    let mut line: Vec<usize> = (0..groups.len()).collect();
    line.sort_by_key(|at| groups[*at].since);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for at in line {
        let since = groups[at].since;
        let first = runs.last().map(|run| groups[run[0]].since);
        let as_old = |first: Option<Timestamp>| match (first, since) {
            (Some(first), Some(since)) => since <= first + AS_OLD,
            (first, since) => first == since,
        };
        match runs.last_mut() {
            Some(run) if first.is_some_and(as_old) => run.push(at),
            _ => runs.push(vec![at]),
        }
    }
    runs
}

/// Fills a room with one age after the other, each as far as there is room for whole pods of it; those of
/// one age by lot.
fn fill_in_line(
    line: &[Vec<usize>],
    groups: &[Group],
    (admitted, left): (&[bool], &[f64]),
    room: &Room,
) -> Vec<Landing> {
    let mut landings = vec![Landing::default(); groups.len()];
    let mut room = room.clone();
    for run in line {
        let mut turn = vec![false; groups.len()];
        for at in run {
            turn[*at] = admitted[*at] && room.admits(&groups[*at].template.needs);
        }
        let landed = match run.as_slice() {
            [at] if turn[*at] => vec![(*at, whole(&groups[*at], left[*at], &room))],
            _ => {
                let all = fill(groups, &turn, left, &room);
                run.iter().map(|at| (*at, all[*at])).collect()
            }
        };
        for (at, landing) in landed {
            landings[at] = landing;
            let taken = asked(&groups[at].template.needs, landing.pods);
            room.free = room.free.map(|free| free.minus(&taken));
        }
    }
    landings
}

fn whole(group: &Group, left: f64, room: &Room) -> Landing {
    let free = room.free.as_ref();
    let most = free.map(|free| capacity_in_pods(&group.template.needs, free).floor());
    let pods = left.min(most.unwrap_or(f64::INFINITY));
    Landing {
        any: pods.min(1.0),
        pods,
    }
}

/// What so many pods take of a node; every pod takes one of its pod places.
#[must_use]
pub fn asked(needs: &PodNeeds, pods: f64) -> Resources {
    let one = &needs.requests;
    let scale = |value: u64| (value as f64 * pods) as u64;
    let extended = one.extended.iter();
    Resources {
        cpu_milli: scale(one.cpu_milli),
        memory: ByteSize(scale(one.memory.0)),
        ephemeral: ByteSize(scale(one.ephemeral.0)),
        pods: scale(one.pods.max(1)),
        extended: extended
            .map(|(name, value)| (name.clone(), scale(*value)))
            .collect(),
    }
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
