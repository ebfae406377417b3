//! A daemon that takes long over a layer: what else is on its way goes on, and is held meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forelay::domain::time::Timestamp;
use forelay::port::Clock;
use forelay::runtime::containerd::Lease;
use forelay::telemetry::clock::SystemClock;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::watch;

use crate::between::{Between, Side, Stop};
use crate::image::{Form, Image, Layer, file};
use crate::node::Node;
use crate::program::busybox;
use crate::registry::Upstream;

/// The system's clock, put forward.
struct Ahead(watch::Sender<Duration>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut ahead = self.0.subscribe();
        async move {
            loop {
                let now = SystemClock.now() + *ahead.borrow_and_update();
                let left = at.secs_since(now).max(0.0);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs_f64(left)) => break,
                    changed = ahead.changed() => if changed.is_err() { break },
                }
            }
        }
        .boxed()
    }
}

fn ids(leases: &[Lease]) -> BTreeSet<String> {
    let ids = leases.iter().map(|lease| lease.id.as_str().to_owned());
    ids.collect()
}

#[tokio::test]
async fn a_layer_that_the_daemon_unpacks_for_minutes_stops_neither_renewals_nor_other_images() {
    let layer = |name: &str| Layer::new(Form::Gzip, |tar| file(tar, name, 0o644, name.as_bytes()));
    let process = json!({"Cmd": ["/a"]});
    // In two kinds of places: one tree cannot serve both.
    let upper = Image::new(vec![layer("a"), layer("shared")], &process);
    let lower = Image::new(vec![layer("shared"), layer("b")], &process);
    let other = busybox(Form::Gzip, "other");
    let origin = Upstream::start();
    let images = [
        ("upper:1", &upper),
        ("lower:1", &lower),
        ("other:1", &other),
    ];
    for (name, image) in images {
        let (repository, tag) = name.split_once(':').unwrap();
        image.push(&origin, repository, tag).await;
    }
    let node = Node::start(format!("http://{}", origin.address)).await;
    let stop = Stop {
        method: "Diff/Apply",
        number: 1,
        side: Side::Before,
    };
    let between = Between::start(&node.daemon.socket(), Some(stop)).await;
    let clock = Arc::new(Ahead(watch::Sender::new(Duration::ZERO)));
    let mut site = node.site();
    site.socket = between.socket();
    site.clock = clock.clone();
    // As an earlier run leaves a layer that one tree cannot serve: which image comes first is chance.
    let left = site
        .staging
        .join("layers")
        .join(upper.layers[1].digest().hex());
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("apply"), b"").unwrap();
    let runtime = Arc::new(site.runtime().await);
    let client = node.daemon.client().await;
    let meanwhile = async {
        let asked = tokio::time::timeout(Duration::from_mins(1), between.stopped());
        asked.await.expect("the daemon is to unpack it");
        while between.count("Images/Create") < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = client.leases().await.unwrap();
        assert!(!before.is_empty());
        // A renewal is due every third of ten minutes.
        clock.0.send_replace(Duration::from_secs(210));
        let expected: BTreeSet<&str> = before.iter().map(|lease| &*lease.purpose).collect();
        loop {
            let now = client.leases().await.unwrap();
            let new = now
                .iter()
                .filter(|lease| !ids(&before).contains(lease.id.as_str()));
            let renewed: BTreeSet<&str> = new.map(|lease| &*lease.purpose).collect();
            // The lease of the image that is recorded ends meanwhile, or has ended.
            let held: BTreeSet<&str> = now.iter().map(|lease| &*lease.purpose).collect();
            let expected: BTreeSet<&str> = expected.intersection(&held).copied().collect();
            if !renewed.is_empty() && renewed.is_superset(&expected) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        between.go_on();
    };
    let (status, ()) = tokio::join!(site.deliver_by(runtime, &images), meanwhile);
    assert_eq!(status.present, 3, "{status:?}");
    assert!(between.count("Diff/Apply") > 0);
}
