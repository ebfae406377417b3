//! Which nodes a timeline shows.

use std::time::Duration;

use crate::sim::facts::{Facts, NodeId};
use crate::sim::policy::{Policy, Replay};

/// Nodes that join within this time of the first belong to its wave: two scans and a boot.
const WAVE: Duration = Duration::from_mins(2);

/// Nodes drawn at most: a screen or two.
const DRAWN: usize = 16;

/// Nodes that joined together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Those that are drawn, in the order of joining.
    pub nodes: Vec<NodeId>,
    /// How many there are.
    pub all: usize,
}

/// The replay with most waiting under a kubelet alone; the first of equals.
pub fn longest(replays: &[Replay]) -> Option<&Replay> {
    let wait_s = |replay: &Replay| {
        let run = replay.runs.get(&Policy::Reactive);
        run.map_or(0.0, |run| run.tally.waits_s.iter().sum())
    };
    let mut found: Option<(&Replay, f64)> = None;
    for replay in replays {
        let waited = wait_s(replay);
        if waited > found.map_or(0.0, |(_, most)| most) {
            found = Some((replay, waited));
        }
    }
    found.map(|(replay, _)| replay)
}

// === impl Wave ===

impl Wave {
    /// The most nodes with scored pods that joined within two minutes; of more than can be drawn, those
    /// whose pods wait longest under a kubelet alone.
    pub fn biggest(replay: &Replay) -> Option<Self> {
        let facts = &replay.facts;
        let mut nodes: Vec<NodeId> = (0..facts.nodes.len())
            .filter(|node| facts.nodes[*node].new && has_scored(facts, *node))
            .collect();
        nodes.sort_by_key(|node| (facts.nodes[*node].joined, *node));
        let mut biggest: &[NodeId] = &[];
        for (first, node) in nodes.iter().enumerate() {
            let until = facts.nodes[*node].joined + WAVE;
            let end = nodes.partition_point(|node| facts.nodes[*node].joined <= until);
            if end.saturating_sub(first) > biggest.len() {
                biggest = &nodes[first..end];
            }
        }
        let all = biggest.len();
        let mut nodes: Vec<(f64, NodeId)> = biggest
            .iter()
            .map(|node| (waited_s(replay, *node), *node))
            .collect();
        nodes.sort_by(|a, b| b.0.total_cmp(&a.0));
        nodes.truncate(DRAWN);
        let mut nodes: Vec<NodeId> = nodes.into_iter().map(|(_, node)| node).collect();
        nodes.sort_by_key(|node| (facts.nodes[*node].joined, *node));
        (all > 0).then_some(Self { nodes, all })
    }
}

fn has_scored(facts: &Facts, node: NodeId) -> bool {
    let mut pods = facts.nodes[node].pods.iter();
    pods.any(|pod| facts.is_scored(*pod))
}

fn waited_s(replay: &Replay, node: NodeId) -> f64 {
    let facts = &replay.facts;
    let Some(run) = replay.runs.get(&Policy::Reactive) else {
        return 0.0;
    };
    let pods = facts.nodes[node].pods.iter();
    let pods = pods.filter(|pod| facts.is_scored(**pod));
    let waits = pods.filter_map(|pod| {
        let ready = run.notes.pods[*pod]?.ready;
        Some(ready.secs_since(facts.waits_from(*pod)).max(0.0))
    });
    waits.sum()
}
