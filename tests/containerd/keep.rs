//! What keeps things alive in the real daemon, and what does not: leases, renewals, sweeps.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use forelay::domain::image::Digest;
use forelay::port::Clock;
use forelay::runtime::containerd::label::Labels;
use forelay::runtime::containerd::lease::Tenure;
use forelay::runtime::containerd::{Client, Collect, ContainerdError, LeaseId};
use forelay::runtime::wire::leases::CreateRequest;
use forelay::runtime::wire::leases::leases_client::LeasesClient;
use forelay::telemetry::clock::SystemClock;

use crate::daemon::Containerd;
use crate::image::Form;
use crate::place::{blob, place, record};
use crate::program::busybox;
use crate::recipe::lease;
use crate::registry::sha256;

const TERM: Duration = Duration::from_mins(3);

/// Lets the daemon collect now.
async fn collect(client: &Client) {
    let other = lease(client).await;
    assert!(client.lease_end(&other, Collect::Now).await.unwrap());
}

async fn put(client: &Client, lease: &LeaseId, text: &'static str) -> Digest {
    let bytes = Bytes::from_static(text.as_bytes());
    let digest = sha256(&bytes);
    let new = blob(digest.clone(), &bytes, Labels::new());
    client.write_blob(lease, &new, bytes).await.unwrap();
    digest
}

async fn is_there(client: &Client, digest: &Digest) -> bool {
    client.blob(digest).await.unwrap().is_some()
}

#[tokio::test]
async fn a_renewed_lease_holds_beyond_its_first_expiry_and_another_does_not() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    // Leases that were begun a while ago, and have some seconds left.
    let left = Duration::from_secs(5);
    let past = SystemClock.now() - TERM + left;
    let renewed = Tenure::begin(&client, "renewed", past, TERM).await.unwrap();
    let expired = Tenure::begin(&client, "expired", past, TERM).await.unwrap();
    let image = busybox(Form::Gzip, "one");
    place(&client, &renewed.id(), &daemon.stage(), &image).await;
    let kept = put(&client, &renewed.id(), "kept").await;
    let lost = put(&client, &expired.id(), "lost").await;

    renewed.renew(&client, SystemClock.now()).await.unwrap();
    tokio::time::sleep(left).await;
    collect(&client).await;
    assert!(is_there(&client, &kept).await && !is_there(&client, &lost).await);
    let top = image.chain_ids().pop().unwrap();
    assert!(client.snapshot(&top).await.unwrap().is_some());
    assert!(is_there(&client, &sha256(&image.index)).await);

    renewed.end(&client, Collect::Now).await.unwrap();
    assert!(!is_there(&client, &kept).await);
    assert_eq!(client.snapshot(&top).await.unwrap(), None);
    let purposes: Vec<String> = client
        .leases()
        .await
        .unwrap()
        .into_iter()
        .map(|l| l.purpose)
        .collect();
    assert_eq!(
        purposes, [""; 0],
        "the expired one went with the collection"
    );
}

#[tokio::test]
async fn what_a_call_under_way_created_under_the_old_name_is_kept_too() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let now = SystemClock.now();
    let tenure = Tenure::begin(&client, "test", now, TERM).await.unwrap();
    let old = tenure.id();
    tenure.renew(&client, now).await.unwrap();
    assert_ne!(tenure.id(), old);
    let late = put(&client, &old, "late").await;
    tenure.renew(&client, now).await.unwrap();
    tenure.renew(&client, now).await.unwrap();
    collect(&client).await;
    assert!(is_there(&client, &late).await);
    // At most two live at a time, and the first one is none of them.
    let ids: Vec<LeaseId> = client
        .leases()
        .await
        .unwrap()
        .into_iter()
        .map(|l| l.id)
        .collect();
    assert!(
        ids.len() == 2 && ids.contains(&tenure.id()) && !ids.contains(&old),
        "{ids:?}"
    );
    let error = client.held(&old).await.unwrap_err();
    assert!(matches!(error, ContainerdError::NotFound(_)), "{error}");
}

#[tokio::test]
async fn a_sweep_ends_what_a_killed_run_left_and_nothing_of_others() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    // Somebody else's, without our label.
    let request = CreateRequest {
        id: "theirs".to_owned(),
        labels: Labels::new(),
    };
    let mut service = LeasesClient::new(daemon.channel().await);
    let mut request = tonic::Request::new(request);
    let namespace = "k8s.io".parse().unwrap();
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace);
    service.create(request).await.unwrap();
    let theirs = put(&client, &LeaseId::new("theirs").unwrap(), "theirs").await;

    let crashed = lease(&client).await;
    let image = busybox(Form::Gzip, "one");
    place(&client, &crashed, &daemon.stage(), &image).await;
    // Killed between Prepare and Commit.
    client
        .prepare(&crashed, "extract-1 half", None, Labels::new())
        .await
        .unwrap();
    let recorded = busybox(Form::Zstd, "two");
    place(&client, &crashed, &daemon.stage(), &recorded).await;
    record(&client, "forelay.test/tool", "1", &recorded).await;
    let running = lease(&client).await;
    let held = put(&client, &running, "held").await;

    assert_eq!(
        client
            .sweep(std::slice::from_ref(&running), Collect::Now)
            .await
            .unwrap(),
        1
    );
    assert!(is_there(&client, &theirs).await && is_there(&client, &held).await);
    assert!(!is_there(&client, &sha256(&image.index)).await);
    assert!(
        is_there(&client, &sha256(&recorded.index)).await,
        "a record needs no lease"
    );
    let left: BTreeSet<String> = client
        .snapshots(&[])
        .await
        .unwrap()
        .into_iter()
        .map(|s| s.name)
        .collect();
    assert_eq!(left, recorded.chain_ids().into_iter().collect());
    assert_eq!(client.sweep(&[], Collect::Later).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_there_before_is_held_from_then_on() {
    let daemon = Containerd::start().await;
    let client = daemon.client().await;
    let (first, second) = (lease(&client).await, lease(&client).await);
    let image = busybox(Form::Gzip, "one");
    place(&client, &first, &daemon.stage(), &image).await;
    place(&client, &second, &daemon.stage(), &image).await;
    client.lease_end(&first, Collect::Now).await.unwrap();
    assert!(is_there(&client, &sha256(&image.config)).await);
    let chain = image.chain_ids();
    assert!(client.snapshot(&chain[0]).await.unwrap().is_some());
    client.lease_end(&second, Collect::Now).await.unwrap();
    assert!(
        !client
            .hold_snapshot(&lease(&client).await, &chain[0])
            .await
            .unwrap()
    );
}
