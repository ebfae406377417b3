//! Intervals by resampling scenarios, with their seeds inside.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::sim::score::{LEAST_WAIT_S, rounded};

/// Resamples: the standard error of a 2.5 % quantile of so many is a third of a per cent of rank.
const RESAMPLES: usize = 2_000;

/// Scenarios below this many say nothing about others.
const LEAST_SCENARIOS: usize = 3;

/// Part of the resamples beyond each end: 95 % lie between.
const TAIL: f64 = 0.025;

/// What one file adds to every sum, under one policy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Wait under reactive, seconds.
    pub reactive_s: f64,
    /// Under the oracle.
    pub oracle_s: f64,
    /// Under the policy.
    pub wait_s: f64,
    /// Bytes that agents brought in vain.
    pub wasted: f64,
    /// Bytes that pods needed.
    pub needed: f64,
}

/// Ends of 95 % intervals, low then high; null where a number is null in most resamples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Of the gain.
    pub gain: Option<[f64; 2]>,
    /// Of the waste at nodes.
    pub waste_node: Option<[f64; 2]>,
}

/// Which files each resample is made of; the same for every policy, so that differences are paired.
#[derive(Clone, Debug)]
pub struct Resamples {
    /// Numbers of files, by resample.
    drawn: Vec<Vec<usize>>,
}

// === impl Sums ===

impl Sums {
    fn plus(self, other: Self) -> Self {
        Self {
            reactive_s: self.reactive_s + other.reactive_s,
            oracle_s: self.oracle_s + other.oracle_s,
            wait_s: self.wait_s + other.wait_s,
            wasted: self.wasted + other.wasted,
            needed: self.needed + other.needed,
        }
    }

    fn gain(&self) -> Option<f64> {
        let possible = self.reactive_s - self.oracle_s;
        (self.reactive_s >= LEAST_WAIT_S && possible > 0.0)
            .then(|| (self.reactive_s - self.wait_s) / possible)
    }

    fn waste(&self) -> Option<f64> {
        (self.needed > 0.0).then(|| self.wasted / self.needed)
    }
}

// === impl Resamples ===

impl Resamples {
    /// Draws scenarios with replacement, then for each as many of its files as it has. `names` are the
    /// scenarios' names by file: files of one name are seeds of one scenario. `None` for fewer than
    /// three scenarios.
    #[must_use]
    pub fn draw(names: &[&str], seed: u64) -> Option<Self> {
        let mut files: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (file, name) in names.iter().enumerate() {
            files.entry(name).or_default().push(file);
        }
        let scenarios: Vec<Vec<usize>> = files.into_values().collect();
        if scenarios.len() < LEAST_SCENARIOS {
            return None;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut one = || {
            let mut drawn = Vec::with_capacity(names.len());
            for _ in 0..scenarios.len() {
                let files = &scenarios[rng.random_range(0..scenarios.len())];
                let picks = (0..files.len()).map(|_| files[rng.random_range(0..files.len())]);
                drawn.extend(picks);
            }
            drawn
        };
        let drawn = (0..RESAMPLES).map(|_| one()).collect();
        Some(Self { drawn })
    }

    /// Intervals of one policy, given its sums by file.
    #[must_use]
    pub fn interval(&self, sums: &[Sums]) -> Interval {
        Interval {
            gain: self.ends(|drawn| total(sums, drawn).gain()),
            waste_node: self.ends(|drawn| total(sums, drawn).waste()),
        }
    }

    /// Interval of the difference of two policies' gains, first less second.
    #[must_use]
    pub fn gain_difference(&self, first: &[Sums], second: &[Sums]) -> Option<[f64; 2]> {
        self.ends(|drawn| Some(total(first, drawn).gain()? - total(second, drawn).gain()?))
    }

    fn ends(&self, number: impl Fn(&[usize]) -> Option<f64>) -> Option<[f64; 2]> {
        let mut found: Vec<f64> = self
            .drawn
            .iter()
            .filter_map(|drawn| number(drawn))
            .collect();
        if found.len() * 2 < self.drawn.len() {
            return None;
        }
        found.sort_by(f64::total_cmp);
        let rank = (TAIL * found.len() as f64) as usize;
        Some([rounded(found[rank]), rounded(found[found.len() - 1 - rank])])
    }
}

fn total(sums: &[Sums], drawn: &[usize]) -> Sums {
    let picked = drawn.iter().map(|file| sums[*file]);
    picked.fold(Sums::default(), Sums::plus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(wait_s: f64) -> Sums {
        Sums {
            reactive_s: 100.0,
            oracle_s: 0.0,
            wait_s,
            wasted: wait_s,
            needed: 100.0,
        }
    }

    #[test]
    fn scenarios_that_agree_leave_no_doubt() {
        let resamples = Resamples::draw(&["a", "b", "c"], 1).unwrap();
        let interval = resamples.interval(&[sums(20.0); 3]);
        assert_eq!(interval.gain, Some([0.8, 0.8]));
        assert_eq!(interval.waste_node, Some([0.2, 0.2]));
    }

    #[test]
    fn an_interval_holds_the_mean_and_stays_within_the_extremes() {
        let resamples = Resamples::draw(&["a", "b", "c", "d"], 1).unwrap();
        let all = [10.0, 20.0, 30.0, 40.0].map(sums);
        let [low, high] = resamples.interval(&all).gain.unwrap();
        assert!((0.6..0.75).contains(&low) && (0.75..=0.9).contains(&high));
    }

    #[test]
    fn a_difference_is_paired_so_that_what_scenarios_share_drops_out() {
        let resamples = Resamples::draw(&["a", "b", "c"], 1).unwrap();
        let first = [10.0, 40.0, 70.0].map(sums);
        let second = [20.0, 50.0, 80.0].map(sums);
        assert_eq!(resamples.gain_difference(&first, &second), Some([0.1, 0.1]));
    }

    #[test]
    fn seeds_of_two_scenarios_are_no_third_scenario() {
        assert!(Resamples::draw(&["a", "a", "b", "b"], 1).is_none());
        assert!(Resamples::draw(&["a", "a", "b", "c"], 1).is_some());
    }

    #[test]
    fn the_same_seed_draws_the_same_resamples() {
        let interval = |seed| {
            let resamples = Resamples::draw(&["a", "b", "c"], seed).unwrap();
            resamples.interval(&[10.0, 40.0, 70.0].map(sums))
        };
        assert_eq!(interval(3), interval(3));
    }
}
