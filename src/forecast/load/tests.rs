//! Load forecasts on made-up series: seasons, bursts, gaps, nonsense.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn at(minute: usize) -> Timestamp {
    Timestamp::ZERO + MINUTE * u32::try_from(minute).unwrap()
}

/// A forecaster that has seen `value(minute)` for so many minutes.
fn after(minutes: usize, value: impl Fn(usize) -> f64) -> LoadForecaster {
    let mut forecaster = LoadForecaster::new(LoadSettings::default());
    for minute in 0..minutes {
        forecaster.observe(at(minute), value(minute));
    }
    forecaster
}

/// Noise in [-1, 1) that depends on the minute alone.
fn noise(minute: usize) -> f64 {
    let mixed = (minute as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(31);
    let mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11;
    mixed as f64 / (1_u64 << 52) as f64 - 1.0
}

fn daily(minute: usize) -> f64 {
    let angle = minute as f64 / 1440.0 * std::f64::consts::TAU;
    1000.0 + 800.0 * angle.sin()
}

#[test]
fn nothing_is_said_before_there_is_something_to_say() {
    let mut forecaster = LoadForecaster::new(LoadSettings::default());
    assert_eq!(forecaster.forecast(MINUTE * 5), None);
    assert_eq!(after(6, |_| 3.0).forecast(MINUTE * 5), None);
    let forecast = after(100, |_| 3.0).forecast(MINUTE * 5).unwrap();
    assert!((forecast.middle - 3.0).abs() < 1e-6);
}

#[test]
fn a_season_that_was_seen_is_foreseen() {
    let value = |minute| daily(minute) + noise(minute);
    let minutes = 3 * 1440 + 700;
    let forecast = after(minutes, value).forecast(MINUTE * 15).unwrap();
    let truth = daily(minutes - 1 + 15);
    let persistence = (daily(minutes - 1) - truth).abs();
    assert!((forecast.middle - truth).abs() < persistence / 4.0);
}

#[test]
fn the_ninety_per_cent_interval_holds_nine_of_ten_outcomes() {
    let value = |minute: usize| {
        daily(minute) + 30.0 * noise(minute) * (1.0 + (minute as f64 / 500.0).sin())
    };
    let mut forecaster = LoadForecaster::new(LoadSettings::default());
    let (mut inside, mut asked) = (0, 0);
    for minute in 0..6 * 1440 {
        forecaster.observe(at(minute), value(minute));
        if minute < 2 * 1440 {
            continue;
        }
        let forecast = forecaster.forecast(MINUTE * 10).unwrap();
        let outcome = value(minute + 10);
        asked += 1;
        inside +=
            i32::from(forecast.quantile(0.05) <= outcome && outcome <= forecast.quantile(0.95));
    }
    let share = f64::from(inside) / f64::from(asked);
    assert!((0.87..=0.93).contains(&share), "{share}");
}

#[test]
fn a_burst_widens_what_is_said() {
    let calm = |minute| 100.0 + noise(minute);
    let width = |mut forecaster: LoadForecaster| {
        let forecast = forecaster.forecast(MINUTE * 5).unwrap();
        forecast.quantile(0.95) - forecast.quantile(0.05)
    };
    let before = after(2000, calm);
    let burst = after(
        2005,
        |minute| if minute < 2000 { calm(minute) } else { 400.0 },
    );
    assert!(width(burst) > 3.0 * width(before));
}

#[test]
fn a_change_of_unit_is_taken_over_after_three_samples() {
    let value = |minute: usize| {
        let unit = if minute < 3000 { 1.0 } else { 1e-3 };
        (daily(minute) + noise(minute)) * unit
    };
    // Three samples tell the unit, five more fill the horizon again.
    let forecast = after(3008, value).forecast(MINUTE * 5).unwrap();
    let truth = value(3012);
    assert!(
        (forecast.middle / truth - 1.0).abs() < 0.02,
        "{forecast:?} {truth}"
    );
    let width = forecast.quantile(0.95) - forecast.quantile(0.05);
    assert!(width < 0.2 * truth, "{width} {truth}");
}

#[test]
fn a_service_that_wakes_up_is_no_change_of_unit() {
    let value = |minute: usize| {
        if minute < 3000 {
            0.01
        } else {
            10.0 + 9.0 * noise(minute)
        }
    };
    let mut forecaster = after(3020, value);
    let forecast = forecaster.forecast(MINUTE * 5).unwrap();
    assert!((5.0..15.0).contains(&forecast.middle), "{forecast:?}");
}

#[test]
fn a_counter_that_begins_again_is_followed_within_the_quarter_of_an_hour() {
    let value = |minute: usize| if minute < 3000 { minute } else { minute - 3000 } as f64 * 100.0;
    let forecast = after(3016, value).forecast(MINUTE * 5).unwrap();
    let truth = value(3020);
    assert!(
        (forecast.middle - truth).abs() <= 600.0,
        "{forecast:?} {truth}"
    );
    assert!(forecast.quantile(0.99) < value(2999), "{forecast:?}");
}

#[test]
fn a_week_is_seen_where_there_is_one_and_mondays_are_foreseen() {
    // Weekends have a tenth of the load; the epoch was a Thursday.
    let value = |minute: usize| {
        let weekend = matches!((minute / 1440 + 4) % 7, 0 | 6);
        daily(minute) * if weekend { 0.1 } else { 1.0 } + noise(minute)
    };
    let mut forecaster = after(16 * 1440, value);
    assert_eq!(forecaster.season(), Some(Duration::from_hours(7 * 24)));
    let mut days = after(4 * 1440, daily);
    assert_eq!(days.season(), Some(Duration::from_hours(24)));
    assert_eq!(after(4 * 1440, noise).season(), None);
    assert_eq!(after(1000, daily).season(), None);
}

#[test]
fn a_gap_of_days_begins_a_new_season_and_a_short_one_is_bridged() {
    let mut forecaster = after(2000, daily);
    forecaster.observe(at(2000 + 5), daily(2005));
    assert!(forecaster.forecast(MINUTE * 5).is_some());
    forecaster.observe(at(2000 + 9000), 7.0);
    forecaster.observe(at(2000 + 9001), 7.0);
    let forecast = forecaster.forecast(MINUTE * 5).unwrap();
    assert!((forecast.middle - 7.0).abs() < 1e-6);
}

#[test]
fn units_that_change_again_and_again_leave_numbers() {
    // Up by a thousand million with each change, and a spike of the largest size before.
    let value = |minute: usize| match minute {
        50 => LARGEST,
        _ => 1e-9 * 1e9_f64.powi(i32::try_from(minute / 300).unwrap()),
    };
    let mut forecaster = after(1100, value);
    let forecast = forecaster.forecast(MINUTE * 5).unwrap();
    assert!(forecast.middle.is_finite() && forecast.quantile(0.99).is_finite());
    assert!(forecast.middle <= LARGEST);
}

proptest! {
    #[test]
    fn samples_that_wait_are_learned_from_as_if_each_had_been_at_once(
        samples in prop::collection::vec(
            (0_u64..200, prop_oneof![0.0..1e3_f64, 1e6..1e9_f64], prop::bool::weighted(0.1)), 1..400),
    ) {
        let settings = LoadSettings::default();
        let mut forecaster = LoadForecaster::new(settings.clone());
        let mut learner = Learner::new(settings);
        let mut now = 0;
        for (step, value, asked) in samples {
            now = if step % 7 == 0 { now - now.min(step) } else { now + step };
            let at = Timestamp::ZERO + Duration::from_secs(now);
            forecaster.observe(at, value);
            learner.observe(at, value);
            if asked {
                let ahead = MINUTE * 5;
                prop_assert_eq!(forecaster.forecast(ahead), learner.forecast(ahead));
                prop_assert_eq!(forecaster.last(), learner.last());
            }
        }
        prop_assert_eq!(forecaster.forecast(MINUTE * 10), learner.forecast(MINUTE * 10));
        prop_assert_eq!(forecaster.season(), learner.season());
    }

    #[test]
    fn whatever_comes_forecasts_are_finite_and_quantiles_rise(
        samples in prop::collection::vec(
            (0_u64..4000, prop_oneof![
                Just(f64::NAN), Just(f64::INFINITY), Just(f64::MAX), Just(0.0), -1e20..1e20_f64,
                -1e12..1e12_f64, 0.0..1.0_f64,
            ]), 1..400),
        period_min in 1_u64..3000,
    ) {
        let settings = LoadSettings {
            period: Duration::from_mins(period_min),
            ..LoadSettings::default()
        };
        let mut forecaster = LoadForecaster::new(settings);
        let mut now = 0;
        for (step, value) in samples {
            // Mostly forward, sometimes back.
            now = if step % 7 == 0 { now - now.min(step) } else { now + step };
            forecaster.observe(Timestamp::ZERO + Duration::from_secs(now), value);
            for minutes in [1, 5, 15, 60] {
                let Some(forecast) = forecaster.forecast(MINUTE * minutes) else { continue };
                let quantiles = [0.0, 0.01, 0.2, 0.5, 0.9, 0.99, 1.0].map(|p| forecast.quantile(p));
                prop_assert!(quantiles.iter().all(|q| q.is_finite()), "{forecast:?}");
                prop_assert!(quantiles.is_sorted(), "{quantiles:?}");
            }
        }
    }
}
