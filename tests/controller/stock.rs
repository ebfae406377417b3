//! What agents say that their nodes have, as the controller takes it.

use forelay::api::{GROUP, INVENTORY_MANAGER, NodePrefetch, VERSION};
use forelay::port::Clock;
use forelay::telemetry::clock::SystemClock;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{TestCluster, images};
use crate::replica::Replica;

const NODE: &str = "stock-1";
const WEB: &str = "docker.io/library/nginx:1.27";
const LOG: &str = "registry.example/ops/logger:3";

fn digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

/// As an agent writes all of it.
async fn says(cluster: &TestCluster, images: Value, omitted: u32) {
    let inventory = json!({"listed": SystemClock.now().to_string(), "images": images,
        "omitted": omitted, "omittedBytes": 0, "omittedNames": 0});
    let object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "NodePrefetch",
        "status": {"inventory": inventory}});
    let params = PatchParams::apply(INVENTORY_MANAGER).force();
    let plans = cluster.node_plans();
    let patch = Patch::Apply(object);
    plans.patch_status(NODE, &params, &patch).await.unwrap();
}

/// As it writes what has changed.
async fn adds(cluster: &TestCluster, change: Value) {
    let inventory = json!({"listed": SystemClock.now().to_string(), "images": change});
    let patch = Patch::Merge(json!({"status": {"inventory": inventory}}));
    let params = PatchParams {
        field_manager: Some(INVENTORY_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let plans = cluster.node_plans();
    plans.patch_status(NODE, &params, &patch).await.unwrap();
}

fn has(image: &'static str) -> impl Fn(&NodePrefetch) -> bool {
    move |plan| images(plan).iter().any(|found| found == image)
}

/// An image that only the agent knows of is not planned again, one that went is, and a list of a part says
/// nothing of what it leaves out.
pub async fn inventory(cluster: &TestCluster) {
    let replica = Replica::start(&cluster.client, "only", |_| {});
    cluster.pod_waits("waits", "nginx:1.27").await;
    cluster.node_joins(NODE, "general").await;
    cluster.node_plan(NODE, "the pod's image", has(WEB)).await;
    let web = json!({digest(): {"names": [WEB], "bytes": 7}});
    says(cluster, web.clone(), 0).await;
    let without = |plan: &NodePrefetch| !has(WEB)(plan);
    cluster.node_plan(NODE, "it is there", without).await;
    adds(cluster, json!({digest(): null})).await;
    cluster.node_plan(NODE, "it went", has(WEB)).await;
    adds(cluster, web).await;
    cluster.node_plan(NODE, "it is there again", without).await;

    says(cluster, json!({}), 3).await;
    cluster.pod_waits("waits-too", LOG).await;
    let plan = cluster
        .node_plan(NODE, "another pod's image", has(LOG))
        .await;
    assert!(without(&plan), "{:?}", images(&plan));
    replica.stop().await;
}
