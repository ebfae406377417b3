//! An explanation in sentences.

use crate::cli::render;
use crate::domain::image::ImageRef;
use crate::domain::plan::{Priority, Reason, Staging};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Outlook;
use crate::plan::explain::{Explanation, Fate, Fill};
use crate::sim::explain::{
    Expected, Left, NodeStory, PodStory, PoolStory, Sent, Short, Totals, Why,
};

/// Images that were not sent and that nobody used, and pods of one image, that are named; the others
/// are counted. All of them are in the JSON.
const NAMED_MAX: usize = 12;

/// A node.
pub(super) fn node(story: &NodeStory) -> String {
    let clock = Clock(story.start);
    let mut lines = vec![
        format!(
            "node {} of pool {}, scenario {}",
            story.node, story.pool, story.scenario
        ),
        life(story, clock),
    ];
    lines.extend(totals(&story.totals));
    if !story.new {
        lines.push("it was there at the start: its pods' waits are not scored".into());
    }
    lines.push(String::new());
    lines.push(match story.sent.len() {
        0 => "No plan named any image for it.".into(),
        count => format!("What a plan named for it ({count}), in this order:"),
    });
    for (sent, number) in story.sent.iter().zip(1..) {
        lines.push(String::new());
        lines.push(format!("{number}. {}", sent.image));
        lines.extend(
            named(sent, clock)
                .into_iter()
                .map(|line| format!("   {line}")),
        );
    }
    lines.extend(not_sent(&story.left_out));
    lines.extend(budgets(&story.budgets, clock));
    if !story.let_go.is_empty() {
        let images: Vec<String> = story.let_go.iter().map(ImageRef::to_string).collect();
        lines.push(String::new());
        lines.push(format!("let go, where room is needed: {}", list(&images)));
    }
    let mut text = lines.join("\n") + "\n";
    if !story.pods.is_empty() {
        text += "\nIts pods, and how long they waited for images:\n\n";
        text += &pods(story);
    }
    text + &then(story.at.as_ref(), clock)
}

/// A pool.
pub(super) fn pool(story: &PoolStory) -> String {
    let clock = Clock(story.start);
    let mut lines = vec![
        format!("pool {}, scenario {}", story.pool, story.scenario),
        format!(
            "its plan, for any coming node, was published {} times",
            story.plans
        ),
    ];
    lines.extend(story.arrival.iter().flat_map(|known| arrival(known, clock)));
    lines.push(String::new());
    lines.push(match story.named.len() {
        0 => "No image was near enough to certain for every coming node.".into(),
        _ => "What it named:".to_owned(),
    });
    for (named, number) in story.named.iter().zip(1..) {
        let until = named.until.map(|at| clock.at(at));
        lines.push(String::new());
        lines.push(format!("{number}. {}", named.image));
        let until = until.unwrap_or_else(|| "the end".into());
        lines.push(format!("   from {} to {until}", clock.at(named.why.at)));
        lines.extend(why(&named.why).into_iter().map(|line| format!("   {line}")));
    }
    lines.extend(not_sent(&story.left_out));
    lines.extend(budgets(&story.budgets, clock));
    lines.extend(expected(&story.expected, clock));
    let mut text = lines.join("\n") + "\n";
    if !story.nodes.is_empty() {
        let rows = story.nodes.iter().map(|line| {
            [
                line.node.clone(),
                clock.at(line.joined),
                ByteSize(line.totals.sent_bytes).to_string(),
                ByteSize(line.totals.wasted_bytes).to_string(),
                format!("{:.1}", line.totals.wait_s),
                format!("{:.1}", line.totals.reactive_wait_s),
                format!("{:.1}", line.totals.saved_s),
            ]
        });
        let headers = [
            "node", "joined", "sent", "unused", "wait s", "without", "saved s",
        ];
        text += "\nIts new nodes:\n\n";
        text += &render::table(headers, rows);
    }
    text + &then(story.at.as_ref(), clock)
}

/// How long nodes take, whether some are late, whether the cloud has any.
fn arrival(known: &Outlook, clock: Clock) -> Vec<String> {
    let mut lines = vec![format!(
        "a node takes {:.0} s from the request to Ready, {:.0} to {:.0} s in four of five cases; known from {} that came and {} given up",
        known.p50_s, known.p10_s, known.p90_s, known.known, known.in_vain
    )];
    if let (Some(oldest), Some(left)) = (known.oldest_s, known.left_s) {
        lines.push(format!(
            "{} asked for and not there: the oldest for {oldest:.0} s, with {left:.0} s to go as likely as not",
            known.waiting
        ));
    }
    if let Some(refused) = known.refused {
        let times = if known.refusals == 1 {
            "once".to_owned()
        } else {
            format!("{} times", known.refusals)
        };
        lines.push(format!(
            "out of stock: refused {times} since a node last came, at last {}",
            clock.at(refused)
        ));
    }
    lines
}

