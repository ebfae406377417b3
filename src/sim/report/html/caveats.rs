//! What the numbers do not say by themselves.

use std::fmt::Write;

use crate::domain::quantity::ByteSize;
use crate::sim::policy::{Policy, SENSITIVE};
use crate::sim::report::Report;
use crate::sim::report::html::text::{number, row, spell};

/// Serial and parallel kubelets side by side; empty where that was not asked for.
pub fn sensitivity(report: &Report) -> String {
    if report.sensitivity.is_empty() {
        return String::new();
    }
    let mut heads = String::new();
    let mut subheads = String::new();
    for variant in &report.sensitivity {
        let how = match variant.parallel_pulls {
            1 => "one pull after the other".to_owned(),
            pulls => format!("{pulls} pulls at once"),
        };
        let _ = write!(heads, "<th colspan=\"3\" scope=\"colgroup\">{how}</th>");
        subheads.push_str("<th>wait</th><th>gain</th><th>waste</th>");
    }
    let mut lines = String::new();
    for policy in SENSITIVE {
        let _ = write!(
            lines,
            "<tr class=\"{policy}\"><th scope=\"row\">{policy}</th>"
        );
        for variant in &report.sensitivity {
            let score = row(&variant.policies, policy);
            let _ = write!(
                lines,
                "<td>{}</td><td>{}</td><td>{}</td>",
                score.map_or_else(|| "–".into(), |score| spell(score.wait_s.sum)),
                number(score.and_then(|score| score.gain)),
                number(score.and_then(|score| score.waste_node)),
            );
        }
        lines.push_str("</tr>");
    }
    format!(
        "<h2>Other kubelets</h2><p>A kubelet pulls images one after the other unless \
         <code>serializeImagePulls</code> is off. The same scenarios with kubelets that pull several at \
         once, their gains measured between that world's own reactive and oracle.</p>\
         <div class=\"scroll\"><table><thead><tr><td></td>{heads}</tr><tr><th>policy</th>\
         {subheads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
}

/// What is modelled, and what that leaves open.
pub fn draw(report: &Report) -> String {
    let ours = row(&report.pooled.policies, Policy::Forelay);
    let at_end = ours.map_or_else(String::new, |score| {
        format!(
            " Of Forelay's {} of waste, {} lie so.",
            ByteSize(score.wasted_bytes),
            ByteSize(score.unused_at_end_bytes)
        )
    });
    format!(
        "<h2>How far to trust this</h2><dl>\
         <dt>Open loop</dt><dd>Nodes join and pods are bound when the recording says. In a cluster the \
         autoscaler and the scheduler react to how long pods wait; here they reacted to the waits as \
         recorded, so a policy that makes pods start sooner does not make fewer nodes join.</dd>\
         <dt>Unused at the end</dt><dd>Bytes count as used when a pod with them is bound to the node \
         within an hour of its joining. Those that are still unused on a node whose hour is not over when \
         the recording ends count as wasted, though somebody may still have come.{at_end}</dd>\
         <dt>The oracle</dt><dd>It knows every pod and every arrival, but sends over the same links, and \
         no sooner than the agent runs. Ordering its transfers is a scheduling problem that nobody solves \
         exactly at this size: per node, four rules with one or four transfers at once, then up to 80 moves of \
         single images while they help. Should another policy wait less, that run is taken for the \
         oracle's. So it is the best schedule known, not a proven optimum; true gains may be a little \
         smaller than shown, never larger.</dd>\
         <dt>Waits</dt><dd>From bound and node Ready to the last image, of pods that started in the \
         recording on nodes that joined in it. Every policy's waits, also reactive's, come out of the same model of \
         links, unpacking and kubelet; where the recording tells of its own pulls, the table above \
         shows their waits beside the model's.</dd></dl>"
    )
}
