//! In which order a scheduler takes waiting pods: the oldest or the youngest first, or any.
//!
//! kube-scheduler sorts its queue by priority, then by age, but a pod that failed often backs off for up to
//! ten seconds, and younger ones pass it: of two pods that would both have fitted, the older one was bound first
//! in 276 of 828 cases of the recorded flash crowd, in 1,406 of 1,571 of the composed held-out scenarios. So
//! it is learned per cluster, from nothing.

use serde::{Deserialize, Serialize};

use crate::forecast::tally::Tally;

/// Told in quarters: a new step is a reason to plan anew for all coming nodes, and what is less than an
/// eighth is no order.
const STEPS: f64 = 4.0;

/// Never further than three quarters: a quarter stays drawn by lot, whatever was seen.
const MOST: f64 = 3.0;

/// Bindings before younger pods, and before older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Order(Tally);

// === impl Order ===

impl Order {
    /// One more pod was bound; of the kinds that it left waiting, this part is younger (0 to 1).
    pub fn note(&mut self, younger_left: f64) {
        self.0.note(younger_left);
    }

    /// How far the order is known, in quarters from -.75 (youngest first) over 0 (any) to .75 (oldest
    /// first).
    #[must_use]
    pub fn lean(&self) -> f64 {
        let lean = 2.0 * self.0.chance(0.5) - 1.0;
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