/// Times are told since the scenario's start.
#[derive(Clone, Copy)]
struct Clock(Timestamp);

impl Clock {
    fn at(self, at: Timestamp) -> String {
        format!("{:+.1} s", at.secs_since(self.0))
    }
}

fn life(story: &NodeStory, clock: Clock) -> String {
    let mut life = vec![format!("joined {}", clock.at(story.joined))];
    life.extend(story.ready.map(|at| format!("Ready {}", clock.at(at))));
    life.extend(story.removed.map(|at| format!("gone {}", clock.at(at))));
    life.join(", ")
}

fn totals(totals: &Totals) -> [String; 2] {
    [
        format!(
            "sent ahead {}, of these {} unused; the kubelet pulled {}",
            ByteSize(totals.sent_bytes),
            ByteSize(totals.wasted_bytes),
            ByteSize(totals.pulled_bytes)
        ),
        format!(
            "its pods waited {:.1} s for images, {:.1} s without Forelay: {:.1} s saved",
            totals.wait_s, totals.reactive_wait_s, totals.saved_s
        ),
    ]
}

fn named(sent: &Sent, clock: Clock) -> Vec<String> {
    let lead = match sent.lead_s {
        Some(lead) if lead >= 0.0 => format!(", {lead:.1} s before Ready"),
        Some(lead) => format!(", {:.1} s after Ready", -lead),
        None => String::new(),
    };
    let mut lines = vec![format!(
        "named {} by the {}'s plan{lead}",
        clock.at(sent.since),
        sent.by
    )];
    lines.extend(why(&sent.first));
    if sent.strongest.chance > sent.first.chance + 0.005 {
        let at = clock.at(sent.strongest.at);
        lines.push(format!("and more so {at}: {}", because(&sent.strongest)));
    }
    lines.push(match (sent.from, sent.to) {
        (Some(from), Some(to)) => format!(
            "brought {} to {}: {}, of these {} unused",
            clock.at(from),
            clock.at(to),
            ByteSize(sent.bytes),
            ByteSize(sent.wasted_bytes)
        ),
        _ => "nothing of it was moved: it was there, or the kubelet was first".into(),
    });
    lines.push(match sent.used_by.as_slice() {
        [] => "no pod used it".into(),
        pods => format!("used by {}", list(pods)),
    });
    lines
}

fn why(why: &Why) -> Vec<String> {
    let waits = match why.priority {
        Priority::Pending => "for pods that exist",
        Priority::Predicted => "for pods that probably come",
        Priority::Background => "for nobody in particular",
    };
    vec![
        because(why),
        format!(
            "{}, {waits}; {:.1} pods expected to wait for it",
            against(why.chance, why.threshold),
            why.pods
        ),
    ]
}

fn because(why: &Why) -> String {
    let reasons: Vec<String> = why
        .reasons
        .iter()
        .take(4)
        .map(|(reason, chance)| format!("{} ({chance:.2})", says(reason)))
        .collect();
    let more = why.reasons.len().saturating_sub(4);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("because of {}{more}", reasons.join(", "))
}

fn against(chance: f64, threshold: Option<f64>) -> String {
    match threshold {
        Some(threshold) => format!("probability {chance:.3}, sent from {threshold:.3}"),
        None => format!("probability {chance:.3}"),
    }
}

fn says(reason: &Reason) -> String {
    match reason {
        Reason::Bound(of) => format!("bound pod {of}"),
        Reason::Nominated(of) => format!("nominated pod {of}"),
        Reason::PendingPod(of) => format!("pending pod {of}"),
        Reason::DaemonSet(of) => format!("DaemonSet {of}"),
        Reason::Announced(of) => format!("announcement {of}"),
        Reason::ScalerWish(of) => format!("scaler's wish for {of}"),
        Reason::Rollout(of) => format!("rollout of {of}"),
        Reason::Replacement(of) => format!("replacement of {of}"),
        Reason::Schedule(of) => format!("calendar of {of}"),
        Reason::History(of) => format!("history of pool {of}"),
    }
}

