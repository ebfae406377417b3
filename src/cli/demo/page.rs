//! The demo's report as one self-contained HTML page.

use std::fmt::Write as _;

use crate::cli::demo::ledger::{Ledger, NodeStory};
use crate::cli::demo::summary::{Run, Summary};
use crate::cli::demo::timeline;
use crate::domain::outcome::PodOutcome;
use crate::domain::quantity::ByteSize;
use crate::domain::scenario::Header;

const STYLE: &str = include_str!("page.css");

/// Writes the page.
#[must_use]
pub fn render(
    header: &Header,
    summary: &Summary,
    note: &str,
    (reactive, planned): (&Ledger, &Ledger),
) -> String {
    let mut page = String::new();
    let (before, after) = (summary.reactive.wait_s.sum, summary.forelay.wait_s.sum);
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>Forelay demo: {name}</title><style>{STYLE}</style>\
         <main><header><p class=eyebrow>Forelay demo &middot; {name}</p>\
         <h1>Pods waited <b class=slow>{before:.0}&nbsp;s</b> for images; with Forelay \
         <b class=fast>{after:.0}&nbsp;s</b>.</h1><p class=lede>{story}</p>\
         <p class=note>Played over real sockets with real bytes and digests: one real second is \
         {time} recorded seconds, one byte stands for {bytes}. All figures below are in the \
         recording's own seconds and bytes.</p></header>",
        name = escape(&summary.scenario),
        story = escape(&header.story),
        time = summary.scale.time,
        bytes = summary.scale.bytes,
    );
    page.push_str(&table(summary, note));
    page.push_str(&distribution(reactive, planned));
    page.push_str("<section><h2>Node by node</h2>");
    page.push_str(timeline::LEGEND);
    let mut nodes: Vec<(&String, &NodeStory)> = planned
        .nodes()
        .iter()
        .filter(|(_, node)| node.new)
        .collect();
    nodes.sort_by_key(|(name, node)| (node.joined, name.as_str()));
    for (name, after) in nodes {
        if let Some(before) = reactive.nodes().get(name) {
            page.push_str(&timeline::node(header.start, name, before, after));
        }
    }
    let _ = write!(
        page,
        "</section><footer><p>{}</p><p>Licence of the recording: {}</p></footer></main></html>",
        escape(&header.provenance),
        escape(&header.licence)
    );
    page
}

fn table(summary: &Summary, note: &str) -> String {
    type Row = (&'static str, fn(&Run) -> String);
    let rows: [Row; 9] = [
        ("Pods on new nodes", |run| run.pods.to_string()),
        ("Started warm", |run| run.warm_pods.to_string()),
        ("Image wait, median", |run| {
            format!("{:.1} s", run.wait_s.p50)
        }),
        ("Image wait, p95", |run| format!("{:.1} s", run.wait_s.p95)),
        ("Image wait, p99", |run| format!("{:.1} s", run.wait_s.p99)),
        ("Image wait, sum", |run| format!("{:.0} s", run.wait_s.sum)),
        ("Bytes from the origin", |run| {
            ByteSize(run.origin_bytes).to_string()
        }),
        ("Bytes from the cache", |run| {
            ByteSize(run.cache_bytes).to_string()
        }),
        ("Bytes brought in vain", |run| {
            ByteSize(run.wasted_bytes).to_string()
        }),
    ];
    let mut html = String::from(
        "<section><table><thead><tr><th scope=col></th><th scope=col>Reactive</th>\
         <th scope=col>Forelay</th></tr></thead><tbody>",
    );
    for (name, cell) in rows {
        let _ = write!(
            html,
            "<tr><th scope=row>{name}</th><td>{}</td><td>{}</td></tr>",
            cell(&summary.reactive),
            cell(&summary.forelay)
        );
    }
    let lead = |value: Option<f64>| value.map_or("none".into(), |v| format!("{v:.1} s"));
    let _ = write!(
        html,
        "</tbody></table><p class=note>Used images had entered the plan {} (median; p10 {}) before \
         their node was Ready. {}</p></section>",
        lead(summary.lead_s.p50),
        lead(summary.lead_s.p10),
        escape(note)
    );
    html
}

/// Share of pods that had their images within so many seconds, as two step lines.
fn distribution(reactive: &Ledger, planned: &Ledger) -> String {
    const WIDTH: f64 = 860.0;
    const HEIGHT: f64 = 180.0;
    let waits = |ledger: &Ledger| {
        let mut waits: Vec<f64> = ledger.scored().map(PodOutcome::wait_s).collect();
        waits.sort_by(f64::total_cmp);
        waits
    };
    let (before, after) = (waits(reactive), waits(planned));
    let longest = before.iter().chain(&after).fold(1.0_f64, |a, b| a.max(*b));
    // Most waits are short: a square-root axis shows them without hiding the tail.
    let x = |wait: f64| 40.0 + (wait / longest).sqrt() * (WIDTH - 60.0);
    let y = |share: f64| HEIGHT - 24.0 - share * (HEIGHT - 40.0);
    let line = |waits: &[f64]| {
        let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
        for (index, wait) in waits.iter().enumerate() {
            let share = (index + 1) as f64 / waits.len() as f64;
            let _ = write!(path, "H{:.1}V{:.1}", x(*wait), y(share));
        }
        let _ = write!(path, "H{:.1}", x(longest));
        path
    };
    let mut svg = format!(
        "<section><h2>Share of pods that had their images within &hellip;</h2>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"Distribution of image waits\">"
    );
    for share in [0.0, 0.5, 1.0] {
        let _ = write!(
            svg,
            "<line class=grid x1=40 x2={:.0} y1={y:.1} y2={y:.1} /><text x=34 y={t:.1} \
             text-anchor=end>{:.0}%</text>",
            WIDTH - 20.0,
            share * 100.0,
            y = y(share),
            t = y(share) + 4.0
        );
    }
    for tick in [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0] {
        if tick < longest {
            let _ = write!(
                svg,
                "<text x={:.1} y={:.1} text-anchor=middle>{tick} s</text>",
                x(tick),
                HEIGHT - 6.0
            );
        }
    }
    let _ = write!(
        svg,
        "<path class=\"line slow\" d=\"{}\"/><path class=\"line fast\" d=\"{}\"/></svg></section>",
        line(&before),
        line(&after)
    );
    svg
}

/// Text made safe for HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
