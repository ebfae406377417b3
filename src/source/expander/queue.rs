//! Calls that were answered and wait to be decoded: the newest always has its place.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::domain::time::Timestamp;

/// Calls that wait at most. An autoscaler makes one in each loop of ten seconds.
const CALLS_MAX: usize = 4;

/// Bytes that wait at most, unless one call alone has more.
const BYTES_MAX: usize = 64 << 20;

/// A request, and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it was answered.
    pub at: Timestamp,
    /// As it came.
    pub request: Bytes,
}

/// A queue that never makes anybody wait who puts something in.
#[derive(Debug, Default)]
pub struct Queue {
    calls: Mutex<VecDeque<Call>>,
    news: Notify,
}

impl Queue {
    /// Puts a call in and says how many older ones had to go for it.
    pub fn push(&self, call: Call) -> u64 {
        let mut calls = self.calls();
        calls.push_back(call);
        let mut dropped = 0;
        while calls.len() > CALLS_MAX || (calls.len() > 1 && bytes(&calls) > BYTES_MAX) {
            calls.pop_front();
            dropped += 1;
        }
        drop(calls);
        self.news.notify_one();
        dropped
    }

    /// Waits for the oldest call.
    pub async fn pop(&self) -> Call {
        loop {
            if let Some(call) = self.calls().pop_front() {
                return call;
            }
            self.news.notified().await;
        }
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.calls().len()
    }

    fn calls(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(calls: &VecDeque<Call>) -> usize {
    calls.iter().map(|call| call.request.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: i64, length: usize) -> Call {
        Call {
            at: Timestamp::from_micros(at),
            request: Bytes::from(vec![0; length]),
        }
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_is_what_is_dropped() {
        let queue = Queue::default();
        let dropped: u64 = (0..6).map(|at| queue.push(call(at, 10))).sum();
        assert_eq!((dropped, queue.len()), (2, CALLS_MAX));
        assert_eq!(queue.pop().await, call(2, 10));
        // Alone it may be as large as messages are; beside it there is no room.
        assert_eq!(queue.push(call(7, BYTES_MAX + 1)), 3);
        assert_eq!(queue.push(call(8, 1)), 1);
        assert_eq!(queue.pop().await, call(8, 1));
        assert_eq!(queue.len(), 0);
    }
}
