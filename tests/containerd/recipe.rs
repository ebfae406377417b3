//! The recipe of an image without a pull, against the real daemon: who sees it, and what keeps it.

use std::time::Duration;

use forelay::domain::time::Timestamp;
use forelay::port::Clock;
use forelay::runtime::containerd::Collect;
use forelay::telemetry::clock::SystemClock;

use crate::daemon::Containerd;
use crate::image::Form;
use crate::place::{place, record};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::sha256;

const MINUTES: Duration = Duration::from_mins(10);

fn now() -> Timestamp {
    SystemClock.now()
}

#[tokio::test]
async fn an_image_that_was_placed_starts_without_a_registry() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let lease = client
        .lease_begin("test", now() + MINUTES)
        .await
        .unwrap()
        .id;
    let pause = busybox(Form::Gzip);
    place(&client, &lease, &daemon.stage(), &pause).await;
    record(&client, "forelay.test/pause", "1", &pause).await;
    let mut cri = Cri::new(daemon.channel().await);
    let seen = loop {
        if let Some(seen) = cri.image("forelay.test/pause:1").await {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(seen.id, sha256(&pause.config).to_string());
    let pod = cri.sandbox("one").await;
    let container = cri
        .start(&pod, "forelay.test/pause:1", &["/bin/busybox", "true"])
        .await
        .unwrap();
    assert_eq!(cri.ended(&container).await, 0);
    cri.remove(pod).await;
    client.lease_end(&lease, Collect::Now).await.unwrap();
}
