//! Requests that the cloud refuses, that are given up, that are late.

use super::build::*;
use crate::domain::plan::Target;
use crate::domain::signal::{Fact, NodeRemoved, Signal};
use crate::domain::time::Timestamp;
use crate::engine::cluster::{Applied, Cluster};
use crate::forecast::arrival::Outlook;

fn refused(secs: u64, request: Option<&str>, reason: &str) -> Signal {
    let fact = NodeRemoved {
        node: None,
        request: request.map(str::to_owned),
        pool: Some("general".into()),
        reason: reason.into(),
    };
    signal(secs, Fact::NodeRemoved(fact))
}

fn outlook(cluster: &Cluster, secs: u64) -> Outlook {
    let seen = cluster.explain(&Target::Pool("general".into()), at(secs));
    seen.unwrap().arrival.unwrap()
}

/// When the pool's plan wants its images, a pod waiting.
fn deadline(cluster: &Cluster) -> Timestamp {
    let plan = cluster.plan(&Target::Pool("general".into())).unwrap();
    plan.entries[0].deadline.unwrap()
}

/// A pool with a node, and a pod that waits.
fn waiting() -> Cluster {
    fed(&[
        resolved(0, "web", 300),
        joined(0, "old", "general"),
        ready(1, "old"),
        pending(2, "p", "Deployment/shop/web", &needs(7900, &["web"])),
    ])
}

#[test]
fn a_claim_that_the_cloud_refused_delays_what_is_expected_of_the_next() {
    let mut usual = waiting();
    feed(&mut usual, &[claimed(100, "general", "c1", None)]);
    let expected = deadline(&usual).secs_since(at(100));
    let mut cluster = waiting();
    feed(&mut cluster, &[claimed(10, "general", "c0", None)]);
    feed(
        &mut cluster,
        &[refused(12, Some("c0"), "insufficient capacity")],
    );
    feed(&mut cluster, &[claimed(100, "general", "c1", None)]);
    let seen = outlook(&cluster, 100);
    assert_eq!((seen.refusals, seen.refused), (1, Some(at(12))));
    // Two seconds say nothing of how long nodes take.
    assert_eq!((seen.in_vain, seen.waiting), (0, 1));
    let delayed = deadline(&cluster).secs_since(at(100));
    assert!(delayed > expected + 5.0, "{delayed} {expected}");
    // It comes: the cloud has machines again.
    feed(&mut cluster, &[removed_and_joined(150), ready(170, "new")]);
    assert_eq!(outlook(&cluster, 170).refusals, 0);
}

fn removed_and_joined(secs: u64) -> Signal {
    let mut signal = joined(secs, "new", "general");
    if let Fact::NodeJoined(fact) = &mut signal.fact {
        fact.request = Some("c1".into());
    }
    signal
}

#[test]
fn a_group_that_fails_again_is_out_of_stock_for_longer_and_one_word_is_one_failure() {
    let mut cluster = waiting();
    feed(&mut cluster, &[requested(10, "general", 3)]);
    let word = refused(210, None, "out of capacity");
    assert_eq!(cluster.apply(&word), Applied::Changed);
    assert!(matches!(cluster.apply(&word), Applied::Ignored(_)));
    // The status says the same a scan later.
    cluster.apply(&refused(220, None, "Backoff"));
    let seen = outlook(&cluster, 220);
    // Two that were asked for at once and given up at once are one wait.
    assert_eq!((seen.refusals, seen.in_vain, seen.waiting), (1, 1, 0));
    let once = seen.p90_s;
    feed(&mut cluster, &[requested(600, "general", 3)]);
    feed(&mut cluster, &[refused(700, None, "out of capacity")]);
    let again = outlook(&cluster, 700);
    assert_eq!(again.refusals, 2);
    assert!(again.p90_s > once, "{} {once}", again.p90_s);

    let mut new = cluster_of(&cluster);
    feed(&mut new, &[joined(701, "old", "general")]);
    let told = outlook(&new, 701);
    assert_eq!(
        (told.refusals, told.in_vain),
        (again.refusals, again.in_vain)
    );
}

fn cluster_of(old: &Cluster) -> Cluster {
    let mut new = cluster();
    let text = old.save(at(700));
    new.load(&text).unwrap();
    assert_eq!(new.save(at(700)), text);
    new
}

#[test]
fn a_claim_that_is_withdrawn_without_a_reason_is_a_wait_in_vain_and_no_failure() {
    let mut cluster = waiting();
    feed(&mut cluster, &[claimed(10, "general", "c0", None)]);
    let before = outlook(&cluster, 10).p90_s;
    feed(&mut cluster, &[refused(310, Some("c0"), "")]);
    let seen = outlook(&cluster, 310);
    assert_eq!((seen.refusals, seen.in_vain), (0, 1));
    assert!(seen.p90_s > before);
}

#[test]
fn requests_that_are_all_late_say_that_the_next_will_be() {
    let mut cluster = waiting();
    let claims = ["c0", "c1", "c2", "c3"].map(|name| claimed(10, "general", name, None));
    feed(&mut cluster, &claims);
    let usual = outlook(&cluster, 11);
    let late = outlook(&cluster, 410);
    assert_eq!((late.waiting, late.oldest_s), (4, Some(400.0)));
    assert!(
        late.p50_s > usual.p50_s && late.left_s > Some(30.0),
        "{late:?}"
    );
}
