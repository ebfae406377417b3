//! Numbers and names as a reader wants them.

use crate::sim::policy::{Policy, Replay};
use crate::sim::report::Rows;
use crate::sim::score::Score;

/// Text as it may stand in a page: what XML cannot hold becomes U+FFFD.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && !c.is_whitespace() => safe.push('\u{fffd}'),
            _ => safe.push(c),
        }
    }
    safe
}

/// At most so many characters, the end cut off.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Three digits after the point, or a dash.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| signless(format!("{value:.3}")))
}

/// Two digits after the point, or a dash.
pub fn brief(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| signless(format!("{value:.2}")))
}

/// `-0.00` reads as if something were below nothing.
fn signless(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// A part of one, as whole per cent.
pub fn percent(part: f64) -> String {
    format!("{}\u{a0}%", signless(format!("{:.0}", part * 100.0)))
}

/// A part of one, as per cent with a digit after the point.
pub fn precisely(part: f64) -> String {
    format!("{}\u{a0}%", signless(format!("{:.1}", part * 100.0)))
}

/// Points between two parts of one, with their sign.
pub fn points(difference: f64) -> String {
    let text = signless(format!("{:.1}", difference * 100.0));
    if difference > 0.0 && text != "0.0" {
        return format!("+{text}");
    }
    text
}

/// A span of time, with two units at most.
pub fn spell(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0 if seconds < 0.05 => "0\u{a0}s".into(),
        0..10 => format!("{:.1}\u{a0}s", seconds.max(0.0)),
        10..120 => format!("{whole}\u{a0}s"),
        120..7200 => format!("{}\u{a0}min\u{a0}{}\u{a0}s", whole / 60, whole % 60),
        _ => format!(
            "{}\u{a0}h\u{a0}{}\u{a0}min",
            whole / 3600,
            whole % 3600 / 60
        ),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 {
        text.insert(0, '−');
    }
    text
}

/// `1 pod`, `2 pods`.
pub fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", grouped(count as f64))
}

/// A policy's row, if it is shown.
pub fn row(rows: &Rows, policy: Policy) -> Option<&Score> {
    let found = rows.0.iter().find(|(row, _)| *row == policy);
    found.map(|(_, score)| score)
}

/// Seconds that pods wait in all replays together; `None` where one lacks the policy.
pub fn wait_s(replays: &[Replay], policy: Policy) -> Option<f64> {
    let waits = replays.iter().map(|replay| {
        let run = replay.runs.get(&policy)?;
        Some(run.tally.waits_s.iter().sum::<f64>())
    });
    waits.sum()
}

/// A key under a heading: a mark of the policy's colour and its name.
pub fn key(policies: impl IntoIterator<Item = Policy>) -> String {
    let marks = policies.into_iter().map(|policy| {
        format!(
            "<span><svg class=\"mark\" viewBox=\"0 0 28 8\" aria-hidden=\"true\">\
             <path class=\"line {policy}\" d=\"M0 4H28\"/></svg>{policy}</span>"
        )
    });
    format!("<p class=\"key\">{}</p>", marks.collect::<String>())
}
