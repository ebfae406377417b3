//! What stands between a stream that repeats and reorders and an engine that wants neither.
//!
//! Pure: signals and a time in, decisions out; whoever drives it counts and logs them.

mod dedup;
mod order;

pub use dedup::{Dedup, Memory};
pub use order::{Lane, Order, OrderLimits};

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::rejection::Rejection;

/// Bounds of an [`Admission`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// How identities are remembered.
    pub memory: Memory,
    /// How signals are put in order.
    pub order: OrderLimits,
}

/// De-duplication by (`source`, `id`), then ordering by `observedtime`.
#[derive(Debug)]
pub struct Admission {
    dedup: Dedup,
    order: Order,
}

impl Admission {
    /// Nothing seen, nothing held.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            dedup: Dedup::new(limits.memory),
            order: Order::new(limits.order),
        }
    }

    /// Takes a signal, or says why not. `lane` is the history that it belongs to, if any.
    pub fn offer(
        &mut self,
        signal: Signal,
        now: Timestamp,
        lane: Option<Lane>,
    ) -> Result<(), Rejection> {
        self.order.progress(&signal, now, lane);
        let identity = self.dedup.check(&signal)?;
        self.order.check(&signal, now)?;
        self.dedup.remember(identity, signal.observedtime);
        self.order.hold(signal, now);
        Ok(())
    }

    /// The next signal in order, if it need not wait for others any longer.
    pub fn next(&mut self, now: Timestamp) -> Option<Signal> {
        let signal = self.order.next(now)?;
        self.dedup.forget(signal.observedtime);
        Some(signal)
    }

    /// Everything that is held, in order: the stream has ended.
    pub fn flush(&mut self) -> Vec<Signal> {
        self.order.flush()
    }

    /// When `next` may have one without another `offer`.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.order.wake_at()
    }

    /// The ordering half, for its lanes.
    pub fn order_mut(&mut self) -> &mut Order {
        &mut self.order
    }

    /// The ordering half.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Identities now remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.dedup.len()
    }
}

#[cfg(test)]
mod tests;
