//! What an autoscaler offers, from its call to the plan of a pool that never had a node.

use std::collections::BTreeMap;

use forelay::port::Clock;
use forelay::source::kubernetes::offers::{Choice, Offer};
use forelay::telemetry::clock::SystemClock;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cluster::{TestCluster, eventually, of};
use crate::replica::Replica;

/// The only choice is a group of which nothing is known but its sample: the pool of the sample's label is planned for.
pub async fn plan_of_a_pool(cluster: &TestCluster) {
    let (offered, offers) = mpsc::channel(1);
    let replica = Replica::start(&cluster.client, "offers", |options| {
        options.offers = Some(offers);
    });
    cluster.pod_waits("offered", "nginx:1.27").await;
    eventually("it leads", || async { replica.leads().then_some(()) }).await;
    let sample = of(json!({
        "metadata": {"labels": {"example.com/nodegroup": "offered"}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
            "nodeInfo": {"architecture": "amd64"}},
    }));
    let offer = Offer {
        at: SystemClock.now(),
        pods: Vec::new(),
        choices: vec![Choice {
            group: "asg-17".into(),
            nodes: 1,
            pods: Vec::new(),
        }],
        samples: BTreeMap::from([("asg-17".into(), sample)]),
    };
    offered.send(offer).await.unwrap();
    let pools = cluster.pool_plans();
    eventually("the pool's plan has the pod's image", || async {
        let plan = pools.get_opt("offered").await.unwrap()?;
        let mut entries = plan.spec.entries.iter();
        let web = entries.any(|entry| entry.image.to_string() == "docker.io/library/nginx:1.27");
        web.then_some(())
    })
    .await;
    replica.stop().await;
}
