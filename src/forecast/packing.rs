//! How many nodes a pool gets, by packing what pods request onto its node shape.
//!
//! Autoscalers do not regress, they pack: cluster-autoscaler's estimator puts pods in order of falling
//! size first-fit onto copies of the group's template node, up to the group's limit. So do we, and
//! give a lower bound beside it: first-fit decreasing needs at most 11/9 of the optimum in one
//! dimension (Johnson 1973), the bound is L1 and the count of pods above half a node (Martello and
//! Toth 1990). For uncertain demand it is packed once per level of [`LEVELS`]: all workloads at their
//! level together, which is right at the ends when they share a cause (a flash crowd) and errs to the
//! wide side otherwise. Cost: groups x nodes per level; 30 groups onto 200 nodes take 0.2 ms.

#[cfg(test)]
mod tests;

use crate::domain::node::Resources;
use crate::domain::quantity::ByteSize;
use crate::forecast::counts::{Counts, LEVELS};

/// Nodes that one packing may ask for where the group names no limit: cluster-autoscaler's own
/// `--max-nodes-per-scaleup`.
pub const NODES_MAX: u32 = 1000;

/// Equal pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// What one requests.
    pub request: Resources,
    /// How many.
    pub count: Counts,
}

/// What pods can be put on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rooms {
    /// What an empty node of the pool offers: allocatable without what DaemonSets take. A member that
    /// is 0 offers nothing of it, except `pods`: unknown, no limit.
    pub node: Resources,
    /// What nodes have left that are there or on their way: filled first and not counted.
    pub free: Vec<Resources>,
    /// Nodes that the group may still grow by; at most [`NODES_MAX`] count.
    pub most: u32,
}

/// The outcome of one packing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// New nodes.
    pub nodes: u32,
    /// Fewer cannot do, as far as the limit lets them.
    pub least: u32,
    /// Pods that fit no node, or no node within the limit.
    pub homeless: u32,
}

/// New nodes as a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCount {
    /// As the autoscaler would pack.
    pub nodes: Counts,
    /// Below it no packing gets.
    pub least: Counts,
}

impl NodeCount {
    /// Packs the demand of each level.
    #[must_use]
    pub fn of(demand: &[Pods], rooms: &Rooms) -> Self {
        let mut nodes = [0; LEVELS.len()];
        let mut least = [0; LEVELS.len()];
        for at in 0..LEVELS.len() {
            let level: Vec<(&Resources, u32)> = demand
                .iter()
                .map(|pods| (&pods.request, pods.count.levels()[at]))
                .collect();
            let packed = pack(&level, rooms);
            (nodes[at], least[at]) = (packed.nodes, packed.least);
        }
        Self {
            nodes: Counts::rising(nodes),
            least: Counts::rising(least),
        }
    }

    /// New nodes that are not exceeded with probability `p` (0 to 1).
    #[must_use]
    pub fn quantile(&self, p: f64) -> u32 {
        self.nodes.quantile(p)
    }
}

/// Packs pods (request of one, how many) first-fit in order of falling size.
#[must_use]
pub fn pack(pods: &[(&Resources, u32)], rooms: &Rooms) -> Packed {
    let most = rooms.most.min(NODES_MAX);
    let mut groups: Vec<(Resources, u32)> = pods
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(request, count)| (one(request, &rooms.node), *count))
        .collect();
    let size = |request: &Resources| weight(request, &rooms.node);
    groups.sort_by(|a, b| size(&b.0).total_cmp(&size(&a.0)));
    let mut free: Vec<Resources> = rooms
        .free
        .iter()
        .map(|room| open(room, &rooms.node))
        .collect();
    let known = free.len();
    let mut homeless = 0_u32;
    for (request, count) in &groups {
        let mut left = *count;
        for room in &mut free {
            left -= put(request, left, room);
        }
        while left > 0 && free.len() - known < most as usize {
            let mut room = rooms.node.clone();
            let taken = put(request, left, &mut room);
            if taken == 0 {
                break;
            }
            left -= taken;
            free.push(room);
        }
        homeless = homeless.saturating_add(left);
    }
    let nodes = (free.len() - known) as u32;
    Packed {
        nodes,
        least: lower_bound(&groups, rooms).min(nodes),
        homeless,
    }
}

