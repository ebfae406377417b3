//! Contradictions within workloads: names, kinds and what they need, loads, HPAs, rollouts.

use std::collections::BTreeSet;

use super::{draw, least_second, positive};
use crate::compose::error::Faults;
use crate::compose::spec::{Behaviour, Hpa, Kind, Load, Spec, Workload};

/// Notes what is wrong with the workloads.
pub(super) fn check(spec: &Spec, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (index, work) in spec.workloads.iter().enumerate() {
        let key = format!("workloads[{index}]");
        let bad = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if work.name.is_empty() || work.name.contains(bad) || work.name.len() > 50 {
            let mend = "write at most 50 lower-case letters, digits and dashes";
            faults.add(
                format!("{key}.name"),
                format!("`{}` is no name", work.name),
                mend,
            );
        }
        if !names.insert((work.kind as u8, &work.namespace, &work.name)) {
            faults.add(
                format!("{key}.name"),
                "the kind has one of this name already",
                "rename it",
            );
        }
        one(&key, work, faults);
        by_kind(&key, work, faults);
        if let Some(found) = &work.load {
            load(&format!("{key}.load"), found, faults);
        }
        if let Some(found) = &work.hpa {
            hpa(&format!("{key}.hpa"), found, work, faults);
        }
    }
}

fn one(key: &str, work: &Workload, faults: &mut Faults) {
    let of = |member: &str| format!("{key}.{member}");
    if work.containers.is_empty() {
        faults.add(of("containers"), "a pod has at least one", "name one");
    }
    for (index, container) in work.containers.iter().enumerate() {
        if work.containers[..index]
            .iter()
            .any(|c| c.name == container.name)
        {
            let place = format!("{key}.containers[{index}].name");
            faults.add(
                place,
                format!("`{}` is there twice", container.name),
                "rename one",
            );
        }
    }
    for (index, rollout) in work.rollouts.iter().enumerate() {
        if !work.containers.iter().any(|c| c.name == rollout.container) {
            let names: Vec<&str> = work.containers.iter().map(|c| c.name.as_str()).collect();
            let reason = format!("there is no container `{}`", rollout.container);
            let place = format!("{key}.rollouts[{index}].container");
            faults.add(place, reason, format!("name one of {}", names.join(", ")));
        }
    }
    for (index, spread) in work.spread.iter().enumerate() {
        if spread.skew == 0 {
            faults.add(
                format!("{key}.spread[{index}].skew"),
                "0 allows no pod",
                "write at least 1",
            );
        }
    }
    if work.surge.up(100) == 0 && work.unavailable.down(100) == 0 {
        faults.add(
            of("surge"),
            "with `unavailable` 0 no rollout moves",
            "make one of them larger",
        );
    }
    if work.copies == Some(0) {
        faults.add(of("copies"), "0 copies are none", "leave the workload out");
    }
    if work.parallelism == 0 {
        faults.add(
            of("parallelism"),
            "a Job without pods does nothing",
            "write at least 1",
        );
    }
    draw(&of("run"), work.run, faults);
    draw(&of("app_start"), work.app_start, faults);
    draw(&of("grace"), work.grace, faults);
}

/// Members that a kind needs, and those that it has no use for.
fn by_kind(key: &str, work: &Workload, faults: &mut Faults) {
    let scaled = matches!(work.kind, Kind::Deployment | Kind::StatefulSet);
    let kind = format!("{:?}", work.kind);
    for (member, there, wanted) in [
        (
            "schedule",
            work.schedule.is_some(),
            work.kind == Kind::CronJob,
        ),
        ("arrivals", work.arrivals.is_some(), work.kind == Kind::Jobs),
    ] {
        if wanted && !there {
            faults.add(
                format!("{key}.{member}"),
                format!("is missing: a {kind} needs it"),
                "write it",
            );
        }
        if there && !wanted {
            let reason = format!("a {kind} has no use for it");
            faults.add(
                format!("{key}.{member}"),
                reason,
                "leave it out, or change `kind`",
            );
        }
    }
    for (member, there) in [
        ("replicas", work.replicas.is_some()),
        ("load", work.load.is_some()),
        ("hpa", work.hpa.is_some()),
    ] {
        if there && !scaled {
            let reason = format!("a {kind} has no use for it");
            faults.add(
                format!("{key}.{member}"),
                reason,
                "leave it out, or change `kind`",
            );
        }
    }
    if let Some(arrivals) = &work.arrivals {
        positive(&format!("{key}.arrivals.speed"), arrivals.speed, faults);
        if arrivals.every == 0 {
            faults.add(
                format!("{key}.arrivals.every"),
                "0 takes no row",
                "write at least 1",
            );
        }
        if arrivals.at_once == Some(0) {
            faults.add(
                format!("{key}.arrivals.at_once"),
                "0 runs no Job",
                "write at least 1",
            );
        }
    }
    if work.time_zone.is_some() && work.schedule.is_none() {
        faults.add(
            format!("{key}.time_zone"),
            "there is no `schedule`",
            "leave it out",
        );
    }
}

