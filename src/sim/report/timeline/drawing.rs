//! The drawing of a wave: a row per node, a bar per transfer, a thin one per waiting pod.

use std::fmt::Write;

use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, NodeId, PodId};
use crate::sim::report::html::chart::Axis;
use crate::sim::report::html::text::{counted, escaped, shortened};
use crate::sim::report::timeline::moves::{Move, moves};
use crate::sim::report::timeline::wave::Wave;
use crate::sim::world::{Mover, Notes};

/// Width of the drawing, and of the column with the nodes' names.
const WIDTH: f64 = 1000.0;
const NAMES: f64 = 150.0;
/// The drawing ends so many seconds after the first node joined, at the latest.
const LONGEST_S: f64 = 600.0;
/// Part of the waiting after which it ends soon: pods that come to the same nodes in a later wave must
/// not press this one into a corner.
const MOST: f64 = 0.75;
/// Height of a lane of transfers and of a pod's wait, each with the gap below it.
const LANE: f64 = 6.0;
const POD: f64 = 4.0;
/// A bar that ends so many seconds before another begins shares its lane.
const APART_S: f64 = 0.3;

/// One drawing.
pub struct Drawing<'a> {
    facts: &'a Facts,
    with: &'a Notes,
    without: &'a Notes,
    start: Timestamp,
    across: Axis,
}

// === impl Drawing ===

impl<'a> Drawing<'a> {
    /// Of the notes with Forelay and with a kubelet alone.
    pub fn new(facts: &'a Facts, (with, without): (&'a Notes, &'a Notes), wave: &Wave) -> Self {
        let joined = wave.nodes.iter().map(|node| facts.nodes[*node].joined);
        let start = joined.min().unwrap_or(facts.start);
        let pods = wave.nodes.iter().flat_map(|node| &facts.nodes[*node].pods);
        let pods = pods.filter(|pod| facts.is_scored(**pod));
        let waits = pods.filter_map(|pod| {
            let ready = without.pods[*pod]?.ready;
            let waited = ready.secs_since(facts.waits_from(*pod));
            (waited > 0.0).then_some((ready.secs_since(start), waited))
        });
        let last = end_of_most(waits.collect()) * 1.4;
        let seconds = last.clamp(30.0, LONGEST_S);
        Self {
            facts,
            with,
            without,
            start,
            across: Axis::linear([0.0, seconds], [NAMES, WIDTH - 24.0]),
        }
    }

    /// Seconds from the first node's joining to the right edge.
    pub fn seconds(&self) -> f64 {
        self.across.values[1]
    }

