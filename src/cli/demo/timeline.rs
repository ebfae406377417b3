//! One node's two stories, drawn above each other on one time axis.

use std::fmt::Write as _;

use crate::cli::demo::ledger::NodeStory;
use crate::cli::demo::page::escape;
use crate::domain::outcome::PodOutcome;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;

/// What the colours mean.
pub const LEGEND: &str = "<ul class=legend><li><i style=\"background:var(--rule)\"></i>Node object \
    to Ready</li><li><i style=\"background:var(--ahead)\"></i>layer brought by the agent</li>\
    <li><i style=\"background:var(--asked)\"></i>layer pulled by the kubelet</li>\
    <li><i style=\"background:var(--slow);height:2px\"></i>a pod waits for its images</li>\
    <li><i style=\"background:var(--ink);width:.5em;height:.5em;border-radius:50%\"></i>its \
    containers can start</li></ul>";

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
/// Height of the strip that shows layers landing.
const STRIP: f64 = 14.0;
/// Height that one pod takes.
const ROW: f64 = 3.0;
/// Longest stretch of time that is drawn: later pods would squeeze the interesting part.
const LONGEST_S: f64 = 240.0;

/// A figure with the reactive story above and Forelay's below.
#[must_use]
pub fn node(start: Timestamp, name: &str, before: &NodeStory, after: &NodeStory) -> String {
    let from = after.requested.unwrap_or(after.joined) - std::time::Duration::from_secs(5);
    let last = [before, after]
        .iter()
        .flat_map(|story| story.pods.iter().map(|pod| pod.images_ready))
        .filter(|at| at.secs_since(from) < LONGEST_S)
        .max()
        .unwrap_or(after.joined);
    let span = (last.secs_since(from) + 8.0).clamp(40.0, LONGEST_S);
    let axis = Axis { start, from, span };
    let mut body = String::new();
    let mut top = 4.0;
    for (label, story) in [("reactive", before), ("forelay", after)] {
        top += axis.story(&mut body, label, story, top) + 8.0;
    }
    axis.marks(&mut body, after, top);
    let height = top + 18.0;
    let wait = |story: &NodeStory| story.pods.iter().map(PodOutcome::wait_s).sum::<f64>();
    let ahead: u64 = after
        .landed
        .iter()
        .filter(|l| l.ahead)
        .map(|l| l.bytes)
        .sum();
    format!(
        "<figure><figcaption><h3>{}</h3><span>{} pods &middot; waited {:.0} s &rarr; {:.0} s \
         &middot; {} moved ahead</span></figcaption><svg viewBox=\"0 0 {WIDTH} {height:.0}\" \
         role=img aria-label=\"Timeline of {0}\">{body}</svg></figure>",
        escape(name),
        after.pods.len(),
        wait(before),
        wait(after),
        ByteSize(ahead),
    )
}

struct Axis {
    start: Timestamp,
    from: Timestamp,
    span: f64,
}

impl Axis {
    fn x(&self, at: Timestamp) -> f64 {
        let share = (at.secs_since(self.from) / self.span).clamp(0.0, 1.0);
        LEFT + share * (WIDTH - LEFT - 10.0)
    }

    fn shows(&self, at: Timestamp) -> bool {
        at.secs_since(self.from) <= self.span
    }

    /// Draws one story and returns its height.
    fn story(&self, body: &mut String, label: &str, story: &NodeStory, top: f64) -> f64 {
        let _ = write!(body, "<text x=0 y={:.1}>{label}</text>", top + STRIP - 3.0);
        if let Some(ready) = story.ready {
            let (left, right) = (self.x(story.joined), self.x(ready));
            let _ = write!(
                body,
                "<rect class=boot x={left:.1} y={top:.1} width={:.1} height={STRIP} rx=2 />",
                (right - left).max(1.0)
            );
        }
        let total: u64 = story.landed.iter().map(|l| l.bytes).sum::<u64>().max(1);
        for landed in story.landed.iter().filter(|landed| self.shows(landed.at)) {
            let class = if landed.ahead { "ahead" } else { "asked" };
            // Area tells bytes; the smallest layer is still a hair.
            let width = (landed.bytes as f64 / total as f64 * 60.0).clamp(1.0, 30.0);
            let _ = write!(
                body,
                "<rect class=\"bytes {class}\" x={:.1} y={:.1} width={width:.1} height={:.1} />",
                (self.x(landed.at) - width).max(LEFT),
                top + 3.0,
                STRIP - 6.0
            );
        }
        let mut pods: Vec<&PodOutcome> = story
            .pods
            .iter()
            .filter(|pod| self.shows(pod.bound))
            .collect();
        pods.sort_by_key(|pod| (pod.bound.max(pod.node_ready), pod.images_ready));
        for (row, pod) in pods.iter().enumerate() {
            let y = top + STRIP + 4.0 + row as f64 * ROW;
            let (left, right) = (pod.bound.max(pod.node_ready), pod.images_ready);
            if right > left {
                let _ = write!(
                    body,
                    "<line class=wait x1={:.1} x2={:.1} y1={y:.1} y2={y:.1} />",
                    self.x(left),
                    self.x(right)
                );
            }
            let _ = write!(
                body,
                "<circle class=start cx={:.1} cy={y:.1} r=1.4 />",
                self.x(left.max(right))
            );
        }
        STRIP + 6.0 + pods.len() as f64 * ROW
    }

    fn marks(&self, body: &mut String, story: &NodeStory, bottom: f64) {
        let marks = [
            (story.requested, "requested"),
            (Some(story.joined), "joined"),
            (story.ready, "Ready"),
        ];
        let mut free_from = 0.0;
        for (at, name) in marks.into_iter().filter_map(|(at, name)| Some((at?, name))) {
            let x = self.x(at);
            let _ = write!(
                body,
                "<line class=mark x1={x:.1} x2={x:.1} y1=0 y2={bottom:.1} />"
            );
            let text = format!("{name} +{:.0} s", at.secs_since(self.start));
            if x > free_from {
                let _ = write!(
                    body,
                    "<text x={:.1} y={:.1}>{text}</text>",
                    x + 3.0,
                    bottom + 12.0
                );
                free_from = x + 6.2 * text.len() as f64;
            }
        }
    }
}
