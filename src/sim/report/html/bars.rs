//! Gain and waste of every policy over all scenarios, with their intervals.

use std::fmt::Write;

use crate::sim::policy::Policy;
use crate::sim::report::Report;
use crate::sim::report::html::chart::Axis;
use crate::sim::report::html::text::number;
use crate::sim::score::Score;

const WIDTH: f64 = 1000.0;
const ROW: f64 = 30.0;
const TOP: f64 = 30.0;
/// Waste above this is told by its number: a list that an operator wrote can waste ten times as much
/// as all others, whose bars would be nothing beside it.
const WASTE_MOST: f64 = 1.0;

/// One of the two halves.
struct Panel {
    axis: Axis,
    title: &'static str,
    /// Where the numbers end.
    numbers: f64,
    bottom: f64,
}

/// The section; empty where no policy is shown.
pub fn draw(report: &Report) -> String {
    let rows = &report.pooled.policies.0;
    if rows.is_empty() {
        return String::new();
    }
    let bottom = TOP + ROW * rows.len() as f64;
    let gains = rows.iter().filter_map(|(_, score)| score.gain);
    let lowest = gains.fold(0.0, f64::min).max(-1.0);
    let gain = Panel {
        axis: Axis::linear([lowest, 1.0], [130.0, 490.0]),
        title: "gain (more is better)",
        numbers: 545.0,
        bottom,
    };
    let waste = Panel {
        axis: Axis::linear([0.0, WASTE_MOST], [590.0, 940.0]),
        title: "waste at nodes (less is better)",
        numbers: WIDTH - 2.0,
        bottom,
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" \
         aria-label=\"Gain and waste of every policy\">",
        bottom + 24.0
    );
    gain.draw_frame(&mut svg);
    waste.draw_frame(&mut svg);
    for (place, (policy, score)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (place as f64 + 0.5);
        let strong = if *policy == Policy::Forelay {
            " class=\"strong\""
        } else {
            ""
        };
        let _ = write!(
            svg,
            "<text{strong} x=\"0\" y=\"{:.1}\">{policy}</text>",
            middle + 4.0
        );
        let interval = score.interval;
        let gains = interval.and_then(|interval| interval.gain);
        gain.draw_bar(&mut svg, *policy, middle, (score.gain, gains));
        let wastes = interval.and_then(|interval| interval.waste_node);
        waste.draw_bar(&mut svg, *policy, middle, (score.waste_node, wastes));
    }
    svg.push_str("</svg>");
    let marks = if rows.iter().any(|(_, score)| has_interval(score)) {
        " Thin lines are 95 % intervals: which scenarios happen to be in the pack is resampled, 2,000 \
         times, seeds inside."
    } else {
        ""
    };
    format!(
        "<h2>Gain and waste</h2><p>Gain is the part of the waiting that the best known schedule \
         saves over a kubelet alone, and that the policy saves too; waste is bytes sent ahead and \
         never used, per byte needed.{marks}</p><figure>{svg}</figure>"
    )
}

fn has_interval(score: &Score) -> bool {
    score
        .interval
        .is_some_and(|interval| interval.gain.is_some())
}

// === impl Panel ===

impl Panel {
    fn draw_frame(&self, svg: &mut String) {
        let ticks = self.axis.ticks(5);
        let ticks: Vec<(f64, String)> = ticks.into_iter().map(|t| (t, format!("{t:.1}"))).collect();
        self.axis.draw_upright(svg, (TOP, self.bottom), &ticks);
        let _ = write!(
            svg,
            "<text class=\"head\" x=\"{:.0}\" y=\"16\">{}</text>",
            self.axis.places[0], self.title
        );
    }

    fn draw_bar(
        &self,
        svg: &mut String,
        policy: Policy,
        middle: f64,
        (value, interval): (Option<f64>, Option<[f64; 2]>),
    ) {
        let _ = write!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.numbers,
            middle + 4.0,
            number(value)
        );
        let Some(value) = value else {
            return;
        };
        let [from, to] = [self.axis.at(value.min(0.0)), self.axis.at(value.max(0.0))];
        let between = interval.map_or_else(String::new, |[low, high]| {
            format!(
                ", 95 % between {} and {}",
                number(Some(low)),
                number(Some(high))
            )
        });
        let _ = write!(
            svg,
            "<rect class=\"fill {policy}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" \
             rx=\"2\"><title>{policy}: {}{between}</title></rect>",
            middle - 7.0,
            (to - from).max(1.0),
            number(Some(value)),
        );
        if let Some([low, high]) = interval.filter(|[low, high]| low < high) {
            let [left, right] = [self.axis.at(low), self.axis.at(high)];
            if right > left {
                let (over, under) = (middle - 4.0, middle + 4.0);
                let _ = write!(
                    svg,
                    "<path class=\"whisker\" d=\"M{left:.1} {middle:.1}H{right:.1}M{left:.1} \
                     {over:.1}V{under:.1}M{right:.1} {over:.1}V{under:.1}\"/>"
                );
            }
        }
        if value > self.axis.values[1] {
            // Torn: the bar goes on.
            let x = self.axis.places[1] - 16.0;
            let _ = write!(
                svg,
                "<path class=\"torn\" d=\"M{x:.1} {:.1}l4 -20M{:.1} {:.1}l4 -20\"/>",
                middle + 10.0,
                x + 6.0,
                middle + 10.0
            );
        }
    }
}
