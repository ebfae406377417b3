//! Max-min fair shares of one capacity.

/// Shares `capacity` among flows that can take at most `caps`: all get the same, those that can take
/// less get what they can take, and what they leave goes to the others.
#[must_use]
pub fn water_fill(caps: &[f64], capacity: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..caps.len()).collect();
    order.sort_by(|a, b| caps[*a].total_cmp(&caps[*b]));
    let mut rates = vec![0.0; caps.len()];
    let mut left = capacity;
    for (served, &flow) in order.iter().enumerate() {
        let share = left / (caps.len() - served) as f64;
        rates[flow] = caps[flow].min(share);
        left -= rates[flow];
    }
    rates
}

/// What one link would take.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Of each of its flows, were it alone.
    pub caps: Vec<f64>,
    /// Of the link.
    pub capacity: f64,
}

impl Demand {
    /// What its flows take in all when none gets more than `level`, and by how much that grows with the
    /// level.
    fn at(&self, level: f64) -> (f64, f64) {
        let (mut total, mut grows) = (0.0, 0.0);
        for &cap in &self.caps {
            total += cap.min(level);
            grows += if cap > level { 1.0 } else { 0.0 };
        }
        if total >= self.capacity {
            (self.capacity, 0.0)
        } else {
            (total, grows)
        }
    }
}

/// The level that no flow may be above so that all links together take `capacity`; the capacity itself
/// where no level is too much.
///
/// What they take is concave and piecewise linear in the level, so Newton's steps from the left never
/// pass the solution, and there are no more of them than pieces; in practice three or four.
#[must_use]
pub fn level_for(capacity: f64, demands: &[Demand]) -> f64 {
    let flows: usize = demands.iter().map(|demand| demand.caps.len()).sum();
    // With an equal share for everybody they cannot take more than there is.
    let mut level = capacity / flows.max(1) as f64;
    for _ in 0..=2 * flows {
        let (mut total, mut grows) = (0.0, 0.0);
        for demand in demands {
            let (takes, more) = demand.at(level);
            total += takes;
            grows += more;
        }
        let left = capacity - total;
        if left <= 1e-12 * capacity {
            return level;
        }
        if grows <= 0.0 {
            return capacity;
        }
        level += left / grows;
    }
    level
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flows_without_caps_share_equally() {
        assert_eq!(water_fill(&[1e15; 4], 100.0), [25.0; 4]);
    }

    #[test]
    fn what_a_capped_flow_leaves_goes_to_the_others() {
        let caps = [1e15, 10.0, 1e15];
        assert_eq!(water_fill(&caps, 100.0), [45.0, 10.0, 45.0]);
    }

    proptest! {
        #[test]
        fn the_level_fills_the_uplink_or_nobody_wants_more(
            links in prop::collection::vec(
                (prop::collection::vec(0.1f64..100.0, 0..6), 0.1f64..200.0),
                1..8,
            ),
            capacity in 0.1f64..500.0,
        ) {
            let demands: Vec<Demand> = links
                .into_iter()
                .map(|(caps, capacity)| Demand { caps, capacity })
                .collect();
            let total = |level: f64| -> f64 {
                let takes = demands.iter().map(|demand| {
                    let caps: Vec<f64> = demand.caps.iter().map(|cap| cap.min(level)).collect();
                    water_fill(&caps, demand.capacity).iter().sum::<f64>()
                });
                takes.sum()
            };
            let level = level_for(capacity, &demands);
            let wished = total(f64::MAX);
            prop_assert!((total(level) - capacity.min(wished)).abs() < 1e-6 * capacity);
        }

        #[test]
        fn a_flow_gets_less_than_another_only_when_it_cannot_take_more(
            caps in prop::collection::vec(0.1f64..100.0, 1..12),
            capacity in 0.1f64..500.0,
        ) {
            let rates = water_fill(&caps, capacity);
            let total: f64 = rates.iter().sum();
            let wished: f64 = caps.iter().sum();
            prop_assert!((total - capacity.min(wished)).abs() < 1e-6, "work conserving");
            let top = rates.iter().copied().fold(0.0, f64::max);
            for (rate, cap) in rates.iter().zip(&caps) {
                prop_assert!(rate <= cap);
                prop_assert!(*rate >= top - 1e-9 || (rate - cap).abs() < 1e-9);
            }
        }
    }
}
