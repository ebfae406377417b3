//! kill -9 of agent or daemon at any instant: the next start clears up and goes on.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that waits asks the clock itself"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forelay::runtime::containerd::Client;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::blobs::kept;
use crate::equal::Reference;
use crate::image::{Form, Image, Layer, file, folder};
use crate::node::{Node, Site};
use crate::program::busybox;
use crate::registry::Upstream;
use crate::relay::Relay;

/// How the child is told what to do: socket, staging, registry, which image, whether blobs are kept.
const ORDERS: &str = "FORELAY_TEST_NODE_AGENT";

/// Instants of one delivery at which it is killed.
const STAGES: u32 = 12;

/// Small files in each of four layers: unpacked, placed and recorded within a second or two.
const FILES: usize = 1_500;

fn image() -> Image {
    let layers = (0..4).map(|layer| {
        Layer::new(Form::Gzip, |tar| {
            folder(tar, "d/", 0o755);
            for i in 0..FILES {
                let bytes = format!("{layer} {i} ").repeat(20);
                file(tar, &format!("d/{layer}-{i}"), 0o644, bytes.as_bytes());
            }
        })
    });
    Image::new(layers.collect(), &json!({"Cmd": ["/a"]}))
}

/// Only the child of the tests below has orders: it is an agent until it is killed, or done.
#[test]
fn a_process_with_orders_is_an_agent() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let [socket, staging, origin, which, blobs] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("orders: {orders}");
    };
    let site = Site {
        socket: socket.into(),
        staging: staging.into(),
        origin: origin.to_owned(),
        blobs: blobs == "true",
        ..Site::default()
    };
    // The same program writes the same bytes again.
    let image = if which == "small" {
        small_image()
    } else {
        image()
    };
    Runtime::new().unwrap().block_on(async {
        let runtime = Arc::new(site.runtime().await);
        site.deliver_by(runtime, &[("team/web:1", &image)]).await;
    });
}

/// Two layers: each call for a layer has a first and a last.
pub fn small_image() -> Image {
    busybox(Form::Gzip, "small")
}

/// A child that never outlives its test.
pub struct AgentChild(Child);

impl AgentChild {
    /// An agent that delivers the `large` image, or the `small` one.
    pub fn start(site: &Site, which: &str) -> Self {
        let (socket, staging) = (site.socket.display(), site.staging.display());
        let orders = format!("{socket} {staging} {} {which} {}", site.origin, site.blobs);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_process_with_orders_is_an_agent"])
            .env(ORDERS, orders)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for AgentChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing but the image: no half-made snapshot, lease, ingest or tree.
async fn assert_nothing_left(client: &Client, staging: &Path, image: &Image) {
    let snapshots = client.snapshots(&[]).await.unwrap();
    let mut names: Vec<String> = snapshots.into_iter().map(|info| info.name).collect();
    names.sort();
    let mut expected = image.chain_ids();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(client.leases().await.unwrap(), []);
    assert!(client.ingests().await.unwrap().is_empty());
    let begun = Instant::now();
    for folder in ["layers", "trash", "spool"] {
        let folder = staging.join(folder);
        let is_left = || std::fs::read_dir(&folder).is_ok_and(|mut all| all.next().is_some());
        // Trees are removed by a thread.
        while is_left() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{}",
                folder.display()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A registry with the image, what containerd makes of it, and how long an agent takes.
pub struct Around {
    pub image: Image,
    /// Whether layers' blobs are kept.
    pub blobs: bool,
    reference: Reference,
    relay: Relay,
    _origin: Upstream,
}

impl Around {
    pub async fn start(image: Image) -> Self {
        let origin = Upstream::start();
        image.push(&origin, "team/web", "1").await;
        Self {
            reference: Reference::pull(&origin, &image).await,
            relay: Relay::start(origin.address, []).await,
            blobs: false,
            image,
            _origin: origin,
        }
    }

    pub async fn node(&self) -> Node {
        let mut node = Node::start(self.relay.url()).await;
        node.blobs = self.blobs;
        node
    }

    /// The next agent finishes, the image is what it should be, and nothing else is there.
    pub async fn assert_mended(&self, node: &Node, after: &str) {
        let status = node.deliver(&[("team/web:1", &self.image)]).await;
        assert_eq!(status.present, 1, "{after}: {status:?}");
        let client = node.daemon.client().await;
        let found = self.reference.differences(&client, &self.image).await;
        assert!(found.is_empty(), "{after}: {}", found.join("\n"));
        assert_nothing_left(&client, &node.staging(), &self.image).await;
        if self.blobs {
            let found = self.reference.kept().await;
            assert_eq!(kept(&client).await, found, "{after}");
        }
    }
}

/// How long one delivery takes that nobody disturbs, the child's start included.
async fn undisturbed(node: &Node) -> Duration {
    let begun = Instant::now();
    let mut child = AgentChild::start(&node.site(), "large");
    while !child.ended() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_killed_agent_leaves_nothing_that_the_next_one_does_not_clear_away() {
    let around = Around::start(image()).await;
    let whole = undisturbed(&around.node().await).await;
    let mut killed = 0;
    for stage in 1..=STAGES {
        let node = around.node().await;
        let mut child = AgentChild::start(&node.site(), "large");
        tokio::time::sleep(whole * stage / (STAGES + 1)).await;
        killed += u32::from(!child.ended());
        drop(child);
        around.assert_mended(&node, &format!("stage {stage}")).await;
    }
    assert!(
        killed >= STAGES / 2,
        "only {killed} were killed before they ended"
    );
}

#[tokio::test]
async fn a_killed_daemon_is_found_again_and_the_delivery_goes_on() {
    let around = Around::start(image()).await;
    let node = around.node().await;
    let begun = Instant::now();
    node.deliver(&[("team/web:1", &around.image)]).await;
    let whole = begun.elapsed();
    for stage in 1..=STAGES / 2 {
        let mut node = around.node().await;
        let site = node.site();
        let runtime = Arc::new(site.runtime().await);
        let kill = async {
            tokio::time::sleep(whole * stage / (STAGES / 2 + 1)).await;
            node.daemon.restart().await;
        };
        let images = [("team/web:1", &around.image)];
        let (status, ()) = tokio::join!(site.deliver_by(runtime.clone(), &images), kill);
        drop(runtime);
        let message = &status.images[0].message;
        assert_eq!(status.present, 1, "{message:?}");
        around.assert_mended(&node, &format!("stage {stage}")).await;
    }
}
