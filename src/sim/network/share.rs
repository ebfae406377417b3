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

/// The level at which `total(level)`, which grows with the level, fills `capacity`; the capacity itself
/// where no level does. By bisection, to a part in 10^12.
#[must_use]
pub fn level_for(capacity: f64, total: impl Fn(f64) -> f64) -> f64 {
    // No flow can have more than everything.
    let (mut low, mut high) = (0.0, capacity);
    if total(high) <= capacity {
        return high;
    }
    while high - low > 1e-12 * capacity {
        let middle = 0.5 * (low + high);
        if total(middle) <= capacity {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
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
