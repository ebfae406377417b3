//! Contradictions of a spec that need no other file to be seen: all of them, with key and mend.

mod event;
mod workload;

use crate::compose::error::Faults;
use crate::compose::spec::{Autoscaler, Draw, Pool, Spec};
use crate::config::unit::Span;

/// Most nodes of all pools together: the model keeps each in memory.
const NODES_MAX: u64 = 20_000;

/// Longest scenario: a month.
const LENGTH_MAX_S: f64 = 31.0 * 86_400.0;

/// Most workloads, copies counted.
const WORKS_MAX: u64 = 5_000;

/// Notes every contradiction.
pub fn check(spec: &Spec, faults: &mut Faults) {
    top(spec, faults);
    autoscaler(&spec.autoscaler, faults);
    for (name, found) in &spec.pools {
        pool(&format!("pools.{name}"), found, faults);
    }
    workload::check(spec, faults);
    event::check(spec, faults);
    let watch = &spec.watch;
    for (key, value) in [
        ("events_lost", watch.events_lost),
        ("load_lost", watch.load_lost),
    ] {
        share(&format!("watch.{key}"), value, faults);
    }
    if !(watch.pod_events.is_finite() && watch.pod_events > 0.0) {
        faults.add("watch.pod_events", "is no rate", "write a number above 0");
    }
    for (key, found) in [
        ("objects", watch.objects),
        ("events", watch.events),
        ("load", watch.load),
    ] {
        draw(&format!("watch.{key}"), found, faults);
    }
    for (name, value) in &spec.bounds {
        let key = format!("bounds.{name}");
        if !(name.ends_with("_min") || name.ends_with("_max")) {
            faults.add(
                &key,
                "is neither a floor nor a ceiling",
                "end its name in `_min` or `_max`",
            );
        }
        if !value.is_finite() {
            faults.add(&key, "is no number", "write a finite one");
        }
    }
}

fn top(spec: &Spec, faults: &mut Faults) {
    if spec.name.is_empty() || spec.name.contains(['/', ' ']) {
        faults.add(
            "name",
            "is empty, or has a slash or a space",
            "name it like its file: flash-crowd",
        );
    }
    if spec.start.is_none() {
        faults.add(
            "start",
            "is missing",
            "write an instant such as \"2026-03-02T08:00:00Z\"",
        );
    }
    match spec.length {
        None => faults.add(
            "length",
            "is missing",
            "write how long the scenario is: \"40m\"",
        ),
        Some(length) => {
            let seconds = length.0.as_secs_f64();
            if !(60.0..=LENGTH_MAX_S).contains(&seconds) {
                faults.add(
                    "length",
                    format!("is {seconds} s"),
                    "write \"1m\" to \"744h\"",
                );
            }
        }
    }
    if spec.settle.0.as_secs_f64() > LENGTH_MAX_S {
        faults.add("settle", "is longer than a month", "write an hour or so");
    }
    if spec.pools.is_empty() {
        faults.add("pools", "there is none", "describe one as [pools.NAME]");
    }
    let nodes: u64 = spec.pools.values().map(|pool| u64::from(pool.max)).sum();
    if nodes > NODES_MAX {
        let reason = format!("{nodes} nodes at most in all, {NODES_MAX} can be played");
        faults.add("pools", reason, "lower `max` of some");
    }
    let works: u64 = spec
        .workloads
        .iter()
        .map(|w| u64::from(w.copies.unwrap_or(1)))
        .sum();
    if works > WORKS_MAX {
        let reason = format!("{works} with their copies, {WORKS_MAX} can be played");
        faults.add("workloads", reason, "lower `copies`");
    }
    for (name, image) in &spec.images {
        if image.layers.is_empty() || image.archs.is_empty() {
            let mend = "give at least one layer and one architecture";
            faults.add(format!("images.\"{name}\""), "is empty", mend);
        }
    }
}

fn autoscaler(found: &Autoscaler, faults: &mut Faults) {
    share("autoscaler.utilisation", found.utilisation, faults);
    for (key, span) in [
        ("scan", found.scan),
        ("provision_max", found.provision_max),
        ("batch_max", found.batch_max),
    ] {
        least_second(&format!("autoscaler.{key}"), span, faults);
    }
    if found.batch_idle.0 > found.batch_max.0 {
        faults.add(
            "autoscaler.batch_idle",
            "is longer than `batch_max`",
            "make it shorter",
        );
    }
}

