//! An agent and its mirror: what a pull finds out, the agent acts on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forelay::agent::mirror::{self, Book, Mirror};
use forelay::domain::image::ImageRef;
use forelay::domain::plan::{Priority, Target};
use forelay::registry::{Options as ClientOptions, Registry};
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use tokio_util::sync::CancellationToken;

use crate::cache::NAME;
use crate::node::{Cluster, NODE, entry, listed, options, start, until};
use crate::upstream::{Upstream, client};

#[tokio::test]
async fn a_pull_that_finds_a_tag_moved_has_its_record_taken_back_at_once() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path();
    let web: ImageRef = format!("{NAME}/team/web:1").parse().unwrap();
    let pushed = origin.push(&web, &[(1, 1000)]).await;
    let url = format!("http://{}", origin.address);
    let mut options = options(layout, &[], Some(url.clone()));
    // It would not be asked again within this test.
    options.recheck = Duration::from_hours(1);
    let book = Book::new(Duration::from_mins(1), Arc::new(SystemClock));
    options.book = Some(book.clone());
    let origins = Registry::new(ClientOptions {
        origins: BTreeMap::from([(NAME.to_owned(), url)]),
        system_proxy: false,
        ..ClientOptions::default()
    });
    let mirror = mirror::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        book,
        runtime: options.runtime.clone(),
        source: options.source.clone(),
        origins: Arc::new(origins.unwrap()),
        clock: Arc::new(SystemClock),
    };
    let mirror = Mirror::new(mirror, &mut Metrics::new("mirror"));
    let mirror = mirror.bind().await.unwrap();
    let address = mirror.address().unwrap();
    let end = CancellationToken::new();
    let mirroring = tokio::spawn(mirror.serve(Vec::new(), end.clone()));
    let planned = vec![entry(&web, &pushed, Priority::Predicted)];
    cluster.publish(Target::Node(NODE.into()), planned);
    let agent = start(&cluster.url, options);
    until("it is listed", async || listed(layout).len() == 1).await;

    let ask = format!("http://{address}/v2/team/web/manifests/1?ns={NAME}");
    let asked = client().get(&ask).send().await.unwrap();
    assert_eq!(asked.bytes().await.unwrap(), pushed.bytes);
    origin.push(&web, &[(2, 1000)]).await;
    assert_eq!(listed(layout).len(), 1, "nobody has found out");
    assert_eq!(client().get(&ask).send().await.unwrap().status(), 404);
    until("it is listed no more", async || listed(layout).is_empty()).await;
    agent.stop().await;
    end.cancel();
    mirroring.await.unwrap();
}
