//! Every number there is, policy by policy.

use std::fmt::Write;

use crate::domain::quantity::ByteSize;
use crate::sim::policy::Replay;
use crate::sim::report::html::text::{escaped, number};
use crate::sim::report::{Report, Rows};

/// The section: all scenarios together, then each behind its name.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let mut html = String::from("<h2>All numbers</h2>");
    if report.scenarios.len() > 1 {
        html.push_str(&table(&report.pooled.policies));
    }
    for (replay, scenario) in replays.iter().zip(&report.scenarios) {
        let open = if replays.len() == 1 {
            " open=\"open\""
        } else {
            ""
        };
        let _ = write!(
            html,
            "<details{open}><summary>{}</summary><p>{}</p>{}</details>",
            escaped(&scenario.name),
            escaped(replay.header.story.trim()),
            table(&scenario.policies)
        );
    }
    html
}

fn table(rows: &Rows) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>policy</th><th>gain</th><th>waste</th>\
         <th>wait, sum</th><th>p50</th><th>p95</th><th>p99</th><th>warm pods</th>\
         <th>to nodes</th><th>never used</th><th>from origin</th></tr></thead><tbody>",
    );
    for (policy, score) in &rows.0 {
        let wait = score.wait_s;
        let _ = write!(
            html,
            "<tr class=\"{policy}\"><th scope=\"row\">{policy}</th><td>{}</td><td>{}</td><td>{:.1} s</td>\
             <td>{:.1} s</td><td>{:.1} s</td><td>{:.1} s</td><td>{} of {}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            number(score.gain),
            number(score.waste_node),
            wait.sum,
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
    html
}
