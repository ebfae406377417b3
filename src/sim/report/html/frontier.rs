//! The frontier: how many seconds are saved for how much waste.

use std::fmt::Write;

use crate::sim::policy::{Policy, Replay};
use crate::sim::report::html::chart::{Axis, Labels};
use crate::sim::report::html::text::{brief, grouped, number, row, spell, wait_s};
use crate::sim::report::{Point, Report};

const WIDTH: f64 = 1000.0;
const BOTTOM: f64 = 330.0;
const LEFT: f64 = 76.0;

/// A policy as a point.
struct Other {
    policy: Policy,
    waste: f64,
    saved_s: f64,
}

/// The section; empty where there is no frontier.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let points = &report.frontier;
    let Some(reactive_s) = wait_s(replays, Policy::Reactive).filter(|_| points.len() > 1) else {
        return String::new();
    };
    let others: Vec<Other> = others(report, reactive_s);
    let waste = |point: &Point| point.waste_node.unwrap_or(0.0);
    let widest = points.iter().map(waste).fold(0.05, f64::max) * 1.1;
    // The chart is about the frontier: whoever is far from it would press it flat.
    let least = points
        .iter()
        .map(|point| point.saved_s)
        .fold(f64::INFINITY, f64::min);
    let floor = least - 0.35 * (reactive_s - least).max(0.0) - 1.0;
    let (near, far): (Vec<Other>, Vec<Other>) = others
        .into_iter()
        .partition(|other| other.waste <= widest && other.saved_s >= floor);
    let saved = points.iter().map(|point| point.saved_s);
    let saved = saved.chain(near.iter().map(|other| other.saved_s));
    let most = saved.fold(1.0, f64::max);
    let across = Axis::linear([0.0, widest], [LEFT, WIDTH - 20.0]);
    let up = Axis::linear(
        [floor.max(0.0), most + (most - floor) * 0.08],
        [BOTTOM, 16.0],
    );
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" \
         aria-label=\"Frontier of waste against seconds saved\">",
        BOTTOM + 40.0
    );
    draw_axes(&mut svg, &across, &up);
    draw_points(&mut svg, (&across, &up), points, &near);
    svg.push_str("</svg>");
    let far: Vec<String> = far
        .iter()
        .map(|far| {
            format!(
                "{} (waste {}, saves {} s)",
                far.policy,
                brief(Some(far.waste)),
                grouped(far.saved_s)
            )
        })
        .collect();
    let far = if far.is_empty() {
        String::new()
    } else {
        format!(
            "<figcaption>Too far off to be drawn: {}.</figcaption>",
            far.join(", ")
        )
    };
    format!(
        "<h2>Waste against seconds saved</h2><p>Forelay at prices of a waited second from an eighth to \
         eight times the model's: the dearer a second, the more is sent on less evidence. Up and left is \
         better. With a kubelet alone all pods together wait {}.</p><figure>{svg}{far}</figure>",
        spell(reactive_s)
    )
}

fn others(report: &Report, reactive_s: f64) -> Vec<Other> {
    let rows = report.pooled.policies.0.iter();
    let rows = rows.filter(|(policy, _)| !matches!(policy, Policy::Forelay | Policy::Reactive));
    let other = rows.filter_map(|(policy, _)| {
        let score = row(&report.pooled.policies, *policy)?;
        Some(Other {
            policy: *policy,
            waste: score.waste_node?,
            saved_s: reactive_s - score.wait_s.sum,
        })
    });
    other.collect()
}

fn draw_axes(svg: &mut String, across: &Axis, up: &Axis) {
    let ticks = across.ticks(8).into_iter().map(|t| (t, format!("{t:.2}")));
    across.draw_upright(svg, (16.0, BOTTOM), &ticks.collect::<Vec<_>>());
    let ticks = up
        .ticks(6)
        .into_iter()
        .map(|t| (t, format!("{} s", grouped(t))));
    up.draw_level(svg, (LEFT, WIDTH - 20.0), &ticks.collect::<Vec<_>>());
    let _ = write!(
        svg,
        "<text class=\"tick end\" x=\"{:.0}\" y=\"{:.0}\">unused bytes per byte needed</text>\
         <text class=\"tick start\" x=\"{:.0}\" y=\"28\">seconds saved</text>",
        WIDTH - 20.0,
        BOTTOM + 34.0,
        LEFT + 6.0
    );
}

fn draw_points(svg: &mut String, (across, up): (&Axis, &Axis), points: &[Point], near: &[Other]) {
    let place = |waste: f64, saved_s: f64| (across.at(waste), up.at(saved_s));
    let on_frontier: Vec<(f64, f64)> = points
        .iter()
        .map(|point| place(point.waste_node.unwrap_or(0.0), point.saved_s))
        .collect();
    let mut line = String::new();
    for (number, (x, y)) in on_frontier.iter().enumerate() {
        let step = if number == 0 { 'M' } else { 'L' };
        let _ = write!(line, "{step}{x:.1} {y:.1}");
    }
    let _ = write!(svg, "<path class=\"line forelay\" d=\"{line}\"/>");
    let mut labels = Labels::default();
    for pair in on_frontier.windows(2) {
        // Labels keep off the line: a point at least every 12 units.
        let parts = ((pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1) / 12.0).ceil();
        for part in 1..parts.max(1.0) as usize {
            let part = part as f64 / parts;
            let between = |a: f64, b: f64| a + (b - a) * part;
            let at = (between(pair[0].0, pair[1].0), between(pair[0].1, pair[1].1));
            labels.keep_free(at, 4.0);
        }
    }
    for at in &on_frontier {
        labels.keep_free(*at, 6.0);
    }
    for other in near {
        labels.keep_free(place(other.waste, other.saved_s), 6.0);
    }
    for (point, (x, y)) in points.iter().zip(&on_frontier) {
        let own = (point.price - 1.0).abs() < 1e-9;
        let radius = if own { 7.0 } else { 4.5 };
        let price = price(point.price);
        let _ = write!(
            svg,
            "<circle class=\"fill forelay\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">\
             <title>forelay at {price} the price of a second: saves {} s, gain {}, waste {}</title>\
             </circle>",
            grouped(point.saved_s),
            number(point.gain),
            number(point.waste_node)
        );
        let label = if own {
            format!("forelay {price}")
        } else {
            price
        };
        labels.write(svg, (*x, *y), &label, WIDTH);
    }
    for other in near {
        let at = place(other.waste, other.saved_s);
        let _ = write!(
            svg,
            "<circle class=\"fill {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\">\
             <title>{}: saves {} s, waste {}</title></circle>",
            other.policy,
            at.0,
            at.1,
            other.policy,
            grouped(other.saved_s),
            number(Some(other.waste))
        );
        labels.write(svg, at, other.policy.name(), WIDTH);
    }
}

fn price(factor: f64) -> String {
    if factor < 1.0 {
        format!("1/{:.0} ×", 1.0 / factor)
    } else {
        format!("{factor:.0} ×")
    }
}
