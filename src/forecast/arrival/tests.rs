//! Arrival distributions: what the prior says, what is learned, what waiting tells.

use proptest::prelude::*;

use super::*;
use crate::forecast::backtest::arrival::{ArrivalScore, Drawn, crps, heavy_tail};

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

fn near(found: f64, wanted: f64, part: f64) -> bool {
    (found / wanted - 1.0).abs() < part
}

fn after(durations: &[f64]) -> Arrivals {
    let mut arrivals = Arrivals::default();
    for (place, seconds) in durations.iter().enumerate() {
        arrivals.note(Leg::Request, at(place as u64), *seconds, 32);
    }
    arrivals
}

#[test]
fn without_observations_the_prior_answers() {
    let arrivals = Arrivals::default();
    for (q, seconds) in [(0.1, 30.0), (0.5, 60.0), (0.95, 180.0)] {
        let found = arrivals.quantile(Leg::Request, q);
        assert!(near(found, seconds, 0.02), "{q}: {found}");
    }
    assert!(near(arrivals.quantile(Leg::Boot, 0.5), 16.0, 1e-6));
}

#[test]
fn observations_outweigh_the_prior_and_old_ones_go() {
    let mut arrivals = Arrivals::default();
    for n in 0..100_u64 {
        let seconds = if n < 50 { 500.0 } else { 40.0 };
        arrivals.note(Leg::Request, at(n), seconds, 32);
    }
    assert!(near(arrivals.quantile(Leg::Request, 0.5), 40.0, 0.01));
    assert_eq!(arrivals.durations(Leg::Request).count(), 32);
}

#[test]
fn of_two_regimes_the_newer_one_weighs_more() {
    let mut durations = vec![120.0; 16];
    durations.extend([30.0; 16]);
    assert!(after(&durations).quantile(Leg::Request, 0.5) < 60.0);
}

#[test]
fn who_has_waited_longer_than_the_body_waits_for_the_tail() {
    let arrivals = after(&[38.0, 41.0, 40.0, 44.0, 39.0, 42.0, 37.0, 41.0, 900.0, 40.0]);
    let fresh = arrivals.remaining(Leg::Request, 0.0, 0.5);
    let late = arrivals.remaining(Leg::Request, 120.0, 0.5);
    assert!(near(fresh, 41.0, 0.1), "{fresh}");
    assert!(late > 60.0, "{late}");
    let soon = Duration::from_secs(30);
    let by = |waited| arrivals.by(Leg::Request, waited, soon);
    assert!(
        by(30.0) > 0.8 && by(200.0) < 0.3,
        "{} {}",
        by(30.0),
        by(200.0)
    );
}

#[test]
fn those_that_are_late_just_now_push_the_others_back() {
    let arrivals = after(&[40.0; 12]);
    let open = arrivals.with_open(Leg::Request, &[300.0; 12]);
    let chance = |arrivals: &Arrivals| arrivals.by(Leg::Request, 0.0, Duration::from_mins(1));
    assert!(chance(&arrivals) > 0.75, "{}", chance(&arrivals));
    assert!((0.2..0.6).contains(&chance(&open)), "{}", chance(&open));
    let mut given_up = arrivals.clone();
    for n in 0..12 {
        given_up.give_up(Leg::Request, at(100 + n), 300.0, 32);
    }
    assert!(chance(&given_up) < 0.7, "{}", chance(&given_up));
}

#[test]
fn a_stock_out_is_entered_backs_off_and_ends_with_the_next_success() {
    let mut arrivals = after(&[40.0; 12]);
    let before = arrivals.quantile(Leg::Request, 0.6);
    arrivals.fail(at(1000));
    arrivals.fail(at(1010));
    let once = arrivals.quantile(Leg::Request, 0.6);
    arrivals.fail(at(1400));
    let twice = arrivals.quantile(Leg::Request, 0.6);
    assert!(
        before < 60.0 && once > 100.0 && twice > 1.5 * once,
        "{before} {once} {twice}"
    );
    // One that was asked for before the failure and came in before it says nothing of the stock.
    arrivals.note(Leg::Request, at(1300), 40.0, 32);
    assert!(arrivals.is_out_of_stock());
    arrivals.note(Leg::Request, at(1500), 40.0, 32);
    assert!(!arrivals.is_out_of_stock());
    assert!(near(arrivals.quantile(Leg::Request, 0.6), before, 0.05));
}

/// Every third wait that is longer than `seconds` is given up then.
fn cut(mut drawn: Vec<Drawn>, seconds: f64) -> Vec<Drawn> {
    for wait in drawn.iter_mut().step_by(3) {
        if wait.seconds > seconds {
            *wait = Drawn {
                seconds,
                ended: false,
            };
        }
    }
    drawn
}

