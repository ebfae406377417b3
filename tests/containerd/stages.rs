//! kill -9 of agent and daemon at every call that changes something, on both sides of it.

use std::sync::Arc;
use std::time::Duration;

use crate::between::{Between, Side, Stop};
use crate::kill::{AgentChild, Around, small_image};

/// Calls of one delivery of two layers, in their order.
const CALLS: [(&str, usize); 10] = [
    ("Leases/Create", 1),
    ("Snapshots/Prepare", 1),
    ("Snapshots/Commit", 1),
    ("Snapshots/Prepare", 2),
    ("Snapshots/Commit", 2),
    // Config, manifest, index.
    ("Content/Write", 1),
    ("Content/Write", 3),
    // Tag, digest.
    ("Images/Create", 1),
    ("Images/Create", 2),
    ("Leases/Delete", 1),
];

/// Calls of the same delivery that keep its blobs: they follow.
const CALLS_OF_BLOBS: [(&str, usize); 5] = [
    ("Leases/Create", 2),
    ("Content/Write", 4),
    ("Leases/Delete", 2),
    ("Content/Write", 5),
    ("Leases/Delete", 3),
];

fn stops(calls: &[(&'static str, usize)]) -> Vec<Stop> {
    let calls = calls.iter().flat_map(|(method, number)| {
        [Side::Before, Side::After].map(|side| Stop {
            method,
            number: *number,
            side,
        })
    });
    calls.collect()
}

async fn with_blobs() -> Around {
    let mut around = Around::start(small_image()).await;
    around.blobs = true;
    around
}

/// Kills the agent at each of the calls; the next one has to mend it.
async fn assert_agents_mended(around: &Around, calls: &[(&'static str, usize)]) {
    for stop in stops(calls) {
        let node = around.node().await;
        let between = Between::start(&node.daemon.socket(), Some(stop)).await;
        let mut site = node.site();
        site.socket = between.socket();
        let mut child = AgentChild::start(&site, "small");
        while !between.has_stopped() {
            assert!(!child.ended(), "never came: {stop:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(child);
        drop(between);
        around.assert_mended(&node, &format!("{stop:?}")).await;
    }
}

#[tokio::test]
async fn an_agent_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_clear_away() {
    let around = Around::start(small_image()).await;
    assert_agents_mended(&around, &CALLS).await;
}

#[tokio::test]
async fn an_agent_killed_while_it_keeps_blobs_leaves_them_to_the_next_one() {
    let calls = [&CALLS[..], &CALLS_OF_BLOBS].concat();
    assert_agents_mended(&with_blobs().await, &calls).await;
}

/// Kills the daemon at each of the calls; the delivery has to go on.
async fn assert_daemons_found_again(around: &Around, calls: &[(&'static str, usize)]) {
    for stop in stops(calls) {
        let mut node = around.node().await;
        let between = Between::start(&node.daemon.socket(), Some(stop)).await;
        let mut site = node.site();
        site.socket = between.socket();
        let runtime = Arc::new(site.runtime().await);
        let kill = async {
            between.stopped().await;
            node.daemon.restart().await;
            between.go_on();
        };
        let images = [("team/web:1", &around.image)];
        let (status, ()) = tokio::join!(site.deliver_by(runtime.clone(), &images), kill);
        drop(runtime);
        drop(between);
        let message = &status.images[0].message;
        assert_eq!(status.present, 1, "{stop:?}: {message:?}");
        around.assert_mended(&node, &format!("{stop:?}")).await;
    }
}

#[tokio::test]
async fn a_daemon_killed_at_any_call_is_found_again_and_the_delivery_goes_on() {
    let around = Around::start(small_image()).await;
    assert_daemons_found_again(&around, &CALLS).await;
}

#[tokio::test]
async fn a_daemon_killed_while_blobs_are_kept_gets_them_afterwards() {
    assert_daemons_found_again(&with_blobs().await, &CALLS_OF_BLOBS).await;
}
