//! One line for each scenario: what was lost, what is won, at what waste.

use std::fmt::Write;

use crate::sim::policy::{Policy, Replay};
use crate::sim::report::html::chart::Axis;
use crate::sim::report::html::text::{brief, escaped, row, spell};
use crate::sim::report::{Report, ScenarioReport};

/// Width of a small bar, in its own units.
const WIDTH: f64 = 120.0;

/// The section; empty where Forelay is not shown.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let mut lines = String::new();
    for (replay, scenario) in replays.iter().zip(&report.scenarios) {
        lines.push_str(&line(replay, scenario));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Scenario by scenario</h2><p>Waits are sums over the pods on new nodes. “Recorded” is \
         what the recording's own pulls took, beside the same pods under the model's kubelet; a \
         composed scenario's recording is itself a model's. The upright mark in a bar is \
         pending-only.</p><div class=\"scroll\"><table class=\"scenarios\"><thead><tr><th>scenario</th>\
         <th>pods</th><th>recorded</th><th>kubelet alone</th><th>Forelay</th><th>oracle</th>\
         <th colspan=\"2\">gain</th><th colspan=\"2\">waste</th></tr></thead>\
         <tbody>{lines}</tbody></table></div>"
    )
}

fn line(replay: &Replay, scenario: &ScenarioReport) -> String {
    let Some(score) = row(&scenario.policies, Policy::Forelay) else {
        return String::new();
    };
    let pending = row(&scenario.policies, Policy::PendingOnly);
    let waited = |policy: Policy| {
        let run = replay.runs.get(&policy);
        run.map_or_else(|| "–".into(), |run| spell(run.tally.waits_s.iter().sum()))
    };
    let name = &scenario.name;
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"figure\">{}</td><td class=\"small\">{}</td><td class=\"figure\">{}</td>\
         <td class=\"small\">{}</td></tr>",
        escaped(name),
        score.pods,
        scenario.recorded_wait_s.map_or_else(|| "–".into(), spell),
        waited(Policy::Reactive),
        spell(score.wait_s.sum),
        waited(Policy::Oracle),
        brief(score.gain),
        small(score.gain, pending.and_then(|p| p.gain), "gain"),
        brief(score.waste_node),
        small(
            score.waste_node,
            pending.and_then(|p| p.waste_node),
            "waste"
        ),
    )
}

/// A bar from 0 to 1 with a mark for the other.
fn small(own: Option<f64>, other: Option<f64>, what: &str) -> String {
    let axis = Axis::linear([0.0, 1.0], [0.0, WIDTH]);
    let class = if what == "gain" {
        Policy::Forelay.name()
    } else {
        "wasted"
    };
    let mut svg = format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} 14\" role=\"img\" aria-label=\"{what}\">\
         <title>{what}: forelay {}, pending-only {}</title>\
         <rect class=\"track\" width=\"{WIDTH}\" y=\"2\" height=\"10\" rx=\"2\"/>",
        brief(own),
        brief(other)
    );
    if let Some(own) = own {
        let _ = write!(
            svg,
            "<rect class=\"fill {class}\" width=\"{:.1}\" y=\"2\" height=\"10\" rx=\"2\"/>",
            axis.at(own)
        );
    }
    if let Some(other) = other {
        let x = axis.at(other).clamp(1.0, WIDTH - 1.0);
        let _ = write!(svg, "<path class=\"other\" d=\"M{x:.1} 0V14\"/>");
    }
    svg.push_str("</svg>");
    svg
}