/// A pod takes one of the node's pods, where the node says how many it has.
fn one(request: &Resources, node: &Resources) -> Resources {
    Resources {
        pods: u64::from(node.pods > 0),
        ..request.clone()
    }
}

/// A room that does not say how many pods it takes is bounded by its other members alone.
fn open(room: &Resources, node: &Resources) -> Resources {
    let pods = if node.pods > 0 { room.pods } else { 0 };
    Resources {
        pods,
        ..room.clone()
    }
}

/// Puts as many copies as fit, at most `left`; how many it were.
fn put(request: &Resources, left: u32, room: &mut Resources) -> u32 {
    let fit = shares(request, room)
        .map(|(asked, offered)| offered / asked)
        .min();
    let taken = fit.unwrap_or(u64::MAX).min(u64::from(left)) as u32;
    if taken > 0 {
        *room = room.minus(&times(request, u64::from(taken)));
    }
    taken
}

/// (asked, offered) of everything that is asked for.
fn shares<'a>(
    request: &'a Resources,
    room: &'a Resources,
) -> impl Iterator<Item = (u64, u64)> + 'a {
    let named = [
        (request.cpu_milli, room.cpu_milli),
        (request.memory.0, room.memory.0),
        (request.ephemeral.0, room.ephemeral.0),
        (request.pods, room.pods),
    ];
    let extended = request.extended.iter();
    let extended =
        extended.map(|(name, asked)| (*asked, room.extended.get(name).copied().unwrap_or(0)));
    named
        .into_iter()
        .chain(extended)
        .filter(|(asked, _)| *asked > 0)
}

fn times(request: &Resources, count: u64) -> Resources {
    let extended = request.extended.iter();
    Resources {
        cpu_milli: request.cpu_milli.saturating_mul(count),
        memory: ByteSize(request.memory.0.saturating_mul(count)),
        ephemeral: ByteSize(request.ephemeral.0.saturating_mul(count)),
        pods: request.pods.saturating_mul(count),
        extended: extended
            .map(|(name, asked)| (name.clone(), asked.saturating_mul(count)))
            .collect(),
    }
}

/// Sum of the shares of a node: cluster-autoscaler's own order (CPU and memory), and a GPU before all.
fn weight(request: &Resources, node: &Resources) -> f64 {
    shares(request, node)
        .map(|(asked, offered)| asked as f64 / (offered as f64).max(0.5))
        .sum()
}

/// The largest over the members of what is asked for in all, less what is free, in nodes; and the pods
/// that take more than half of a node of the same member, less the free rooms.
fn lower_bound(groups: &[(Resources, u32)], rooms: &Rooms) -> u32 {
    let mut total = Resources::default();
    for (request, count) in groups {
        if shares(request, &rooms.node).all(|(asked, offered)| asked <= offered) {
            total = total.plus(&times(request, u64::from(*count)));
        }
    }
    for room in &rooms.free {
        total = total.minus(&open(room, &rooms.node));
    }
    let by_sum = shares(&total, &rooms.node)
        .filter(|(_, offered)| *offered > 0)
        .map(|(asked, offered)| asked.div_ceil(offered))
        .max()
        .unwrap_or(0);
    let big = |of: fn(&Resources) -> u64| -> u64 {
        let room = of(&rooms.node);
        let above = |request: &Resources| of(request) > room / 2 && of(request) <= room;
        let counted = groups.iter().filter(|(request, _)| above(request));
        let count: u64 = counted.map(|(_, count)| u64::from(*count)).sum();
        // A free room may take any number of pods that are big for a node, if it is bigger.
        if rooms.free.iter().any(|free| of(free) > room) {
            0
        } else {
            count.saturating_sub(rooms.free.len() as u64)
        }
    };
    let by_half = big(|r| r.cpu_milli).max(big(|r| r.memory.0));
    u32::try_from(by_sum.max(by_half)).unwrap_or(u32::MAX)
}
