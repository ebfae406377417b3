//! The reliability diagram: how often came true what plans called probable.

use std::fmt::Write;

use crate::sim::policy::Policy;
use crate::sim::report::Report;
use crate::sim::report::html::chart::Axis;
use crate::sim::report::html::text::{counted, number, percent, row};
use crate::sim::score::{Bin, Calibration};

const LEFT: f64 = 52.0;
const SIDE: f64 = 340.0;
const TOP: f64 = 12.0;
/// Room for the bars that tell how many pairs stand behind a point.
const COUNTS: f64 = 56.0;
/// Of a normal distribution, for 95 %.
const Z: f64 = 1.96;

/// The section; empty where no plan says a probability.
pub fn draw(report: &Report) -> String {
    let score = row(&report.pooled.policies, Policy::Forelay);
    let Some(calibration) = score.and_then(|score| score.calibration.as_ref()) else {
        return String::new();
    };
    format!(
        "<h2>Are the probabilities true?</h2><div class=\"beside\"><figure>{}</figure><div><p>Every \
         point is a tenth of the probabilities that Forelay's plans said of “a pod uses this image on \
         this new node within ten minutes of Ready”, against the part that came true. On the diagonal \
         they are true; below it plans promised too much. Upright lines are 95 % intervals of the part \
         (Wilson 1927); bars below tell how many pairs of node and image stand behind a point.</p><p>{} \
         in all. Brier score {} (0 is perfect), log loss {} nats.</p></div></div>",
        diagram(calibration),
        counted(calibration.pairs, "pair"),
        number(Some(calibration.brier)),
        number(Some(calibration.log_loss)),
    )
}

fn diagram(calibration: &Calibration) -> String {
    let bottom = TOP + SIDE;
    let across = Axis::linear([0.0, 1.0], [LEFT, LEFT + SIDE]);
    let up = Axis::linear([0.0, 1.0], [bottom, TOP]);
    let base = bottom + COUNTS;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" aria-label=\"Reliability diagram\">",
        LEFT + SIDE + 22.0,
        base + 40.0
    );
    let ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|t| (t, percent(t)));
    across.draw_upright(&mut svg, (TOP, base), &ticks);
    up.draw_level(&mut svg, (LEFT, LEFT + SIDE), &ticks);
    let _ = write!(
        svg,
        "<path class=\"ideal\" d=\"M{LEFT:.1} {bottom:.1}L{:.1} {TOP:.1}\"/>\
         <text class=\"tick start\" x=\"{:.1}\" y=\"{:.1}\">came true</text>\
         <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">probability said</text>",
        LEFT + SIDE,
        LEFT + 5.0,
        TOP + 13.0,
        LEFT + SIDE,
        base + 33.0
    );
    let most = calibration.bins.iter().map(|bin| bin.pairs).max();
    let counts = Axis::linear([0.0, most.unwrap_or(1) as f64], [0.0, COUNTS - 12.0]);
    let mut line = String::new();
    for (number, bin) in calibration.bins.iter().enumerate() {
        let step = if number == 0 { 'M' } else { 'L' };
        let _ = write!(
            line,
            "{step}{:.1} {:.1}",
            across.at(bin.said),
            up.at(bin.used)
        );
    }
    let _ = write!(svg, "<path class=\"line thin forelay\" d=\"{line}\"/>");
    for bin in &calibration.bins {
        let x = across.at(bin.said);
        let [low, high] = wilson(bin);
        let tall = counts.at(bin.pairs as f64).max(1.0);
        let _ = write!(
            svg,
            "<path class=\"whisker\" d=\"M{x:.1} {:.1}V{:.1}\"/>\
             <rect class=\"count\" x=\"{:.1}\" y=\"{:.1}\" width=\"16\" height=\"{tall:.1}\"/>\
             <circle class=\"fill forelay\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"5\"><title>said {}, came true \
             {}, {}</title></circle>",
            up.at(low),
            up.at(high),
            x - 8.0,
            base - tall,
            up.at(bin.used),
            percent(bin.said),
            percent(bin.used),
            counted(bin.pairs, "pair"),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// 95 % score interval of a share (Wilson 1927): inside 0 to 1 for any count, unlike the normal one.
fn wilson(bin: &Bin) -> [f64; 2] {
    let pairs = bin.pairs.max(1) as f64;
    let scale = 1.0 + Z * Z / pairs;
    let middle = (bin.used + Z * Z / (2.0 * pairs)) / scale;
    let spread = bin.used * (1.0 - bin.used) / pairs + Z * Z / (4.0 * pairs * pairs);
    let half = Z * spread.sqrt() / scale;
    [middle - half, middle + half]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_share_and_stays_between_nothing_and_all() {
        for used in [0.0, 0.5, 1.0] {
            let [low, high] = wilson(&Bin {
                said: 0.5,
                used,
                pairs: 10,
            });
            assert!(low >= -1e-9 && high <= 1.0 + 1e-9, "{low} {high}");
            assert!(low <= used + 1e-9 && used <= high + 1e-9);
        }
        // 5 of 10: 0.2366 to 0.7634, as in tables of the Wilson interval.
        let half = Bin {
            said: 0.5,
            used: 0.5,
            pairs: 10,
        };
        assert!((wilson(&half)[0] - 0.2366).abs() < 1e-3);
    }
}