fn load(key: &str, load: &Load, faults: &mut Faults) {
    let of = |member: &str| format!("{key}.{member}");
    match (&load.file, load.points.is_empty()) {
        (None, true) => faults.add(key, "has neither `file` nor `points`", "write one of them"),
        (Some(_), false) => faults.add(of("points"), "there is a `file` too", "write one of them"),
        _ => {}
    }
    positive(&of("speed"), load.speed, faults);
    positive(&of("per_replica"), load.per_replica, faults);
    least_second(&of("sample"), load.sample, faults);
    if !(load.scale.is_finite() && load.scale >= 0.0) {
        faults.add(
            of("scale"),
            format!("{} makes a negative load", load.scale),
            "write at least 0",
        );
    }
    if !(0.0..=2.0).contains(&load.noise) {
        faults.add(
            of("noise"),
            format!("{} is no sigma", load.noise),
            "write 0 to 2",
        );
    }
    for (index, pair) in load.points.windows(2).enumerate() {
        if pair[1].0.0 <= pair[0].0.0 {
            let place = format!("{key}.points[{}]", index + 1);
            faults.add(place, "is not after the point before it", "sort them");
        }
    }
    for (index, (_, value)) in load.points.iter().enumerate() {
        if !(value.is_finite() && *value >= 0.0) {
            let place = format!("{key}.points[{index}]");
            faults.add(place, format!("{value} is no load"), "write at least 0");
        }
    }
}

fn hpa(key: &str, hpa: &Hpa, work: &Workload, faults: &mut Faults) {
    let of = |member: &str| format!("{key}.{member}");
    if work.load.is_none() {
        faults.add(
            key,
            "there is no load to scale by",
            "write [workloads.load], or leave it out",
        );
    }
    if hpa.min > hpa.max {
        let reason = format!("{} is more than `max` {}", hpa.min, hpa.max);
        faults.add(of("min"), reason, "make it at most `max`");
    }
    if hpa.min == 0 || hpa.max == 0 {
        faults.add(
            of("min"),
            "an HPA keeps at least one replica",
            "write at least 1",
        );
    }
    if let Some(replicas) = work.replicas
        && replicas == 0
    {
        faults.add(
            of("min"),
            "`replicas = 0` switches an HPA off",
            "write at least 1 replica",
        );
    }
    positive(&of("target"), hpa.target, faults);
    if let Some(saturation) = hpa.saturation {
        positive(&of("saturation"), saturation, faults);
    }
    if !(0.0..1.0).contains(&hpa.tolerance) {
        faults.add(
            of("tolerance"),
            format!("{} is none", hpa.tolerance),
            "write 0 to 1",
        );
    }
    least_second(&of("sync"), hpa.sync, faults);
    draw(&of("lag"), hpa.lag, faults);
    for (direction, behaviour) in [("up", &hpa.up), ("down", &hpa.down)] {
        policies(&of(direction), behaviour, faults);
    }
}

/// The API server's own limits of a policy.
fn policies(key: &str, behaviour: &Behaviour, faults: &mut Faults) {
    for (index, policy) in behaviour.policies.iter().enumerate() {
        let place = format!("{key}.policies[{index}]");
        if policy.value == 0 {
            faults.add(
                format!("{place}.value"),
                "0 allows nothing",
                "write select = \"Disabled\"",
            );
        }
        let period = policy.period.0.as_secs_f64();
        if !(1.0..=1800.0).contains(&period) {
            faults.add(
                format!("{place}.period"),
                format!("{period} s"),
                "write \"1s\" to \"30m\"",
            );
        }
    }
    if behaviour
        .stabilisation
        .is_some_and(|span| span.0.as_secs_f64() > 3600.0)
    {
        faults.add(
            format!("{key}.stabilisation"),
            "is more than an hour",
            "write at most \"1h\"",
        );
    }
}
