//! How many transfers at once fill the link, learned from those that ended.
//!
//! One stream moves at the speed at which one core unpacks; a slow link is filled by one of them, and
//! every further one only makes the first image later: whoever waits longest for it gains nothing from
//! an even share. A fast link wants more. On the scenario pack this gains .856 where a fixed four gains
//! .847 and a fixed two .833 (ADR 6).

use std::collections::BTreeMap;

/// Streams before anything was measured: containerd's three for one image, and one more.
const START: usize = 4;

/// Shorter transfers say more about round trips than about the link.
const LEAST_BYTES: f64 = 1e6;

/// Seconds; as above.
const LEAST_S: f64 = 0.05;

/// A number of streams is enough when it moves this part of the most that was seen.
const ENOUGH: f64 = 0.85;

/// One stream more is worth trying while the last one brought this factor.
const WORTH: f64 = 1.1;

/// Weight of a new measurement.
const NEWS: f64 = 0.5;

/// Streams at once, and what was measured with other numbers of them.
#[derive(Clone, Debug)]
pub struct Lanes {
    now: usize,
    most: usize,
    /// Bytes per second of all streams together, by their number.
    totals: BTreeMap<usize, f64>,
}

impl Lanes {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            now: START.min(most),
            most,
            totals: BTreeMap::new(),
        }
    }

    /// How many to use now.
    pub fn count(&self) -> usize {
        self.now
    }

    /// Streams that fill the link as far as was measured; one, before anything was. With so many, one
    /// more takes from the others.
    pub fn needed(&self) -> usize {
        let best = self.totals.values().copied().fold(0.0, f64::max);
        let enough = self
            .totals
            .iter()
            .find(|(_, total)| **total >= ENOUGH * best);
        enough.map_or(1, |(streams, _)| *streams)
    }

    /// A transfer of `bytes` took `seconds` beside others, `streams` with it.
    pub fn note(&mut self, streams: usize, bytes: f64, seconds: f64) {
        if bytes < LEAST_BYTES || seconds < LEAST_S || streams == 0 {
            return;
        }
        let total = bytes / seconds * streams as f64;
        let known = self.totals.entry(streams).or_insert(total);
        *known += (total - *known) * NEWS;
        self.choose();
    }

    fn choose(&mut self) {
        let best = self.totals.values().copied().fold(0.0, f64::max);
        let enough = self
            .totals
            .iter()
            .find(|(_, total)| **total >= ENOUGH * best);
        let Some((&streams, &total)) = enough else {
            return;
        };
        let fewer = self.totals.get(&(streams.saturating_sub(1)));
        let largest = self.totals.keys().next_back() == Some(&streams);
        self.now = if streams > 1 && fewer.is_none() {
            streams - 1
        } else if largest && fewer.is_none_or(|fewer| total > WORTH * fewer) && streams > 1 {
            streams + 1
        } else {
            streams
        }
        .clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays transfers over a link where one stream moves at most at `stream`.
    fn settled(link: f64, stream: f64) -> usize {
        played(link, stream).count()
    }

    fn played(link: f64, stream: f64) -> Lanes {
        let mut lanes = Lanes::new(8);
        for _ in 0..30 {
            let streams = lanes.count();
            let rate = (link / streams as f64).min(stream);
            lanes.note(streams, 20e6, 20e6 / rate);
        }
        lanes
    }

    #[test]
    fn one_stream_is_taken_to_fill_the_link_until_more_are_seen_to_move_more() {
        assert_eq!(Lanes::new(8).needed(), 1);
        assert_eq!(played(40e6, 65e6).needed(), 1);
        assert!(played(600e6, 65e6).needed() >= 6);
    }

    #[test]
    fn a_link_that_one_stream_fills_gets_one() {
        assert_eq!(settled(40e6, 65e6), 1);
    }

    #[test]
    fn a_fast_link_gets_as_many_as_it_takes() {
        assert!((6..=8).contains(&settled(600e6, 65e6)));
        assert!((2..=4).contains(&settled(200e6, 65e6)));
    }

    #[test]
    fn tiny_transfers_teach_nothing() {
        let mut lanes = Lanes::new(8);
        lanes.note(4, 1000.0, 0.01);
        assert_eq!(lanes.count(), 4);
    }
}
