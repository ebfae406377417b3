//! kill -9 of an agent process in the middle of a layer.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use forelay::agent;
use forelay::domain::image::ImageRef;
use forelay::domain::plan::{Priority, Target};
use forelay::telemetry::metric::Metrics;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cache::NAME;
use crate::node::{Cluster, NODE, blob, client, entry, listed, options, until};
use crate::relay::{Fault, Relay};
use crate::upstream::Upstream;

/// How the child is told what to do: API server, layout, registry.
const ORDERS: &str = "FORELAY_TEST_AGENT";

/// Only the child of the test below has orders: it is an agent until it is killed.
#[test]
fn a_process_with_orders_is_an_agent() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let [url, layout, origin] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("orders: {orders}");
    };
    Runtime::new().unwrap().block_on(async {
        let options = options(Path::new(layout), &[], Some(origin.to_owned()));
        let never = CancellationToken::new();
        agent::run(client(url), options, &mut Metrics::new("agent"), never)
            .await
            .unwrap();
    });
}

/// A child that never outlives its test.
struct Agent(Child);

impl Agent {
    fn start(cluster: &Cluster, layout: &Path, origin: &Relay) -> Self {
        let orders = format!("{} {} {}", cluster.url, layout.display(), origin.url());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "agent_kill::a_process_with_orders_is_an_agent"])
            .env(ORDERS, orders)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL, as the kernel's out-of-memory killer sends it.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_agent_resumes_at_the_byte_where_it_was_and_shows_nothing_unverified() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let web: ImageRef = format!("{NAME}/team/web:1").parse().unwrap();
    let pushed = origin.push(&web, &[(1, 3_000_000)]).await;
    // The config passes; the layer stops in its middle.
    let faults = [Fault::None, Fault::Stall(1_700_000)];
    let relay = Relay::start(origin.address, faults).await;
    cluster.publish(
        Target::Node(NODE.into()),
        vec![entry(&web, &pushed, Priority::Pending)],
    );

    let layer = &pushed.manifest.layers[0].digest;
    let partial = layout
        .join("ingest")
        .join(format!("{}.partial", layer.hex()));
    let written = || std::fs::metadata(&partial).map_or(0, |meta| meta.len());
    let first = Agent::start(&cluster, layout, &relay);
    until("half of the layer is on disk", async || {
        written() > 1_000_000
    })
    .await;
    first.kill();
    let reached = written();
    assert!(reached <= 1_700_000);
    assert!(!blob(layout, layer).exists(), "half a layer is visible");
    assert!(
        listed(layout).is_empty(),
        "an image without its layer is listed"
    );

    let second = Agent::start(&cluster, layout, &relay);
    until("the image is there", async || !listed(layout).is_empty()).await;
    second.kill();
    let seen = relay.seen();
    let of_layer: Vec<_> = seen
        .iter()
        .filter(|s| s.path.contains(layer.hex()))
        .collect();
    assert_eq!(of_layer.len(), 2);
    assert_eq!(
        of_layer[1].range.as_deref(),
        Some(format!("bytes={reached}-").as_str())
    );
    assert_eq!(
        std::fs::read(blob(layout, layer)).unwrap(),
        pushed.layers[0]
    );
}