fn pool(key: &str, pool: &Pool, faults: &mut Faults) {
    let of = |member: &str| format!("{key}.{member}");
    if pool.min > pool.max {
        let reason = format!("{} is more than `max` {}", pool.min, pool.max);
        faults.add(of("min"), reason, "make it at most `max`");
    }
    if pool.zones.is_empty() {
        faults.add(
            of("zones"),
            "there is none",
            "name at least one, or leave the key out",
        );
    }
    for (index, zone) in pool.zones.iter().enumerate() {
        if pool.zones[..index].contains(zone) {
            faults.add(
                of("zones"),
                format!("`{zone}` is there twice"),
                "name each once",
            );
        }
    }
    if pool.cpu.0 == 0 || pool.memory.0.0 == 0 || pool.pods == 0 {
        faults.add(
            key,
            "a node without CPU, memory or pods takes none",
            "write more than 0",
        );
    }
    share(&of("launched"), pool.launched, faults);
    share(&of("gc_high"), pool.gc_high, faults);
    share(&of("gc_low"), pool.gc_low, faults);
    if pool.gc_low > pool.gc_high {
        faults.add(of("gc_low"), "is above `gc_high`", "make it lower");
    }
    if pool.pulls == 0 {
        faults.add(
            of("pulls"),
            "0 pulls at once bring no image",
            "write 1 for serial pulls",
        );
    }
    if !(pool.price.is_finite() && pool.price >= 0.0) {
        faults.add(of("price"), "is no price", "write a number, at least 0");
    }
    if !(0.0..=3.0).contains(&pool.agent_start_sigma) {
        faults.add(of("agent_start_sigma"), "is no sigma", "write 0 to 3");
    }
    draw(&of("arrival"), pool.arrival, faults);
    draw(&of("boot"), pool.boot, faults);
    stock_outs_and_taints(key, pool, faults);
}

fn stock_outs_and_taints(key: &str, pool: &Pool, faults: &mut Faults) {
    for (index, out) in pool.stock_outs.iter().enumerate() {
        let place = format!("{key}.stock_outs[{index}]");
        if out.from.0 >= out.to.0 {
            faults.add(&place, "`from` is not before `to`", "turn them around");
        }
        if let Some(zone) = &out.zone
            && !pool.zones.contains(zone)
        {
            let mend = format!("name one of {}", pool.zones.join(", "));
            faults.add(
                format!("{place}.zone"),
                format!("the pool has no zone `{zone}`"),
                mend,
            );
        }
    }
    for (index, taint) in pool.taints.iter().enumerate() {
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
            let mend = "write NoSchedule, PreferNoSchedule or NoExecute";
            let place = format!("{key}.taints[{index}].effect");
            faults.add(place, format!("`{}` is none", taint.effect), mend);
        }
    }
}

/// Quantiles must rise.
fn draw(key: &str, draw: Draw, faults: &mut Faults) {
    if draw.p10 > draw.p50 || draw.p50 > draw.p95 {
        faults.add(key, "its quantiles do not rise", "write p10 <= p50 <= p95");
    }
    if draw.p95 > 86_400.0 {
        faults.add(key, "is longer than a day", "write less");
    }
}

fn share(key: &str, value: f64, faults: &mut Faults) {
    if !(0.0..=1.0).contains(&value) {
        faults.add(
            key,
            format!("{value} is no share"),
            "write a number from 0 to 1",
        );
    }
}

fn positive(key: &str, value: f64, faults: &mut Faults) {
    if !(value.is_finite() && value > 0.0) {
        faults.add(key, format!("{value} is no rate"), "write a number above 0");
    }
}

/// What is done again and again is not done more often than once a second.
fn least_second(key: &str, span: Span, faults: &mut Faults) {
    if span.0.as_secs_f64() < 1.0 {
        faults.add(key, format!("{span} is too often"), "write at least \"1s\"");
    }
}
