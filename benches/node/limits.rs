//! Each number beside what issue 4 holds it to.

use crate::rows::Row;
use crate::{Form, Found, Link};

/// One line of the table.
#[derive(Debug)]
pub struct Limit {
    name: String,
    found: f64,
    /// At least, or at most.
    is: &'static str,
    goal: f64,
    met: bool,
}

/// All limits of the parts that were measured.
pub fn limits(found: &Found) -> Vec<Limit> {
    let mut all: Vec<Limit> = found.rows.iter().flat_map(of_row).collect();
    if let Some(guest) = &found.guest {
        let name = "guest: upper 95 % bound of the slowdown";
        all.push(at_most(name.into(), guest.slowdown_upper95, 0.05));
    }
    let mut most = |name: &str, found: Option<f64>, goal: f64| {
        all.extend(found.map(|found| at_most(name.into(), found, goal)));
    };
    most("record to CRI, ms", found.cri_visible_ms, 20.0);
    most("resident while unpacking, MiB", found.rss_unpack_mib, 64.0);
    most("resident idle, MiB", found.rss_idle_mib, 10.0);
    all
}

fn of_row(row: &Row) -> Vec<Limit> {
    let of = |what: &str| {
        let (image, link, form) = (&row.image, row.link.word(), row.form.word());
        format!("{image} {link} {form}: {what}")
    };
    let ratio = |goal| at_least(of("peer over forelay"), row.ratio, goal);
    match (row.link, row.form) {
        (Link::None, Form::Gzip) => vec![
            ratio(3.0),
            at_most(
                of("CPU over peer's"),
                row.forelay_cpu_s / row.peer_cpu_s,
                0.5,
            ),
            at_most(of("over the CPU floor"), row.forelay_s / row.floor_s, 1.25),
        ],
        (Link::None, _) => vec![ratio(5.0)],
        (Link::Gigabit, _) => vec![ratio(2.2)],
        (Link::Slow, _) => vec![at_most(
            of("over the link floor"),
            row.forelay_s / row.floor_s,
            1.05,
        )],
    }
}

fn at_least(name: String, found: f64, goal: f64) -> Limit {
    Limit {
        name,
        found,
        is: ">=",
        goal,
        met: found >= goal,
    }
}

fn at_most(name: String, found: f64, goal: f64) -> Limit {
    Limit {
        name,
        found,
        is: "<=",
        goal,
        met: found <= goal,
    }
}

// === impl Limit ===

impl Limit {
    /// As a row for people.
    pub fn row(&self) -> String {
        let met = if self.met { "met" } else { "NOT MET" };
        let Self {
            name,
            found,
            is,
            goal,
            ..
        } = self;
        format!("{name:<44}{found:>12.3}  {is} {goal:<9} {met}")
    }
}
