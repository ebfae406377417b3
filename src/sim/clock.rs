//! Events in the order of their time; equal times in the order of asking.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::domain::time::Timestamp;

/// A queue of things that will happen.
#[derive(Debug)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Due<E>>>,
    asked: u64,
}

#[derive(Debug)]
struct Due<E> {
    at: Timestamp,
    order: u64,
    event: E,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            asked: 0,
        }
    }
}

impl<E> EventQueue<E> {
    /// Lets `event` happen at `at`.
    pub fn push(&mut self, at: Timestamp, event: E) {
        self.asked += 1;
        self.heap.push(Reverse(Due {
            at,
            order: self.asked,
            event,
        }));
    }

    /// When the next event happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    /// The next event, if it happens at `now` or before.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<E> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due.event)
    }
}

impl<E> Due<E> {
    fn key(&self) -> (Timestamp, u64) {
        (self.at, self.order)
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_happen_in_the_order_of_asking() {
        let mut queue = EventQueue::default();
        let at = Timestamp::from_micros;
        for (t, event) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.push(at(t), event);
        }
        let order: String = std::iter::from_fn(|| queue.pop_due(at(9))).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn nothing_happens_before_its_time() {
        let mut queue = EventQueue::default();
        queue.push(Timestamp::from_micros(5), ());
        assert_eq!(queue.pop_due(Timestamp::from_micros(4)), None);
        assert_eq!(queue.pop_due(Timestamp::from_micros(5)), Some(()));
    }
}
