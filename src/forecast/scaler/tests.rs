//! Wishes of made-up scalers, and laws of the arithmetic.

use proptest::prelude::*;

use super::*;

const SYNC: Duration = Duration::from_secs(15);

fn seen(sync: u32, current: u32, ratio: f64) -> Observed {
    Observed {
        at: Timestamp::ZERO + SYNC * sync,
        current,
        desired: current,
        min: 2,
        max: 40,
        ratio: Some(ratio),
        limited: None,
        serving: None,
    }
}

fn track(all: impl IntoIterator<Item = Observed>) -> ScalerTrack {
    let mut track = ScalerTrack::default();
    for seen in all {
        track.observe(seen, &Behaviour::default());
    }
    track
}

/// Growth by `factor` at once, known for sure.
fn certain(factor: f64) -> Growth {
    Growth {
        points: vec![(0.0, [factor; LEVELS.len()])],
    }
}

fn median(track: &ScalerTrack, syncs: u32, growth: &Growth) -> u32 {
    let wish = track.wish(SYNC * syncs, Some(growth), &Behaviour::default());
    wish.unwrap().quantile(0.5)
}

#[test]
fn nothing_seen_is_nothing_said_and_no_metric_is_no_change() {
    let behaviour = Behaviour::default();
    assert_eq!(ScalerTrack::default().wish(SYNC, None, &behaviour), None);
    let blind = Observed {
        ratio: Some(f64::NAN),
        ..seen(0, 3, 1.0)
    };
    let wish = track([blind]).wish(SYNC * 9, None, &behaviour).unwrap();
    assert_eq!((wish.quantile(0.01), wish.quantile(0.99)), (3, 3));
}

#[test]
fn growth_comes_in_the_steps_of_the_policy_up_to_the_bound() {
    // The walk-through of the documentation's default: max(+100 %, +4) per 15 s.
    let track = track([seen(0, 3, 1.0)]);
    let tenfold = certain(20.0);
    let steps = [0, 1, 2, 3, 4].map(|syncs| median(&track, syncs, &tenfold));
    assert_eq!(steps, [3, 7, 14, 28, 40]);
}

#[test]
fn the_tolerance_is_left_alone_and_what_is_beyond_it_is_rounded_up() {
    let track = track([seen(0, 10, 1.0)]);
    assert_eq!(median(&track, 4, &certain(1.09)), 10);
    assert_eq!(median(&track, 4, &certain(1.11)), 12);
}

#[test]
fn shrinking_waits_for_the_stabilisation_window() {
    let track = track((0..21).map(|sync| seen(sync, 20, 1.0)));
    let half = certain(0.5);
    assert_eq!(median(&track, 19, &half), 20);
    assert_eq!(median(&track, 21, &half), 10);
}

#[test]
fn pods_that_do_not_serve_yet_carry_no_load() {
    // Eight of sixteen serve at twice their target: the load is for sixteen, nothing changes.
    let half = Observed {
        serving: Some(8),
        ..seen(0, 16, 2.0)
    };
    assert_eq!(median(&track([half]), 4, &certain(1.0)), 16);
}

#[test]
fn a_limited_step_is_continued_without_waiting() {
    let limited = Observed {
        current: 4,
        desired: 8,
        limited: Some(ScaleLimit::ScaleUpLimit),
        ..seen(0, 4, 4.0)
    };
    assert_eq!(median(&track([limited]), 1, &certain(1.0)), 16);
}

#[test]
fn a_wild_load_has_a_wide_wish_and_a_calm_one_a_narrow() {
    let width = |swing: f64| {
        let all = (0..40).map(|sync| {
            let ratio = if sync / 3 % 2 == 0 {
                swing
            } else {
                1.0 / swing
            };
            let desired = (20.0 * ratio).ceil() as u32;
            Observed {
                desired,
                ..seen(sync, 20, ratio)
            }
        });
        let wish = track(all)
            .wish(SYNC * 8, None, &Behaviour::default())
            .unwrap();
        wish.quantile(0.95) - wish.quantile(0.05)
    };
    assert!(
        width(1.5) > width(1.02) + 4,
        "{} {}",
        width(1.5),
        width(1.02)
    );
}

proptest! {
    #[test]
    fn whatever_is_seen_wishes_rise_with_the_level_and_keep_to_the_bounds(
        all in prop::collection::vec(
            (0_u32..40, 0_u32..60, prop_oneof![Just(f64::NAN), 0.0..9.0_f64, Just(1e300)],
             prop::option::of(0_u32..9)), 1..60),
        syncs in 0_u32..60,
    ) {
        let behaviour = Behaviour::default();
        let mut track = ScalerTrack::default();
        let mut now = 0;
        for (pause, current, ratio, serving) in all {
            now += pause;
            let current = current.clamp(2, 40);
            track.observe(Observed { serving, ..seen(now, current, ratio) }, &behaviour);
            let wish = track.wish(SYNC * syncs, None, &behaviour).unwrap();
            let counts = LEVELS.map(|level| wish.quantile(level));
            prop_assert!(counts.is_sorted() && counts[0] >= 2 && counts[8] <= 40, "{counts:?}");
            let chances: Vec<f64> = (0..50).map(|n| wish.at_least(n)).collect();
            prop_assert!(chances.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn more_load_never_means_fewer_replicas_at_the_next_sync(
        current in 2_u32..40, ratio in 0.1..5.0_f64, more in 1.0..4.0_f64,
    ) {
        let track = track([seen(0, current, ratio)]);
        prop_assert!(median(&track, 1, &certain(more)) >= median(&track, 1, &certain(1.0)));
    }
}
