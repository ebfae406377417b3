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

fn stops() -> impl Iterator<Item = Stop> {
    CALLS.into_iter().flat_map(|(method, number)| {
        [Side::Before, Side::After].map(|side| Stop {
            method,
            number,
            side,
        })
    })
}

#[tokio::test]
async fn an_agent_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_clear_away() {
    let around = Around::start(small_image()).await;
    for stop in stops() {
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
async fn a_daemon_killed_at_any_call_is_found_again_and_the_delivery_goes_on() {
    let around = Around::start(small_image()).await;
    for stop in stops() {
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
