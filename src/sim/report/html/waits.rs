//! How long pods wait: the whole distribution, not only its quantiles.

use std::fmt::Write;

use crate::sim::policy::{Policy, Replay};
use crate::sim::report::Report;
use crate::sim::report::html::chart::Axis;
use crate::sim::report::html::text::{escaped, key, percent};

/// Waits up to this stand at the left edge: nobody notices them.
const SHORTEST_S: f64 = 0.1;
/// Points of a curve: more cannot be seen.
const POINTS: usize = 150;
const SMALL_POINTS: usize = 50;
/// Policies in the small drawings.
const FEW: [Policy; 4] = [
    Policy::Reactive,
    Policy::PendingOnly,
    Policy::Forelay,
    Policy::Oracle,
];

/// One drawing.
struct Curves<'a> {
    across: Axis,
    up: Axis,
    points: usize,
    replays: &'a [Replay],
}

/// The section; empty where no pod waits.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let shown: Vec<Policy> = report.pooled.policies.0.iter().map(|(p, _)| *p).collect();
    let longest = longest(replays, &shown);
    if shown.is_empty() || longest <= SHORTEST_S {
        return String::new();
    }
    let all = Curves {
        across: log_axis(longest, [56.0, 980.0]),
        up: Axis::linear([0.0, 1.0], [340.0, 14.0]),
        points: POINTS,
        replays,
    };
    let mut svg = String::from(
        "<svg viewBox=\"0 0 1000 380\" role=\"img\" aria-label=\"Distribution of image waits\">",
    );
    all.draw_frame(&mut svg, "waited at most, seconds (logarithmic)");
    all.draw(&mut svg, &shown);
    svg.push_str("</svg>");
    let few: Vec<Policy> = FEW.into_iter().filter(|p| shown.contains(p)).collect();
    let mut small = String::new();
    if replays.len() > 1 {
        for replay in replays {
            small.push_str(&draw_small(replay, &few, longest));
        }
    }
    let small = if small.is_empty() {
        small
    } else {
        format!(
            "<h3>The same, scenario by scenario</h3>{}<div class=\"many\">{small}</div>",
            key(few)
        )
    };
    format!(
        "<h2>How long pods wait</h2><p>The height of a curve is the part of the pods on new nodes that \
         waited no longer than the time below it. Where a curve begins at the left edge, so many pods \
         did not wait at all. Higher is better.</p>{}<figure>{svg}</figure>{small}",
        key(shown)
    )
}

fn draw_small(replay: &Replay, few: &[Policy], longest: f64) -> String {
    let replays = std::slice::from_ref(replay);
    if few.iter().all(|policy| waits(replays, *policy).is_empty()) {
        return String::new();
    }
    let curves = Curves {
        across: log_axis(longest, [30.0, 292.0]),
        up: Axis::linear([0.0, 1.0], [150.0, 8.0]),
        points: SMALL_POINTS,
        replays,
    };
    let name = escaped(&replay.header.name);
    let mut svg =
        format!("<svg viewBox=\"0 0 300 170\" role=\"img\" aria-label=\"Waits of {name}\">");
    curves.draw_frame(&mut svg, "");
    curves.draw(&mut svg, few);
    format!("<figure><figcaption><b>{name}</b></figcaption>{svg}</svg></figure>")
}

fn log_axis(longest: f64, places: [f64; 2]) -> Axis {
    Axis {
        values: [SHORTEST_S, longest.max(1.0)],
        places,
        logarithmic: true,
    }
}

fn longest(replays: &[Replay], policies: &[Policy]) -> f64 {
    let waits = policies.iter().flat_map(|policy| waits(replays, *policy));
    waits.fold(0.0, f64::max)
}

/// Waits of all pods under a policy, shortest first.
fn waits(replays: &[Replay], policy: Policy) -> Vec<f64> {
    let runs = replays.iter().filter_map(|replay| replay.runs.get(&policy));
    let waits = runs.flat_map(|run| run.tally.waits_s.iter().copied());
    let mut waits: Vec<f64> = waits.collect();
    waits.sort_by(f64::total_cmp);
    waits
}

// === impl Curves ===

impl Curves<'_> {
    fn draw_frame(&self, svg: &mut String, caption: &str) {
        let [bottom, top] = self.up.places;
        let [left, right] = self.across.places;
        let wide = !caption.is_empty();
        let seconds = |t: f64| {
            let edge = if wide && t <= SHORTEST_S { "≤ " } else { "" };
            (t, format!("{edge}{t}{}", if wide { " s" } else { "" }))
        };
        let mut ticks: Vec<(f64, String)> = self.across.ticks(0).into_iter().map(seconds).collect();
        if wide {
            let between = [3.0, 30.0, 300.0, 3000.0].into_iter();
            let inside = between.filter(|t| *t < self.across.values[1]);
            ticks.extend(inside.map(seconds));
        }
        self.across.draw_upright(svg, (top, bottom), &ticks);
        let parts = [0.0, 0.25, 0.5, 0.75, 1.0].into_iter();
        let parts = parts.filter(|part| wide || *part != 0.25 && *part != 0.75);
        let level = |part: f64| {
            let label = if wide {
                percent(part)
            } else {
                format!("{part:.1}")
            };
            (part, label)
        };
        let levels: Vec<(f64, String)> = parts.map(level).collect();
        self.up.draw_level(svg, (left, right), &levels);
        let _ = write!(
            svg,
            "<text class=\"tick end\" x=\"{right:.0}\" y=\"{:.0}\">{caption}</text>",
            bottom + 33.0
        );
    }

    /// Those named first are drawn first, so that the best known lies on top.
    fn draw(&self, svg: &mut String, policies: &[Policy]) {
        let (few, rest): (Vec<Policy>, Vec<Policy>) =
            policies.iter().partition(|policy| FEW.contains(policy));
        for policy in rest.into_iter().chain(few) {
            let waits = waits(self.replays, policy);
            if !waits.is_empty() {
                let _ = write!(
                    svg,
                    "<path class=\"line {policy}\" d=\"{}\"><title>{policy}</title></path>",
                    self.path(&waits)
                );
            }
        }
    }

    fn path(&self, waits: &[f64]) -> String {
        let count = waits.len();
        let short = waits.partition_point(|wait| *wait <= SHORTEST_S);
        let share = |pods: usize| self.up.at(pods as f64 / count as f64);
        let [left, right] = self.across.places;
        let mut path = format!("M{left:.1} {:.1}", share(short));
        let every = (count - short).div_ceil(self.points).max(1);
        let mut pods = short;
        while pods < count {
            pods = (pods + every).min(count);
            let at = self.across.at(waits[pods - 1]);
            let _ = write!(path, "H{at:.1}V{:.1}", share(pods));
        }
        let _ = write!(path, "H{right:.1}");
        path
    }
}
