//! A page that shows a replay, complete in one file: no script, nothing from elsewhere.

mod bars;
mod caveats;
pub(super) mod chart;
mod frontier;
mod reliability;
mod remaining;
mod scenarios;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
pub(super) mod text;
mod waits;

use std::fmt::Write;

use crate::sim::policy::Replay;
use crate::sim::report::{Report, timeline};

const STYLE: &str = include_str!("html/page.css");

/// The whole page, from what matters most to every number there is. The same replays make the same
/// bytes.
#[must_use]
pub fn page(replays: &[Replay], report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <title>Forelay replay</title><style>{STYLE}</style></head><body>"
    );
    html.push_str(&summary::draw(replays, report));
    let sections = [
        bars::draw(report),
        scenarios::draw(replays, report),
        remaining::draw(report),
        frontier::draw(replays, report),
        waits::draw(replays, report),
        reliability::draw(report),
        timeline::draw(replays, report),
        caveats::sensitivity(report),
        caveats::draw(report),
        tables::draw(replays, report),
    ];
    for section in sections.iter().filter(|section| !section.is_empty()) {
        let _ = write!(html, "\n<section>{section}</section>");
    }
    html.push_str("\n</body></html>\n");
    html
}
