//! One wave of nodes: what was moved to each of them, when, why, and who still waited.

mod drawing;
mod moves;
mod wave;

use crate::sim::policy::{Policy, Replay};
use crate::sim::report::Report;
use crate::sim::report::html::text::{counted, escaped, row};
use crate::sim::report::timeline::drawing::Drawing;
use crate::sim::report::timeline::wave::{Wave, longest};

const KEY: &str = "<p class=\"key\">\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><rect class=\"sent\" width=\"18\" height=\"10\"/></svg>\
sent ahead by the agent</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><rect class=\"vain\" width=\"18\" height=\"10\"/></svg>\
sent ahead, never used</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><rect class=\"pulled\" width=\"18\" height=\"10\"/></svg>\
pulled by the kubelet</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><rect class=\"is\" y=\"3\" width=\"18\" height=\"4\"/></svg>\
pod waits for images</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><rect class=\"was\" y=\"3\" width=\"18\" height=\"4\"/></svg>\
would wait with a kubelet alone</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><path class=\"joined\" d=\"M5 1l7 4l-7 4z\"/></svg>\
node joins</span>\
<span><svg class=\"swatch\" viewBox=\"0 0 18 10\"><path class=\"ready\" d=\"M9 0V10\"/></svg>\
node Ready</span></p>";

/// The section; empty where Forelay is not shown, or nobody waits.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let shown = row(&report.pooled.policies, Policy::Forelay).is_some();
    let found = longest(replays).filter(|_| shown).and_then(|replay| {
        let with = &replay.runs.get(&Policy::Forelay)?.notes;
        let without = &replay.runs.get(&Policy::Reactive)?.notes;
        Some((replay, with, without, Wave::biggest(replay)?))
    });
    let Some((replay, with, without, wave)) = found else {
        return String::new();
    };
    let drawing = Drawing::new(&replay.facts, (with, without), &wave);
    let drawn = if wave.nodes.len() < wave.all {
        format!(
            "; of its {} the {} with the longest waits are drawn",
            counted(wave.all, "node"),
            wave.nodes.len()
        )
    } else {
        format!(" of {}", counted(wave.all, "node"))
    };
    format!(
        "<h2>One wave, node by node</h2><p>The biggest wave of <b>{}</b>, the scenario with most waiting\
         {drawn}. Every bar is one image on its way to a node; hover it for its name, its bytes and the reason \
         in the plan. What comes later than {:.0} s is not drawn.</p>{KEY}<figure class=\"wide\">{}</figure>",
        escaped(&replay.header.name),
        drawing.seconds(),
        drawing.draw(&wave.nodes)
    )
}
