//! A page that shows a replay, complete in one file.

use std::fmt::Write;

use crate::domain::quantity::ByteSize;
use crate::sim::policy::{Policy, Replay};
use crate::sim::report::timeline;
use crate::sim::report::{Report, Rows};

/// Rows of a timeline: what is lost without us, what we make of it, what is possible.
const DRAWN: [Policy; 3] = [Policy::Reactive, Policy::Forelay, Policy::Oracle];

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b2430;--soft:#66707d;--paper:#fbfbf9;--card:#fff;--line:#e2e2dc;
--agent:#2f6fd0;--kubelet:#c98a1b;--wait:#d2443e;--good:#2e8b57}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--soft:#98a2ad;--paper:#14181d;--card:#1c2229;
--line:#303841;--agent:#6aa5ff;--kubelet:#e3b04b;--wait:#f0706a;--good:#5fc48a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:72rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif}
h1{font-size:1.7rem;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.5rem 0 .5rem}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{max-width:46rem;margin:.25rem 0 1rem;color:var(--soft)}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.45rem .8rem;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:500}
th:first-child,td:first-child{text-align:left}
tr.forelay td{font-weight:600}
td.bar{width:24%;min-width:9rem}
td.bar i{display:block;height:.6rem;border-radius:3px;background:var(--wait);min-width:2px}
tr.forelay td.bar i{background:var(--agent)}tr.oracle td.bar i{background:var(--good)}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.88rem;color:var(--soft);margin:.5rem 0 1rem}
.key i{display:inline-block;width:1rem;height:.6rem;border-radius:2px;margin-right:.4rem}
figure{margin:0 0 1rem;padding:.7rem 1rem .4rem;background:var(--card);border:1px solid var(--line);
border-radius:8px}
figcaption{font-size:.88rem;color:var(--soft);margin-bottom:.3rem}figcaption b{color:var(--ink)}
svg{display:block;width:100%;height:auto}
text{font:12px system-ui,sans-serif;fill:var(--ink)}text.tick{fill:var(--soft);text-anchor:middle;
font-size:11px}
.grid{stroke:var(--line)}.ready{stroke:var(--good);stroke-dasharray:3 3}
rect.agent{fill:var(--agent)}rect.kubelet{fill:var(--kubelet)}rect.wait{fill:var(--wait);opacity:.35}
circle.warm{fill:var(--good)}
";

/// The whole page: policies side by side, then every node that joined.
#[must_use]
pub fn page(replays: &[Replay], report: &Report) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Forelay replay</title><style>{STYLE}</style></head><body><h1>Forelay replay</h1>\
         <p>Image wait of pods on nodes that joined: from bound and Ready to the last image. Gain is \
         the part of what an oracle would have saved over a kubelet alone; waste is bytes that were \
         sent ahead and never used, per byte needed.</p>"
    );
    if report.scenarios.len() > 1 {
        html.push_str("<h2>All scenarios</h2>");
        draw_rows(&mut html, &report.pooled.policies);
    }
    for (replay, scenario) in replays.iter().zip(&report.scenarios) {
        let _ = write!(
            html,
            "<h2>{}</h2><p>{}</p>",
            escaped(&scenario.name),
            escaped(&replay.header.story)
        );
        draw_rows(&mut html, &scenario.policies);
        draw_nodes(&mut html, replay, &scenario.policies);
    }
    html.push_str("</body></html>\n");
    html
}

fn draw_rows(html: &mut String, rows: &Rows) {
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>policy</th><th>gain</th><th>waste</th>\
         <th>wait, sum</th><th></th><th>p50</th><th>p95</th><th>p99</th><th>warm pods</th>\
         <th>to nodes</th><th>never used</th><th>from origin</th></tr></thead><tbody>",
    );
    let sums = rows.0.iter().map(|(_, score)| score.wait_s.sum);
    let longest = sums.fold(f64::MIN_POSITIVE, f64::max);
    for (policy, score) in &rows.0 {
        let wait = score.wait_s;
        let _ = write!(
            html,
            "<tr class=\"{policy}\"><td>{policy}</td><td>{}</td><td>{}</td><td>{:.1} s</td>\
             <td class=\"bar\"><i style=\"width:{:.1}%\"></i></td><td>{:.1} s</td><td>{:.1} s</td>\
             <td>{:.1} s</td><td>{} of {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            number(score.gain),
            number(score.waste_node),
            wait.sum,
            100.0 * wait.sum / longest,
            wait.p50,
            wait.p95,
            wait.p99,
            score.warm_pods,
            score.pods,
            ByteSize(score.node_bytes),
            ByteSize(score.wasted_bytes),
            ByteSize(score.origin_bytes),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn draw_nodes(html: &mut String, replay: &Replay, rows: &Rows) {
    let shown: Vec<Policy> = rows.0.iter().map(|(policy, _)| *policy).collect();
    let mut drawn: Vec<Policy> = DRAWN.into_iter().filter(|p| shown.contains(p)).collect();
    if !shown.contains(&Policy::Forelay) {
        drawn = shown;
    }
    html.push_str(
        "<h3>Nodes, from joining on</h3><div class=\"key\">\
         <span><i style=\"background:var(--agent)\"></i>layers sent ahead</span>\
         <span><i style=\"background:var(--kubelet)\"></i>layers pulled for a pod</span>\
         <span><i style=\"background:var(--wait);opacity:.6\"></i>pods waiting (darker: more)</span>\
         <span><i style=\"background:var(--good)\"></i>node Ready; a dot: a pod that did not wait</span>\
         </div>",
    );
    for node in (0..replay.facts.nodes.len()).filter(|node| replay.facts.nodes[*node].new) {
        html.push_str(&timeline::node(replay, &drawn, node));
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.3}"))
}

/// Text as it may stand in a page.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}