fn not_sent(left: &[Left]) -> Vec<String> {
    if left.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), "What no plan named:".into()];
    let (used, unused): (Vec<&Left>, Vec<&Left>) = left.iter().partition(|one| one.used);
    let shown = used.iter().chain(unused.iter().take(NAMED_MAX));
    lines.extend(shown.map(|one| {
        let used = if one.used { " (a pod used it)" } else { "" };
        format!("- {}{used}: {}", one.image, left_why(one))
    }));
    if unused.len() > NAMED_MAX {
        let more = unused.len() - NAMED_MAX;
        lines.push(format!("- and {more} more that no pod used"));
    }
    lines
}

fn budgets(short: &[Short], clock: Clock) -> Vec<String> {
    let lines = short
        .iter()
        .map(|short| format!("{}, {}", filled(&short.fill), clock.at(short.at)));
    let heading = (!short.is_empty()).then(String::new);
    heading.into_iter().chain(lines).collect()
}

fn expected(told: &[Expected], clock: Clock) -> Vec<String> {
    let skipped = told.len().saturating_sub(NAMED_MAX);
    let mut lines: Vec<String> = told
        .iter()
        .skip(skipped)
        .map(|one| {
            let Staging { p50, p90, least } = one.nodes;
            let at = clock.at(one.at);
            format!("- {at}: {p50}, at p90 {p90}, no fewer than {least}")
        })
        .collect();
    if !lines.is_empty() {
        let last = if skipped > 0 { ", the last" } else { "" };
        lines.insert(0, format!("New nodes to be ready for{last}:"));
        lines.insert(0, String::new());
    }
    lines
}

/// `budget: 3 of 5 images in 2.0 GB, at least 94 % of the best possible value`
fn filled(fill: &Fill) -> String {
    format!(
        "{}: {} of {} images in {}, at least {:.0} % of the best possible value",
        fill.budget,
        fill.taken,
        fill.wanted,
        fill.bytes,
        (fill.at_least * 100.0).floor()
    )
}

fn left_why(left: &Left) -> String {
    let Some(why) = &left.why else {
        return "nothing spoke for it".into();
    };
    let fate = left.fate.as_ref().map_or("", fate);
    format!(
        "{fate}; {}, {}",
        against(why.chance, why.threshold),
        because(why)
    )
}

fn fate(fate: &Fate) -> &'static str {
    match fate {
        Fate::Planned(_) => "planned",
        Fate::Present => "there already",
        Fate::Unlikely => "too unlikely for its bytes",
        Fate::Unresolved => "nobody had said what the reference means",
        Fate::Platform => "not made for this platform",
        Fate::Policy => "forbidden by the policy",
        Fate::Budget => "no room in the disk budget",
        Fate::Link => "a guess that the link could not bring in time",
        Fate::Zone => "a guess beyond what may be on its way into the zone",
        Fate::Registry => "a guess beyond what its registry may be asked",
    }
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    let more = names.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}

fn pods(story: &NodeStory) -> String {
    let clock = Clock(story.start);
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".into(), |s| format!("{s:.1}"));
    let row = |pod: &PodStory| {
        let saved = pod.reactive_wait_s.zip(pod.wait_s).map(|(a, b)| a - b);
        [
            pod.pod.clone(),
            clock.at(pod.bound),
            seconds(pod.wait_s),
            seconds(pod.reactive_wait_s),
            seconds(saved),
            if pod.scored { "yes" } else { "no" }.into(),
        ]
    };
    let headers = ["pod", "bound", "wait s", "without", "saved s", "scored"];
    render::table(headers, story.pods.iter().map(row))
}

fn then(at: Option<&Explanation>, clock: Clock) -> String {
    let Some(seen) = at else {
        return String::new();
    };
    let name = |image: &ImageRef| image.to_string();
    let rows = seen.verdicts.iter().map(|verdict| {
        let threshold = verdict.threshold;
        [
            name(&verdict.image),
            fate(&verdict.fate).to_owned(),
            format!("{:.3}", verdict.chance),
            threshold.map_or_else(|| "-".into(), |limit| format!("{limit:.3}")),
            format!("{:.1}", verdict.pods),
            verdict
                .reasons
                .first()
                .map_or_else(String::new, |(reason, _)| says(reason)),
        ]
    });
    let headers = ["image", "then", "chance", "sent from", "pods", "because of"];
    let table = render::table(headers, rows);
    let fills: String = seen.fills.iter().map(|fill| filled(fill) + "\n").collect();
    let nodes = seen.nodes.map_or_else(String::new, |nodes| {
        format!(
            "nodes to be ready for: {}, at p90 {}\n",
            nodes.p50, nodes.p90
        )
    });
    format!(
        "\nHow it stood {}:\n\n{table}{fills}{nodes}",
        clock.at(seen.made)
    )
}
