//! The replay in one paragraph.

use std::fmt::Write;

use crate::domain::quantity::ByteSize;
use crate::sim::policy::{Policy, Replay};
use crate::sim::report::Report;
use crate::sim::report::html::text::{brief, counted, points, precisely, row, spell, wait_s};
use crate::sim::score::Score;

/// Title and paragraph.
pub fn draw(replays: &[Replay], report: &Report) -> String {
    let rows = &report.pooled.policies;
    let ours = row(rows, Policy::Forelay);
    let pending = row(rows, Policy::PendingOnly);
    let waits = |policy| wait_s(replays, policy).filter(|_| !replays.is_empty());
    let reactive_s = waits(Policy::Reactive);
    let headline = match (reactive_s, ours) {
        (Some(before), Some(score)) => format!(
            "Pods waited <b class=\"before\">{}</b> for images; with Forelay \
             <b class=\"after\">{}</b>",
            spell(before),
            spell(score.wait_s.sum)
        ),
        _ => "Waiting for images".into(),
    };
    let mut words = said_of_the_pack(replays, report);
    if let Some(score) = ours {
        words.push_str(&said_of_gain(score, pending, report));
        words.push_str(&said_of_waste(score, pending));
    }
    if let (Some(before), Some(oracle), Some(score)) =
        (row(rows, Policy::Reactive), waits(Policy::Oracle), ours)
    {
        let _ = write!(
            words,
            " Half of the pods waited no longer than {} instead of {}, 95 in 100 no longer than {} \
             instead of {}; the best schedule known would still leave {} of waiting.",
            spell(score.wait_s.p50),
            spell(before.wait_s.p50),
            spell(score.wait_s.p95),
            spell(before.wait_s.p95),
            spell(oracle)
        );
    }
    format!(
        "<header><p class=\"eyebrow\">Forelay replay</p><h1>{headline}</h1>\
         <p class=\"lede\">{words}</p></header>"
    )
}

fn said_of_the_pack(replays: &[Replay], report: &Report) -> String {
    let pods: usize = replays
        .iter()
        .filter_map(|replay| replay.runs.get(&Policy::Reactive))
        .map(|run| run.tally.waits_s.len())
        .sum();
    format!(
        "{} with {} on nodes that joined, played once under each of {}.",
        counted(report.scenarios.len(), "scenario"),
        counted(pods, "pod"),
        if report.pooled.policies.0.len() == 1 {
            "1 policy".into()
        } else {
            format!("{} policies", report.pooled.policies.0.len())
        }
    )
}

fn said_of_gain(score: &Score, pending: Option<&Score>, report: &Report) -> String {
    let Some(gain) = score.gain else {
        return " There was next to nothing to gain: nobody waits for images here.".into();
    };
    let mut words = format!(
        " Forelay saved <b>{}</b> of the waiting that can be saved at all",
        precisely(gain)
    );
    if let Some([low, high]) = score.interval.and_then(|interval| interval.gain) {
        let _ = write!(
            words,
            " (95 % interval {} to {})",
            precisely(low),
            precisely(high)
        );
    }
    let Some(theirs) = pending.and_then(|pending| pending.gain) else {
        words.push('.');
        return words;
    };
    let _ = write!(
        words,
        "; a system that looks only at pending pods saves <b>{}</b>",
        precisely(theirs)
    );
    if let Some(over) = report.pooled.over_pending
        && let Some(gain) = over.gain
    {
        let _ = write!(words, ", a difference of {} points", points(gain));
        if let Some([low, high]) = over.interval {
            let unsure = if low <= 0.0 && high >= 0.0 {
                ", so none at all cannot be ruled out"
            } else {
                ""
            };
            let (low, high) = (points(low), points(high));
            let _ = write!(words, " (95 % interval {low} to {high}{unsure})");
        }
    }
    words.push('.');
    words
}

fn said_of_waste(score: &Score, pending: Option<&Score>) -> String {
    let Some(waste) = score.waste_node else {
        return String::new();
    };
    let theirs = pending.and_then(|pending| pending.waste_node);
    let theirs = theirs.map_or_else(String::new, |waste| {
        format!(", where pending-only has {}", brief(Some(waste)))
    });
    format!(
        " It sent {} that no pod used: <b>{}</b> bytes for every byte needed{theirs}.",
        ByteSize(score.wasted_bytes),
        brief(Some(waste))
    )
}