    /// Everything.
    pub fn draw(&self, nodes: &[NodeId]) -> String {
        let mut rows = String::new();
        let mut top = 8.0;
        for node in nodes {
            top = self.draw_node(&mut rows, *node, top);
        }
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"Timeline of {}\">",
            top + 24.0,
            counted(nodes.len(), "node")
        );
        let ticks = self.across.ticks(10).into_iter();
        let ticks: Vec<(f64, String)> = ticks.map(|t| (t, format!("{t:.0} s"))).collect();
        self.across.draw_upright(&mut svg, (4.0, top), &ticks);
        svg.push_str(&rows);
        svg.push_str("</svg>");
        svg
    }

    /// Draws a node's row below `top`, and tells where it ends.
    fn draw_node(&self, svg: &mut String, node: NodeId, top: f64) -> f64 {
        let fact = &self.facts.nodes[node];
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}<title>{}</title></text>\
             <text class=\"soft\" x=\"0\" y=\"{:.1}\">{}</text>",
            top + 13.0,
            escaped(&shortened(&fact.name, 20)),
            escaped(&fact.name),
            top + 27.0,
            escaped(&shortened(&fact.pool, 22)),
        );
        let moves: Vec<Move> = moves(self.facts, self.with, node)
            .into_iter()
            .filter(|one| one.from.secs_since(self.start) < self.across.values[1])
            .collect();
        let mut bottom = top + 4.0;
        for mover in [Mover::Agent, Mover::Kubelet] {
            let mut lanes: Vec<Timestamp> = Vec::new();
            for one in moves.iter().filter(|one| one.mover == mover) {
                let free = lanes
                    .iter()
                    .position(|end| one.from.secs_since(*end) > APART_S);
                let lane = free.unwrap_or_else(|| {
                    lanes.push(one.to);
                    lanes.len() - 1
                });
                lanes[lane] = one.to;
                self.draw_move(svg, node, one, bottom + lane as f64 * LANE);
            }
            bottom += lanes.len() as f64 * LANE;
        }
        bottom += 2.0;
        for &pod in fact.pods.iter().filter(|pod| self.facts.is_scored(**pod)) {
            if self.draw_pod(svg, pod, bottom) {
                bottom += POD;
            }
        }
        let bottom = bottom.max(top + 32.0) + 5.0;
        self.draw_marks(svg, node, (top, bottom));
        bottom
    }

    fn x(&self, at: Timestamp) -> f64 {
        self.across.at(at.secs_since(self.start))
    }

    fn draw_move(&self, svg: &mut String, node: NodeId, one: &Move, y: f64) {
        let class = match one.mover {
            Mover::Kubelet => "pulled",
            Mover::Agent if one.in_vain() => "vain",
            Mover::Agent => "sent",
        };
        let x = self.x(one.from);
        let title = escaped(&one.title(self.facts, self.with, node));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.0}\">\
             <title>{title}</title></rect>",
            (self.x(one.to) - x).max(1.5),
            LANE - 1.0
        );
    }

    /// A pod's wait over the one that it would have had; nothing, where it has neither.
    fn draw_pod(&self, svg: &mut String, pod: PodId, y: f64) -> bool {
        let from = self.facts.waits_from(pod);
        let waited = |notes: &Notes| {
            let ready = notes.pods[pod]?.ready;
            (ready > from).then_some((ready, ready.secs_since(from)))
        };
        let (before, after) = (waited(self.without), waited(self.with));
        let beyond = from.secs_since(self.start) >= self.across.values[1];
        if beyond || before.is_none() && after.is_none() {
            return false;
        }
        let seconds = |wait: Option<(Timestamp, f64)>| wait.map_or(0.0, |(_, seconds)| seconds);
        let title = format!(
            "{}\nwaits {:.1} s; with a kubelet alone {:.1} s",
            escaped(&self.facts.pods[pod].name),
            seconds(after),
            seconds(before)
        );
        for (class, wait) in [("was", before), ("is", after)] {
            if let Some((ready, _)) = wait {
                let x = self.x(from);
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.0}\">\
                     <title>{title}</title></rect>",
                    (self.x(ready) - x).max(1.0),
                    POD - 1.0
                );
            }
        }
        true
    }

    fn draw_marks(&self, svg: &mut String, node: NodeId, (top, bottom): (f64, f64)) {
        let fact = &self.facts.nodes[node];
        let joined = fact.joined.secs_since(self.start);
        let x = self.x(fact.joined);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M0 {bottom:.1}H{WIDTH}\"/><path class=\"joined\" d=\"M{:.1} \
             {:.1}l7 4l-7 4z\"><title>joined at {joined:.1} s</title></path>",
            x - 8.0,
            top + 4.0,
        );
        if let Some(ready) = fact.ready {
            let x = self.x(ready);
            let _ = write!(
                svg,
                "<path class=\"ready\" d=\"M{x:.1} {:.1}V{:.1}\"><title>Ready {:.1} s after joining\
                 </title></path>",
                top + 2.0,
                bottom - 2.0,
                ready.secs_since(fact.joined)
            );
        }
    }
}

/// Until when most of the waiting is over, of ends and lengths of waits, in seconds.
fn end_of_most(mut waits: Vec<(f64, f64)>) -> f64 {
    waits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most: f64 = MOST * waits.iter().map(|(_, waited)| waited).sum::<f64>();
    let mut over = 0.0;
    for (end, waited) in waits {
        over += waited;
        if over >= most {
            return end;
        }
    }
    0.0
}
