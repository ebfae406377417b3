//! Each number beside what it is held to.

use serde::Serialize;

use crate::Found;

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Limit {
    name: &'static str,
    found: f64,
    /// At least, or at most.
    is: &'static str,
    goal: f64,
    pub met: bool,
}

/// All limits of the parts that were measured, in the order of the issue.
pub fn limits(found: &Found) -> Vec<Limit> {
    let mut all = Vec::new();
    pack(found, &mut all);
    held_out(found, &mut all);
    if let Some(forecast) = &found.forecast {
        all.push(at_most(
            "forecast: pinball ratio to persistence",
            forecast.ratio,
            0.88,
        ));
        all.push(at_least(
            "forecast: 90 % intervals cover",
            forecast.coverage,
            0.87,
        ));
        all.push(at_most(
            "forecast: 90 % intervals cover",
            forecast.coverage,
            0.93,
        ));
    }
    if let Some(robustness) = &found.robustness {
        let (worst, back) = (robustness.worst_fall, robustness.after_a_minute.fall);
        all.push(at_most("robustness: largest fall of gain", worst, 0.05));
        all.push(at_most(
            "robustness: fall a minute after a restart",
            back,
            0.05,
        ));
    }
    if let Some(engine) = &found.engine {
        let (day, backlog) = (engine.large.signals_per_s, engine.backlog.signals_per_s);
        all.push(at_least(
            "engine: signals/s, 5,000 nodes, a day as it comes",
            day,
            500_000.0,
        ));
        all.push(at_least(
            "engine: signals/s, 5,000 nodes, a backlog",
            backlog,
            500_000.0,
        ));
        all.push(at_most(
            "engine: cost per signal over that at 500",
            engine.cost_ratio,
            2.0,
        ));
        all.push(at_most(
            "engine: resident MiB, 5,000 nodes",
            engine.large.resident_mib,
            300.0,
        ));
    }
    if let Some(tuning) = &found.tuning {
        let seconds = tuning.seconds_per_200_trials;
        all.push(at_most("tuning: seconds for 200 trials", seconds, 600.0));
    }
    all
}

fn pack(found: &Found, all: &mut Vec<Limit>) {
    let Some(pack) = &found.pack else {
        return;
    };
    let more = pack.waste_node - pack.pending_waste_node;
    all.extend([
        at_least("pack: gain", pack.gain, 0.75),
        at_least("pack: median gain of the scenarios", pack.median_gain, 0.70),
        at_most(
            "pack: bytes in vain over bytes needed",
            pack.waste_node,
            0.35,
        ),
        at_least(
            "pack: closed of what pending-only leaves",
            pack.closed,
            0.40,
        ),
        at_most("pack: waste beyond that of pending-only", more, 0.0),
        at_most(
            "pack: worst wait against reactive",
            pack.worst_against_reactive,
            0.01,
        ),
        at_most(
            "pack: bytes to nodes where nothing scales",
            pack.quiet_node_bytes,
            0.0,
        ),
        at_most(
            "pack: scenarios that miss their bounds",
            pack.bounds_missed as f64,
            0.0,
        ),
    ]);
}

fn held_out(found: &Found, all: &mut Vec<Limit>) {
    let Some(held) = &found.held_out else {
        return;
    };
    all.push(at_most(
        "held out: gain below the pack",
        held.below_pack,
        0.05,
    ));
    all.push(at_most(
        "other seeds: gain below the pack",
        held.seeds_below_pack,
        0.05,
    ));
}

fn at_least(name: &'static str, found: f64, goal: f64) -> Limit {
    Limit {
        name,
        found,
        is: ">=",
        goal,
        met: found >= goal,
    }
}

fn at_most(name: &'static str, found: f64, goal: f64) -> Limit {
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
        let number = |value: f64| match value.abs() {
            large if large >= 1000.0 => format!("{value:.0}"),
            middle if middle >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.3}"),
        };
        let met = if self.met { "met" } else { "NOT MET" };
        let (found, goal) = (number(self.found), number(self.goal));
        format!("{:<44}{found:>12}  {} {goal:<9} {met}", self.name, self.is)
    }
}
