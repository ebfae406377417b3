//! The waiting that is left, by how early its pods could be known of.

use std::fmt::Write;

use crate::sim::policy::Policy;
use crate::sim::report::Report;
use crate::sim::report::html::text::{grouped, percent, spell};
use crate::sim::report::remaining::{COMPARED, Remaining};

/// The section; empty where the policies it compares were not all played.
pub fn draw(report: &Report) -> String {
    let Some(remaining) = &report.pooled.remaining else {
        return String::new();
    };
    let mut lines = String::new();
    for row in &remaining.moments {
        let _ = write!(
            lines,
            "<tr><th scope=\"row\">{}</th><td>{}</td>",
            row.moment.words(),
            grouped(row.pods as f64)
        );
        for policy in COMPARED {
            let seconds = row.wait_s.get(policy.name()).copied();
            let _ = write!(lines, "<td>{}</td>", spell(seconds.unwrap_or(0.0)));
        }
        lines.push_str("</tr>");
    }
    let heads: String = COMPARED.map(|policy| format!("<th>{policy}</th>")).concat();
    format!(
        "<h2>Where the remaining seconds are</h2><p>{}</p><div class=\"scroll\"><table><thead><tr>\
         <th>pods</th><th>how many</th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>",
        said(remaining)
    )
}

fn said(remaining: &Remaining) -> String {
    let closed = |policy: Policy| remaining.closed.get(policy.name()).copied().flatten();
    let mut words = String::from(
        "Waits for images, summed, by how early a pod could be known of, seen from the node that it \
         came to.",
    );
    if let (Some(ours), Some(images)) = (closed(Policy::Forelay), closed(Policy::OracleImages)) {
        let _ = write!(
            words,
            " Of the seconds that pending-only leaves to the oracle, Forelay saves {}; somebody who is \
             told which images each node will need, but not when, saves {} with the same agent. What \
             that one leaves is mostly order: whose images on a node are needed first.",
            percent(ours),
            percent(images)
        );
    }
    words
}
