//! One node under several policies, as a drawing.

use std::fmt::Write;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::sim::facts::{Facts, NodeId, PodId};
use crate::sim::policy::{Policy, Replay};
use crate::sim::report::html::escaped;
use crate::sim::world::{Mover, Notes, Span};

/// Width of a drawing and of the column with the policies' names, in its own units.
const WIDTH: f64 = 1000.0;
const NAMES: f64 = 96.0;
/// Height of one policy's row, and of the axis below all rows.
const ROW: f64 = 34.0;
const AXIS: f64 = 22.0;
/// A drawing shows at most so many seconds from the node's joining.
const LONGEST_S: f64 = 600.0;
/// Transfers with a smaller gap than this are drawn as one.
const GAP_S: f64 = 0.25;

/// Draws a node that joined during the recording; empty where no pod of it is scored.
pub fn node(replay: &Replay, policies: &[Policy], node: NodeId) -> String {
    let facts = &replay.facts;
    let fact = &facts.nodes[node];
    let pods = fact
        .pods
        .iter()
        .filter(|pod| facts.is_scored(**pod))
        .count();
    let runs: Vec<(Policy, &Notes)> = policies
        .iter()
        .filter_map(|policy| Some((*policy, &replay.runs.get(policy)?.notes)))
        .collect();
    if pods == 0 || runs.is_empty() {
        return String::new();
    }
    let scale = Scale::new(facts, node, &runs);
    let height = ROW * runs.len() as f64 + AXIS;
    let mut svg = format!(
        "<figure><figcaption><b>{}</b> pool {}, {pods} pods scored</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Timeline of {}\">",
        escaped(&fact.name),
        escaped(&fact.pool),
        escaped(&fact.name),
    );
    scale.draw_axis(&mut svg, height - AXIS);
    for (number, (policy, notes)) in runs.iter().enumerate() {
        let row = Row {
            facts,
            node,
            notes,
            scale: &scale,
            top: ROW * number as f64,
        };
        row.draw(&mut svg, *policy);
    }
    if let Some(ready) = fact.ready {
        let x = scale.x(ready);
        let _ = write!(
            svg,
            "<line class=\"ready\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.0}\">\
             <title>Ready {:.1} s after joining</title></line>",
            height - AXIS,
            ready.secs_since(fact.joined),
        );
    }
    svg.push_str("</svg></figure>");
    svg
}

/// Seconds since the node joined, on the drawing.
struct Scale {
    joined: Timestamp,
    seconds: f64,
}

struct Row<'a> {
    facts: &'a Facts,
    node: NodeId,
    notes: &'a Notes,
    scale: &'a Scale,
    top: f64,
}

/// One rectangle of a row.
struct Bar {
    class: &'static str,
    lane: f64,
    height: f64,
    times: (Timestamp, Timestamp),
    title: String,
}

// === impl Scale ===

impl Scale {
    fn new(facts: &Facts, node: NodeId, runs: &[(Policy, &Notes)]) -> Self {
        let fact = &facts.nodes[node];
        let ready = runs.iter().flat_map(|(_, notes)| {
            let scored = fact.pods.iter().filter(|pod| facts.is_scored(**pod));
            scored.filter_map(|pod| notes.pods[*pod].map(|note| note.ready))
        });
        let last = ready.chain(fact.ready).max().unwrap_or(fact.joined);
        Self {
            joined: fact.joined,
            seconds: (last.secs_since(fact.joined) * 1.03).clamp(10.0, LONGEST_S),
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let secs = at.secs_since(self.joined).clamp(0.0, self.seconds);
        NAMES + secs / self.seconds * (WIDTH - NAMES - 10.0)
    }

    fn draw_axis(&self, svg: &mut String, y: f64) {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
        let step = steps.into_iter().find(|step| self.seconds / step <= 10.0);
        let step = step.unwrap_or(120.0);
        let mut secs = 0.0;
        while secs <= self.seconds {
            let at = self.joined + Duration::from_secs_f64(secs);
            let x = self.x(at);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{y:.0}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.0}\">{secs:.0} s</text>",
                y + 15.0,
            );
            secs += step;
        }
    }
}

// === impl Row ===

impl Row<'_> {
    fn draw(&self, svg: &mut String, policy: Policy) {
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"0\" y=\"{:.0}\">{policy}</text>",
            self.top + 20.0
        );
        for (mover, class, lane) in [
            (Mover::Agent, "agent", 5.0),
            (Mover::Kubelet, "kubelet", 12.0),
        ] {
            for (from, to, bytes) in self.merged(mover) {
                let bar = Bar {
                    class,
                    lane,
                    height: 6.0,
                    times: (from, to),
                    title: format!("{class} moved {:.1} MB", bytes / 1e6),
                };
                self.draw_bar(svg, &bar);
            }
        }
        let pods = &self.facts.nodes[self.node].pods;
        for &pod in pods.iter().filter(|pod| self.facts.is_scored(**pod)) {
            if let Some(note) = self.notes.pods[pod] {
                self.draw_pod(svg, pod, note.ready);
            }
        }
    }

    fn draw_pod(&self, svg: &mut String, pod: PodId, ready: Timestamp) {
        let from = self.facts.waits_from(pod);
        let name = escaped(&self.facts.pods[pod].name);
        if ready > from {
            let waited = ready.secs_since(from);
            let bar = Bar {
                class: "wait",
                lane: 20.0,
                height: 8.0,
                times: (from, ready),
                title: format!("{name} waited {waited:.1} s"),
            };
            self.draw_bar(svg, &bar);
        } else {
            let _ = write!(
                svg,
                "<circle class=\"warm\" cx=\"{:.1}\" cy=\"{:.0}\" r=\"2.5\">\
                 <title>{name} did not wait</title></circle>",
                self.scale.x(from),
                self.top + 24.0,
            );
        }
    }

    fn draw_bar(&self, svg: &mut String, bar: &Bar) {
        let (from, to) = bar.times;
        let x = self.scale.x(from);
        let width = (self.scale.x(to) - x).max(0.8);
        let _ = write!(
            svg,
            "<rect class=\"{}\" x=\"{x:.1}\" y=\"{:.0}\" width=\"{width:.1}\" \
             height=\"{}\"><title>{}</title></rect>",
            bar.class,
            self.top + bar.lane,
            bar.height,
            bar.title,
        );
    }

    /// Times during which something of a mover was under way, with the bytes it moved then.
    fn merged(&self, mover: Mover) -> Vec<(Timestamp, Timestamp, f64)> {
        let mine = |span: &&Span| span.node == self.node && span.mover == mover;
        let mut spans: Vec<&Span> = self.notes.spans.iter().filter(mine).collect();
        spans.sort_by_key(|span| (span.from, span.to));
        let mut merged: Vec<(Timestamp, Timestamp, f64)> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some((_, to, bytes)) if span.from.secs_since(*to) < GAP_S => {
                    *to = span.to.max(*to);
                    *bytes += span.bytes;
                }
                _ => merged.push((span.from, span.to, span.bytes)),
            }
        }
        merged
    }
}
