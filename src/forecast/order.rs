//! In which order a scheduler takes waiting pods: the oldest or the youngest first, or any.
//!
//! kube-scheduler sorts its queue by priority, then by age, but a pod that failed often backs off for up to
//! ten seconds, and younger ones pass it: of two pods that would both have fitted, the older one was bound first
//! in 276 of 828 cases of the recorded flash crowd, in 1,406 of 1,571 of the composed held-out scenarios. So
//! it is learned per cluster, from nothing.

use serde::{Deserialize, Serialize};

/// An observation counts half after so many others: a wave or two.
const HALF_LIFE: f64 = 60.0;

/// Imagined observations that say neither: those of one wave stand or fall together.
const PRIOR: f64 = 10.0;

/// Told in quarters: a new step is a reason to plan anew for all coming nodes, and what is less than an
/// eighth is no order.
const STEPS: f64 = 4.0;

/// Never further than three quarters: a quarter stays drawn by lot, whatever was seen.
const MOST: f64 = 3.0;

/// Decayed counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Order {
    older: f64,
    younger: f64,
}

// === impl Order ===

impl From<(f64, f64)> for Order {
    /// Counts as saved; what is no count is none.
    fn from((older, younger): (f64, f64)) -> Self {
        let count = |n: f64| {
            if n.is_finite() {
                n.clamp(0.0, 1e3)
            } else {
                0.0
            }
        };
        Self {
            older: count(older),
            younger: count(younger),
        }
    }
}

impl From<Order> for (f64, f64) {
    fn from(order: Order) -> Self {
        let tenths = |n: f64| (n * 10.0).round() / 10.0;
        (tenths(order.older), tenths(order.younger))
    }
}

impl Order {
    /// One more pod was bound; of the kinds that it left waiting, this part is younger (0 to 1).
    pub fn note(&mut self, younger_left: f64) {
        let keep = 0.5_f64.powf(1.0 / HALF_LIFE);
        self.older = self.older * keep + younger_left;
        self.younger = self.younger * keep + 1.0 - younger_left;
    }

    /// How far the order is known, in quarters from -.75 (youngest first) over 0 (any) to .75 (oldest
    /// first).
    #[must_use]
    pub fn lean(&self) -> f64 {
        let lean = (self.older - self.younger) / (self.older + self.younger + PRIOR);
        (lean * STEPS).round().clamp(-MOST, MOST) / STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_believed_when_a_wave_has_shown_it_and_given_up_when_the_next_ones_do_not() {
        let mut order = Order::default();
        assert_eq!(order.lean(), 0.0);
        for _ in 0..40 {
            order.note(1.0);
        }
        // 32 that still count beside 10 imagined ones that say neither: .76.
        assert_eq!(order.lean(), 0.75);
        for _ in 0..60 {
            order.note(0.0);
        }
        // 16 for it, 43 against it: -.4.
        assert_eq!(order.lean(), -0.5);
    }
}
