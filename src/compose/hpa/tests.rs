//! Cases from the Kubernetes documentation, argued by hand, and what must hold for any load.

use proptest::prelude::*;

use super::*;
use crate::compose::read::parse;

fn hpa(members: &str) -> Hpa {
    let text = format!(
        "name = \"a\"\nstory = \"\"\nlicence = \"\"\n[[workloads]]\nname = \"w\"\ncontainers = []\n\
         [workloads.hpa]\nmin = 1\nmax = 100\ntarget = 0.5\n{members}"
    );
    let spec = parse(std::path::Path::new("t.toml"), &text).unwrap();
    spec.workloads[0].hpa.clone().unwrap()
}

fn look(replicas: u32, ready: u32, unready: u32, load: f64) -> Look {
    Look {
        replicas,
        ready,
        unready,
        load,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

#[test]
fn twice_the_target_doubles_and_half_of_it_halves() {
    // "if the current metric value is 200m, and the desired value is 100m, the number of replicas
    // will be doubled, since 200.0 / 100.0 == 2.0. If the current value is instead 50m, you'll
    // halve the number of replicas."
    assert_eq!(raw(&hpa(""), look(4, 4, 0, 4.0)), (8, Some(2.0)));
    assert_eq!(raw(&hpa(""), look(4, 4, 0, 1.0)), (2, Some(0.5)));
}

#[test]
fn a_ratio_within_the_tolerance_leaves_replicas_alone() {
    // "The control plane skips any scaling action if the ratio is sufficiently close to 1.0
    // (within a configurable tolerance, 0.1 by default)": 54 % of 50 % is 1.08, 56 % is 1.12.
    assert_eq!(raw(&hpa(""), look(4, 4, 0, 0.54 * 4.0 + 1e-9)).0, 4);
    assert_eq!(raw(&hpa(""), look(4, 4, 0, 0.56 * 4.0 + 1e-9)).0, 5);
}

#[test]
fn pods_that_are_not_ready_count_as_idle_when_scaling_up() {
    // Four ready at 100 % want 8; four more that are not ready yet use 0 %: 50 % of 8 is the target.
    assert_eq!(raw(&hpa(""), look(8, 4, 4, 4.0)), (8, Some(2.0)));
    // With six times the target the damped ratio is 3, over all eight pods.
    assert_eq!(raw(&hpa(""), look(8, 4, 4, 12.0)).0, 24);
}

#[test]
fn a_metric_from_elsewhere_does_not_look_at_pods() {
    let external = hpa("metric = \"external\"\n");
    assert_eq!(raw(&external, look(8, 1, 7, 12.0)).0, 24);
}

#[test]
fn the_default_policy_allows_the_larger_of_four_pods_and_a_doubling() {
    // "the HPA can add 4 pods or 100 % of the currently running replicas every 15 s, the highest".
    let hpa = hpa("");
    let mut scaler = Scaler::default();
    let mut replicas = 1;
    let mut steps = Vec::new();
    for sync in 0..6 {
        let verdict = scaler.sync(&hpa, look(replicas, replicas, 0, 1000.0), at(sync * 15));
        replicas = verdict.desired;
        steps.push((replicas, verdict.limited));
    }
    let limit = Some(ScaleLimit::ScaleUpLimit);
    let most = Some(ScaleLimit::TooManyReplicas);
    assert_eq!(
        steps,
        [
            (5, limit),
            (10, limit),
            (20, limit),
            (40, limit),
            (80, limit),
            (100, most)
        ]
    );
}

#[test]
fn going_down_waits_for_five_minutes_without_a_higher_wish() {
    let hpa = hpa("");
    let mut scaler = Scaler::default();
    assert_eq!(scaler.sync(&hpa, look(10, 10, 0, 5.0), at(0)).desired, 10);
    for sync in 1..20 {
        let verdict = scaler.sync(&hpa, look(10, 10, 0, 1.0), at(sync * 15));
        assert_eq!(verdict.desired, 10, "sync {sync}");
    }
    // 300 s after the last wish for 10.
    assert_eq!(scaler.sync(&hpa, look(10, 10, 0, 1.0), at(300)).desired, 2);
}

#[test]
fn the_documented_policy_of_four_pods_a_minute_or_a_tenth() {
    // Documentation, "Scaling policies": from 80 replicas to 10 with {Pods 4 per 60 s, Percent 10 per
    // 60 s}: 8 in the first minute (10 %), then 10 % of 72 rounded up is 8, ... the controller
    // truncates what is left: 80 -> 72 -> 64 (64.8).
    let hpa = hpa(
        "down = { stabilisation = \"0s\", policies = [{ type = \"Pods\", value = 4, period = \"60s\" }, \
         { type = \"Percent\", value = 10, period = \"60s\" }] }\n",
    );
    let mut scaler = Scaler::default();
    let mut replicas = 80;
    for (second, wanted) in [(0, 72), (15, 72), (60, 64), (120, 57)] {
        let verdict = scaler.sync(&hpa, look(replicas, replicas, 0, 5.0), at(second));
        replicas = verdict.desired;
        assert_eq!(replicas, wanted, "at {second} s");
    }
}

#[test]
fn a_disabled_direction_never_moves() {
    let hpa = hpa("down = { select = \"Disabled\" }\n");
    let mut scaler = Scaler::default();
    for sync in 0..60 {
        assert_eq!(
            scaler
                .sync(&hpa, look(10, 10, 0, 0.1), at(sync * 15))
                .desired,
            10
        );
    }
}

proptest! {
    #[test]
    fn replicas_never_leave_their_bounds(
        loads in proptest::collection::vec(0.0f64..200.0, 1..60),
        least in 1u32..5,
        more in 0u32..50,
        tolerance in 0.0f64..0.3,
    ) {
        let mut hpa = hpa("");
        hpa.min = least;
        hpa.max = least + more;
        hpa.tolerance = tolerance;
        let mut scaler = Scaler::default();
        let mut replicas = hpa.min;
        for (sync, load) in loads.into_iter().enumerate() {
            let ready = replicas.div_ceil(2);
            let before = replicas;
            let seen = look(replicas, ready, replicas - ready, load);
            let verdict = scaler.sync(&hpa, seen, at(sync as i64 * 15));
            replicas = verdict.desired;
            prop_assert!((hpa.min..=hpa.max).contains(&replicas));
            prop_assert!(replicas <= (before * 2).max(before + 4), "{before} to {replicas}");
        }
    }

    #[test]
    fn a_usage_within_the_tolerance_keeps_still(replicas in 1u32..500, off in -0.09f64..0.09) {
        let hpa = hpa("metric = \"external\"\n");
        let load = 0.5 * f64::from(replicas) * (1.0 + off);
        prop_assert_eq!(raw(&hpa, look(replicas, replicas, 0, load)).0, replicas);
    }
}
