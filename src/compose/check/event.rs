//! Contradictions of events: members of other kinds, pools, zones and workloads that are not there.

use crate::compose::error::Faults;
use crate::compose::spec::{Event, EventKind, Kind, Spec, Workload};

/// Members that an event may have, as (name, whether it is there).
fn members(event: &Event) -> [(&'static str, bool); 11] {
    [
        ("pool", event.pool.is_some()),
        ("zone", event.zone.is_some()),
        ("count", event.count.is_some()),
        ("share", event.share.is_some()),
        ("notice", event.notice.is_some()),
        ("hint", event.hint.is_some()),
        ("for", event.lasts.is_some()),
        ("in", event.ahead.is_some()),
        ("name", event.name.is_some()),
        ("workload", event.workload.is_some()),
        ("replicas", event.replicas.is_some()),
    ]
}

/// What a kind needs, and what it takes beside that.
const fn wants(kind: EventKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        EventKind::SpotReclaim => (&["pool"], &["count", "share", "zone", "notice", "hint"]),
        EventKind::ZoneOutage => (&["zone", "for"], &[]),
        EventKind::StockOut => (&["pool", "for"], &["zone"]),
        EventKind::Drain | EventKind::NodeFailure => (&["pool"], &["count", "share", "zone"]),
        EventKind::Announce => (&["name", "count"], &["workload", "pool", "in", "for"]),
        EventKind::Buffer => (&["name", "count", "workload"], &["for"]),
        EventKind::Scale => (&["workload", "replicas"], &[]),
    }
}

/// Notes what is wrong with the events.
pub(super) fn check(spec: &Spec, faults: &mut Faults) {
    for (index, event) in spec.events.iter().enumerate() {
        let key = format!("events[{index}]");
        let (needed, taken) = wants(event.kind);
        for (member, there) in members(event) {
            if there && !needed.contains(&member) && !taken.contains(&member) {
                let all = [needed, taken].concat().join(", ");
                let reason = "this kind of event has no use for it";
                faults.add(format!("{key}.{member}"), reason, format!("it takes {all}"));
            }
            if !there && needed.contains(&member) {
                faults.add(format!("{key}.{member}"), "is missing", "write it");
            }
        }
        if spec.length.is_some_and(|length| event.at.0 > length.0) {
            faults.add(format!("{key}.at"), "is after the end", "make it earlier");
        }
        places(&key, event, spec, faults);
        nodes(&key, event, spec, faults);
        workload(&key, event, spec, faults);
    }
}

fn places(key: &str, event: &Event, spec: &Spec, faults: &mut Faults) {
    if let Some(pool) = &event.pool
        && !spec.pools.contains_key(pool)
    {
        let names: Vec<&str> = spec.pools.keys().map(String::as_str).collect();
        let mend = format!("name one of {}", names.join(", "));
        faults.add(
            format!("{key}.pool"),
            format!("there is no pool `{pool}`"),
            mend,
        );
    }
    let has = |zone: &String| {
        let pools = spec.pools.iter();
        let meant = pools.filter(|(name, _)| event.pool.as_ref().is_none_or(|pool| *name == pool));
        meant.into_iter().any(|(_, pool)| pool.zones.contains(zone))
    };
    if let Some(zone) = &event.zone
        && !has(zone)
    {
        faults.add(
            format!("{key}.zone"),
            format!("no such zone `{zone}` there"),
            "name one of the pool's",
        );
    }
}

fn nodes(key: &str, event: &Event, spec: &Spec, faults: &mut Faults) {
    let takes_nodes = matches!(
        event.kind,
        EventKind::SpotReclaim | EventKind::Drain | EventKind::NodeFailure
    );
    if takes_nodes && event.count.is_some() == event.share.is_some() {
        faults.add(
            key,
            "needs `count` or `share`, one of them",
            "write how many nodes",
        );
    }
    if event
        .share
        .is_some_and(|share| !(0.0..=1.0).contains(&share))
    {
        faults.add(
            format!("{key}.share"),
            "is no share",
            "write a number from 0 to 1",
        );
    }
    let pool = event.pool.as_ref().and_then(|pool| spec.pools.get(pool));
    if event.kind == EventKind::SpotReclaim && pool.is_some_and(|pool| !pool.spot) {
        faults.add(
            format!("{key}.pool"),
            "its nodes are not spot",
            "set `spot = true` there",
        );
    }
    if event.kind == EventKind::Announce && event.pool.is_none() && event.workload.is_none() {
        faults.add(
            key,
            "names neither `workload` nor `pool`",
            "name what will come",
        );
    }
    if event.hint.is_some_and(|hint| hint.0 > event.at.0) {
        faults.add(
            format!("{key}.hint"),
            "would be before the start",
            "make it shorter",
        );
    }
}

fn workload(key: &str, event: &Event, spec: &Spec, faults: &mut Faults) {
    let Some(text) = &event.workload else { return };
    let found = spec.workloads.iter().find(|work| is(work, text));
    let Some(found) = found else {
        let mend = "write Kind/namespace/name of one of the workloads; a copy has its number";
        faults.add(
            format!("{key}.workload"),
            format!("there is no workload `{text}`"),
            mend,
        );
        return;
    };
    let scaled = matches!(found.kind, Kind::Deployment | Kind::StatefulSet);
    if event.kind == EventKind::Scale && (!scaled || found.hpa.is_some()) {
        let reason = "its replicas are not set by hand";
        faults.add(
            format!("{key}.workload"),
            reason,
            "take one without an HPA that has replicas",
        );
    }
}

/// Whether a text names a workload or one of its copies.
fn is(work: &Workload, text: &str) -> bool {
    let kind = match work.kind {
        Kind::Jobs => "Job".to_owned(),
        kind => format!("{kind:?}"),
    };
    let prefix = format!("{kind}/{}/{}", work.namespace, work.name);
    match work.copies {
        None => text == prefix,
        Some(copies) => text
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|number| number.parse::<u32>().ok())
            .is_some_and(|number| (1..=copies).contains(&number)),
    }
}
