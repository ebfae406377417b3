//! One number for a whole set of scenarios: what tuning maximises, and how far it can still rise.
//!
//! J = pooled gain + median gain / 4 - 0.2 waste - 2 (waste - 0.25) above that limit - harm - noise.
//! The reasons are in `docs/tuning.md`.

use serde::{Deserialize, Serialize};

use crate::forecast::model::Marks;
use crate::sim::score::Tally;
use crate::sim::tune::course::Course;

/// Version of the formula: journals of another one are not resumed.
pub const VERSION: u32 = 2;

/// Weight of the median scenario's gain beside the pooled one: a model must not buy the largest
/// scenario with the others.
const MEDIAN_WEIGHT: f64 = 0.25;

/// What a unit of waste costs in gain. Going from pending pods only to every source of knowledge, the
/// shipped scenarios pay 0.36 of gain for a unit of waste (0.8345 to 0.883 for 0.115 to 0.249): what
/// buys less than about half of that is not worth its bytes. At 0.1 searches spent all the waste that
/// there was below the limit on the last hundredth of the training gain; at 0.3 they fell back to
/// pending pods only. Scenarios that were held back paid for both.
const WASTE_SLOPE: f64 = 0.2;

/// Waste that is borne for gain. 0.35 is promised; the room between is for scenarios not seen.
const WASTE_LIMIT: f64 = 0.25;

/// Above the limit a unit of waste costs more than any unit of gain brings (at most 1.25).
const WASTE_PRICE: f64 = 2.0;

/// A scenario may be worse than reactive by this part: the promise that is tested.
const HARM_LIMIT: f64 = 0.01;

/// What such a scenario costs at once; beyond it, the part by which it is worse.
const HARM_STEP: f64 = 0.1;

/// What bytes in a quiet scenario cost at once, and again per gigabyte up to one.
const NOISE_STEP: f64 = 0.1;

/// Where the price of noise stops to grow, in bytes.
const NOISE_BYTES: f64 = 1e9;

/// What counts of one run of one scenario, in digits that a journal keeps as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Summed image waits, seconds.
    pub wait_s: f64,
    /// Bytes delivered to nodes.
    pub bytes: f64,
    /// Of these, bytes that the agent brought and nobody used.
    pub wasted: f64,
    /// Bytes that pods needed and nodes did not have: a fact of the scenario.
    pub needed: f64,
}

// === impl Run ===

impl Run {
    /// Of a tally.
    #[must_use]
    pub fn of(tally: &Tally) -> Self {
        Self {
            wait_s: rounded(tally.wait_s()),
            bytes: tally.node_bytes.round(),
            wasted: tally.wasted_bytes.round(),
            needed: tally.needed_bytes.round(),
        }
    }
}

/// Scores of one run per scenario; the slices are equally long.
#[must_use]
pub fn marks(courses: &[Course], runs: &[Run]) -> Marks {
    let (mut saved, mut possible, mut wasted, mut needed) = (0.0, 0.0, 0.0, 0.0);
    let mut gains = Vec::new();
    let mut penalty = 0.0;
    for (course, run) in courses.iter().zip(runs) {
        let reactive = course.reactive.wait_s;
        // Whoever does better than the oracle has shown a better schedule.
        let oracle = course.oracle.wait_s.min(run.wait_s);
        saved += reactive - run.wait_s;
        possible += reactive - oracle;
        wasted += run.wasted;
        needed += run.needed;
        if course.is_quiet() {
            penalty += noise(course, run);
        } else {
            gains.push((reactive - run.wait_s) / (reactive - oracle));
        }
        penalty += harm(reactive, run.wait_s);
    }
    let gain = (possible > 0.0).then(|| saved / possible);
    let gain_median = median(gains);
    let waste = if needed > 0.0 { wasted / needed } else { 0.0 };
    let objective = gain.unwrap_or(0.0) + MEDIAN_WEIGHT * gain_median.unwrap_or(0.0)
        - WASTE_SLOPE * waste
        - WASTE_PRICE * (waste - WASTE_LIMIT).max(0.0)
        - penalty;
    Marks {
        gain: gain.map(rounded),
        gain_median: gain_median.map(rounded),
        waste_node: (needed > 0.0).then(|| rounded(waste)),
        objective: rounded(objective),
    }
}

/// How near to the oracle a trial may come on a scenario beyond what any trial has shown, as a part of
/// what is left: what prunes must leave room for a discovery.
const DISCOVERY: f64 = 0.25;

/// What is known to be possible on each scenario: the least wait and the least waste of all trials.
#[must_use]
pub fn best_seen<'a>(courses: &[Course], trials: impl Iterator<Item = &'a [Run]>) -> Vec<Run> {
    let mut seen: Vec<Run> = courses.iter().map(|course| course.start).collect();
    for (best, run) in trials.flat_map(|runs| {
        let places = 0..runs.len().min(courses.len());
        places.map(move |at| (at, runs[at]))
    }) {
        let best = &mut seen[best];
        best.wait_s = best.wait_s.min(run.wait_s);
        best.wasted = best.wasted.min(run.wasted);
        best.bytes = best.bytes.min(run.bytes);
    }
    seen
}

/// How far the objective may still rise when only the first scenarios have been played: on each of
/// the others the best that was seen, and a quarter of the way from there to the oracle.
#[must_use]
pub fn hope(courses: &[Course], runs: &[Run], seen: &[Run]) -> f64 {
    let rest = courses.iter().zip(seen).skip(runs.len());
    let rest = rest.map(|(course, seen)| {
        let toward = |from: f64, to: f64| from + DISCOVERY * (to - from).min(0.0);
        Run {
            wait_s: toward(seen.wait_s, course.oracle.wait_s),
            bytes: toward(seen.bytes, course.reactive.bytes),
            wasted: toward(seen.wasted, 0.0),
            needed: seen.needed,
        }
    });
    let all: Vec<Run> = runs.iter().copied().chain(rest).collect();
    marks(courses, &all).objective
}

fn harm(reactive_s: f64, wait_s: f64) -> f64 {
    // A second in all is what the gain is null for, and no harm either.
    let worse = wait_s - reactive_s * (1.0 + HARM_LIMIT);
    if worse <= 0.0 || wait_s < 1.0 {
        return 0.0;
    }
    HARM_STEP + (worse / reactive_s.max(1.0)).min(1.0)
}

fn noise(course: &Course, run: &Run) -> f64 {
    let sent = (run.bytes - course.reactive.bytes).max(run.wasted);
    if sent < 1.0 {
        return 0.0;
    }
    NOISE_STEP * (1.0 + (sent / NOISE_BYTES).min(1.0))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// Six digits after the point survive a journal as they are.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6 + 0.0
}