#[test]
fn arrival_times_are_scored_no_worse_than_by_the_last_quantiles_and_better_where_they_change() {
    // Prediction section 1.9: +10 nodes p50 40.9, p95 71, max 170 s; +2 nodes p50 32, p95 1,513 s.
    let usual = |seed, count| heavy_tail(seed, count, 40.9, 0.3, (0.02, 140.0));
    let stuck = |seed, count| heavy_tail(seed, count, 32.1, 0.12, (0.06, 1500.0));
    let few = |of: &dyn Fn(u64, usize) -> Vec<Drawn>| {
        let scores: Vec<_> = (0..40).map(|seed| crps(&of(seed, 12), 32)).collect();
        let sum = |of: fn(&ArrivalScore) -> f64| scores.iter().map(of).sum::<f64>();
        (sum(|s| s.ours), sum(|s| s.last))
    };
    let moods = (0..12).flat_map(|n| {
        heavy_tail(
            n,
            40,
            if n % 2 == 0 { 40.0 } else { 110.0 },
            0.2,
            (0.0, 1.0),
        )
    });
    let many = |drawn: &[Drawn]| {
        let score = crps(drawn, 32);
        println!("90 % interval {:.3}", score.coverage);
        (score.ours, score.last)
    };
    // At most so much of the opponent's loss. A pool that never changes has little to gain: the score
    // is mostly that of the true distribution, and forgetting costs a hundredth.
    let sets = [
        ("usual", many(&usual(1, 600)), 1.03),
        ("stuck", many(&stuck(2, 600)), 1.0),
        ("twelve usual", few(&usual), 1.0),
        ("twelve stuck", few(&stuck), 1.0),
        ("changing", many(&moods.collect::<Vec<_>>()), 0.97),
        ("cut", many(&cut(stuck(4, 600), 300.0)), 1.0),
    ];
    for (name, (ours, last), most) in sets {
        println!(
            "{name}: {ours:.2} s, {:.3} of the last quantiles'",
            ours / last
        );
        assert!(ours <= most * last, "{name}: {ours} {last}");
    }
}

#[test]
fn waits_that_are_cut_short_do_not_make_nodes_look_quick() {
    // Half of all requests are withdrawn after 45 s: the ones that are left are the quick ones.
    let mut drawn = heavy_tail(3, 400, 60.0, 0.4, (0.0, 1.0));
    for (place, wait) in drawn.iter_mut().enumerate() {
        if place % 2 == 0 && wait.seconds > 45.0 {
            *wait = Drawn {
                seconds: 45.0,
                ended: false,
            };
        }
    }
    let mut arrivals = Arrivals::default();
    for (place, wait) in drawn.iter().enumerate() {
        let now = at(place as u64);
        if wait.ended {
            arrivals.note(Leg::Request, now, wait.seconds, 100);
        } else {
            arrivals.give_up(Leg::Request, now, wait.seconds, 100);
        }
    }
    let median = arrivals.quantile(Leg::Request, 0.5);
    assert!(near(median, 60.0, 0.15), "{median}");
}

#[test]
fn what_another_knew_of_a_stock_out_undoes_nothing_that_came_since() {
    let mut refused = Arrivals::default();
    refused.fail(at(2000));
    refused.take_stock_out(5, at(1000));
    assert_eq!(refused.stock_out(), Some((1, at(2000))));
    refused.take_stock_out(5, at(3000));
    assert_eq!(refused.stock_out(), Some((5, at(3000))));
    let mut fulfilled = Arrivals::default();
    fulfilled.note(Leg::Request, at(2000), 60.0, 32);
    fulfilled.take_stock_out(5, at(1000));
    assert!(!fulfilled.is_out_of_stock());
}

proptest! {
    #[test]
    fn quantiles_and_chances_rise_and_agree(
        durations in prop::collection::vec(
            prop_oneof![Just(0.0), Just(f64::NAN), 0.001..5000.0_f64], 0..40),
        given_up in prop::collection::vec(0.1..5000.0_f64, 0..10),
        failures in 0_u64..4,
        waited in 0.0..4000.0_f64,
    ) {
        let mut arrivals = after(&durations);
        for (place, seconds) in given_up.iter().enumerate() {
            arrivals.give_up(Leg::Request, at(place as u64), *seconds, 32);
        }
        for n in 0..failures {
            arrivals.fail(at(1000 + 100 * n));
        }
        let levels = [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0];
        let quantiles = levels.map(|q| arrivals.remaining(Leg::Request, waited, q));
        prop_assert!(quantiles.iter().all(|s| s.is_finite() && *s >= 0.0), "{quantiles:?}");
        prop_assert!(quantiles.is_sorted(), "{quantiles:?}");
        let chances: Vec<f64> = (0..12)
            .map(|n| arrivals.by(Leg::Request, waited, Duration::from_secs(1 << n)))
            .collect();
        prop_assert!(chances.is_sorted() && chances[0] >= 0.0 && chances[11] <= 1.0);
        for (q, seconds) in levels.iter().zip(quantiles) {
            let reached = arrivals.by(Leg::Request, waited, Duration::from_secs_f64(seconds * 1.001 + 0.01));
            prop_assert!(reached >= q - 0.01 || seconds >= 80_000.0, "{q} {seconds} {reached}");
        }
    }
}
