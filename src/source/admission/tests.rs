//! Whether what comes out is sorted, complete and without repetition, whatever comes in.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::domain::signal::{Fact, NodeNamed, Signal};
use crate::domain::time::Timestamp;
use crate::source::admission::{Admission, AdmissionLimits, Lane, Memory, Order, OrderLimits};
use crate::source::rejection::Reason;

const SECOND: i64 = 1_000_000;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_micros(secs * SECOND)
}

fn signal(id: u32, observed: Timestamp) -> Signal {
    let fact = Fact::NodeReady(NodeNamed { node: "a".into() });
    Signal::new("/test", id.to_string(), observed, fact)
}

fn limits(hold_s: u64, lateness_s: u64, max: usize) -> OrderLimits {
    OrderLimits {
        hold: Duration::from_secs(hold_s),
        lateness: Duration::from_secs(lateness_s),
        max,
    }
}

fn is_sorted(signals: &[Signal]) -> bool {
    signals.is_sorted_by_key(|s| s.observedtime)
}

fn drain(admission: &mut Admission, now: Timestamp, out: &mut Vec<Signal>) {
    out.extend(std::iter::from_fn(|| admission.next(now)));
}

#[test]
fn a_lone_signal_goes_out_after_the_hold_and_not_before() {
    let mut order = Order::new(limits(2, 60, 10));
    order.push(signal(1, at(100)), at(100), None).unwrap();
    assert_eq!(order.next(at(101)), None);
    assert_eq!(order.wake_at(), Some(at(102)));
    assert_eq!(order.next(at(102)), Some(signal(1, at(100))));
    assert_eq!(order.wake_at(), None);
}

#[test]
fn a_late_signal_is_known_from_its_arrival_on_and_a_very_late_one_is_refused() {
    let mut order = Order::new(limits(0, 60, 10));
    order.push(signal(1, at(100)), at(100), None).unwrap();
    assert!(order.next(at(100)).is_some());
    order.push(signal(2, at(70)), at(100), None).unwrap();
    let late = order.next(at(100)).unwrap();
    assert_eq!((late.time, late.observedtime), (at(70), at(100)));
    let refused = order.push(signal(3, at(39)), at(100), None).unwrap_err();
    assert_eq!(refused.reason(), Reason::Late);
    assert!(refused.to_string().contains("61.0 s"), "{refused}");
}

#[test]
fn a_producer_whose_clock_is_ahead_delays_nobody() {
    let mut order = Order::new(limits(1, 60, 10));
    order.push(signal(1, at(150)), at(100), None).unwrap();
    order.push(signal(2, at(100)), at(100), None).unwrap();
    let out: Vec<_> = std::iter::from_fn(|| order.next(at(101))).collect();
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|s| s.observedtime == at(100)));
    let refused = order.push(signal(3, at(162)), at(101), None).unwrap_err();
    assert_eq!(refused.reason(), Reason::Future);
}

#[test]
fn nothing_passes_a_history_that_is_still_being_read() {
    let mut order = Order::new(limits(1, 60, 100));
    let (slow, fast) = (Lane(0), Lane(1));
    order.open_lane(slow);
    order.open_lane(fast);
    for second in 0..50 {
        order
            .push(signal(second, at(i64::from(second))), at(1000), Some(fast))
            .unwrap();
    }
    assert_eq!(order.next(at(2000)), None);
    assert_eq!(order.laggard(), Some(slow));
    order
        .push(signal(99, at(20)), at(2000), Some(slow))
        .unwrap();
    let first: Vec<_> = std::iter::from_fn(|| order.next(at(2000))).collect();
    assert_eq!(first.last().unwrap().observedtime, at(19));
    order.close_lane(slow);
    order.close_lane(fast);
    let rest: Vec<_> = std::iter::from_fn(|| order.next(at(2000))).collect();
    assert_eq!(first.len() + rest.len(), 51);
    assert!(is_sorted(&first) && is_sorted(&rest));
}

#[test]
fn a_repetition_of_a_forgotten_signal_is_refused_as_late() {
    let mut admission = Admission::new(AdmissionLimits {
        memory: Memory {
            window: Duration::from_secs(1000),
            max: 2,
        },
        order: limits(0, 1000, 10),
    });
    for id in 0..3 {
        admission
            .offer(signal(id, at(i64::from(id))), at(10), None)
            .unwrap();
    }
    let again = admission.offer(signal(0, at(0)), at(10), None).unwrap_err();
    assert_eq!(again.reason(), Reason::Late);
    let again = admission.offer(signal(2, at(2)), at(10), None).unwrap_err();
    assert_eq!(again.reason(), Reason::Duplicate);
    assert_eq!(admission.remembered(), 2);
}

prop_compose! {
    /// Stamps in seconds, and for each how long it travels, at most ten seconds.
    fn travels()(travels in prop::collection::vec((0..500_i64, 0..=10_i64), 1..200))
        -> Vec<(i64, i64)>
    {
        travels
    }
}

proptest! {
    #[test]
    fn any_disorder_within_the_hold_comes_out_sorted_complete_and_unchanged(
        mut travels in travels(),
    ) {
        travels.sort_by_key(|(observed, delay)| observed + delay);
        let mut admission = Admission::new(AdmissionLimits {
            memory: Memory::default(),
            order: limits(10, 10, 1000),
        });
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for (id, (observed, delay)) in travels.iter().enumerate() {
            let one = signal(u32::try_from(id).unwrap(), at(*observed));
            expected.push(one.clone());
            admission.offer(one, at(observed + delay), None).unwrap();
            drain(&mut admission, at(observed + delay), &mut out);
        }
        drain(&mut admission, at(1000), &mut out);
        expected.sort_by_key(|s| s.observedtime);
        prop_assert!(is_sorted(&out));
        let ids = |signals: &[Signal]| -> BTreeSet<(String, Timestamp)> {
            signals.iter().map(|s| (s.id.clone(), s.observedtime)).collect()
        };
        prop_assert_eq!(ids(&out), ids(&expected));
        prop_assert_eq!(out.len(), expected.len());
    }

    #[test]
    fn whatever_comes_nothing_repeats_nothing_goes_back_and_memory_is_bounded(
        stream in prop::collection::vec((0..60_u32, 0..300_i64, 0..3_i64), 0..400),
        hold in 0..20_u64,
        lateness in 0..50_u64,
        memory in 1..40_usize,
        max in 1..30_usize,
    ) {
        let mut admission = Admission::new(AdmissionLimits {
            memory: Memory { window: Duration::from_secs(100), max: memory },
            order: limits(hold, lateness, max),
        });
        let mut now = 0;
        let mut out = Vec::new();
        let mut refused = 0;
        // A stamp per id: a repetition repeats the stamp too.
        let stamps: Vec<i64> = stream.iter().map(|(_, observed, _)| *observed).collect();
        for (id, _, pause) in &stream {
            now += pause;
            let stamp = stamps[*id as usize % stamps.len()];
            refused += usize::from(admission.offer(signal(*id, at(stamp)), at(now), None).is_err());
            drain(&mut admission, at(now), &mut out);
            prop_assert!(admission.order().len() <= max);
            prop_assert!(admission.remembered() <= memory);
        }
        out.extend(admission.flush());
        prop_assert!(is_sorted(&out));
        let ids: BTreeSet<_> = out.iter().map(|s| &s.id).collect();
        prop_assert_eq!(ids.len(), out.len(), "an id came out twice");
        prop_assert_eq!(out.len() + refused, stream.len(), "a signal was lost uncounted");
    }
}
