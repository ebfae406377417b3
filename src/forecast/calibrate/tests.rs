//! Calibration: laws, and what is learned how fast.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::forecast::backtest::calibration::{Stated, score};

/// Statements spread over (0, 1) of which `truth(p)` come true.
fn drawn(seed: u64, count: usize, truth: impl Fn(f64) -> f64) -> Vec<Stated> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = |_| {
        let p: f64 = rng.random();
        (p, rng.random::<f64>() < truth(p))
    };
    (0..count).map(draw).collect()
}

fn after(stated: &[Stated]) -> Calibration {
    let mut calibration = Calibration::default();
    for (p, happened) in stated {
        calibration.observe("wished", *p, *happened);
    }
    calibration
}

#[test]
fn an_unknown_class_is_believed() {
    let calibration = Calibration::default();
    assert_eq!(calibration.calibrated("wished", 0.3), 0.3);
    assert_eq!(calibration.calibrated("wished", 7.0), 1.0);
    assert_eq!(calibration.calibrated("wished", f64::NAN), 0.0);
}

#[test]
fn who_is_honest_is_left_alone() {
    for seed in 0..20 {
        let calibration = after(&drawn(seed, 1000, |p| p));
        for n in 1..20 {
            let p = f64::from(n) / 20.0;
            let error = (calibration.calibrated("wished", p) - p).abs();
            // Three standard errors of the 50 observations that a bin has of 1,000 decayed ones.
            assert!(error < 0.15, "{seed}: {p} {error}");
        }
    }
}

#[test]
fn a_constant_bias_is_learned_within_fifty_observations() {
    // 0.7 is said and 0.3 happens.
    let errors = (0..40).map(|seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stated: Vec<Stated> = (0..50).map(|_| (0.7, rng.random::<f64>() < 0.3)).collect();
        (after(&stated).calibrated("wished", 0.7) - 0.3).abs()
    });
    let mean = errors.sum::<f64>() / 40.0;
    // The standard error of 50 draws is 0.065, what shrinkage leaves 0.04.
    assert!(mean < 0.1, "{mean}");
}

#[test]
fn corrected_statements_score_better_where_they_were_wrong_and_hardly_worse_where_not() {
    let mean = |truth: &dyn Fn(f64) -> f64| {
        let scores: Vec<_> = (0..20)
            .map(|seed| score(&drawn(seed, 400, truth)))
            .collect();
        let sum = |of: &dyn Fn(&(f64, f64)) -> f64| scores.iter().map(of).sum::<f64>() / 20.0;
        (sum(&|s| s.0), sum(&|s| s.1))
    };
    for (name, truth, most) in [
        ("honest", (&|p: f64| p) as &dyn Fn(f64) -> f64, 1.03),
        ("too sure", &|p: f64| 0.3 + 0.4 * p, 0.97),
        ("half", &|p: f64| p / 2.0, 0.80),
    ] {
        let (corrected, stated) = mean(truth);
        println!("{name}: Brier {corrected:.4} of {stated:.4}");
        assert!(corrected <= most * stated, "{name}: {corrected} {stated}");
    }
}

#[test]
fn the_state_of_twelve_classes_takes_two_kibibytes_and_comes_back() {
    let mut calibration = Calibration::default();
    for class in 0..12 {
        for (p, happened) in drawn(class, 3000, |p| p) {
            calibration.observe(&format!("class{class}"), p, happened);
        }
    }
    let text = serde_json::to_string(&calibration).unwrap();
    assert!(text.len() <= 2048, "{}", text.len());
    let back: Calibration = serde_json::from_str(&text).unwrap();
    for n in 0..=10 {
        let p = f64::from(n) / 10.0;
        let moved = back.calibrated("class3", p) - calibration.calibrated("class3", p);
        assert!(moved.abs() < 0.01);
    }
    let error = serde_json::from_str::<Calibration>(r#"{"a":[[9,1,1,1]]}"#).unwrap_err();
    assert!(error.to_string().contains("bin number 9"), "{error}");
}

proptest! {
    #[test]
    fn whatever_was_seen_corrections_rise_with_the_statement_and_are_probabilities(
        stated in prop::collection::vec((0.0..=1.0_f64, any::<bool>()), 0..300),
    ) {
        let calibration = after(&stated);
        let corrected: Vec<f64> = (0..=200)
            .map(|n| calibration.calibrated("wished", f64::from(n) / 200.0))
            .collect();
        prop_assert!(corrected.iter().all(|p| (0.0..=1.0).contains(p)), "{corrected:?}");
        prop_assert!(corrected.is_sorted(), "{corrected:?}");
    }
}

#[test]
fn curves_say_what_the_table_said_when_they_were_made() {
    let mut calibration = Calibration::default();
    let before = calibration.curves();
    for n in 0..60 {
        calibration.observe("wished", 0.7, n % 3 == 0);
    }
    let curves = calibration.curves();
    for p in [0.0, 0.001, 0.2, 0.5, 0.7, 0.99, 1.0] {
        assert_eq!(
            curves.calibrated("wished", p),
            calibration.calibrated("wished", p)
        );
        assert_eq!(curves.calibrated("other", p), p);
    }
    // Two thirds of what was said did not come: from log-odds 0.85 to -0.5 or so.
    assert!((1.0..2.0).contains(&curves.moved(&before)));
    assert_eq!(curves.moved(&curves.clone()), 0.0);
    assert!(curves.calibrated("wished", f64::NAN).abs() < 1e-12);
}

#[test]
fn ten_tenths_of_an_observation_are_one() {
    let (mut whole, mut parts) = (Calibration::default(), Calibration::default());
    whole.observe("ahead", 0.4, true);
    for _ in 0..10 {
        parts.observe_part("ahead", 0.4, true, 0.1);
    }
    let gap = whole.calibrated("ahead", 0.4) - parts.calibrated("ahead", 0.4);
    assert!(gap.abs() < 1e-3, "{gap}");
}
