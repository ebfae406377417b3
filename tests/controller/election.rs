//! Leadership, writes and state against an API server, without an engine.

use std::sync::Arc;
use std::time::Duration;

use forelay::controller::lease::{Elector, FollowedLease, LeaseOptions, Seat};
use forelay::controller::publish::{PublishError, Publisher};
use forelay::controller::roster::Member;
use forelay::controller::state::{StateStore, StoreError};
use forelay::domain::image::{Digest, Platform};
use forelay::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use forelay::domain::quantity::ByteSize;
use forelay::domain::time::Timestamp;
use forelay::port::Clock;
use forelay::telemetry::clock::SystemClock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster::{NAMESPACE, PATIENCE, TestCluster};
use crate::gate::Gate;
use crate::replica::{LEASE, LEASE_NAME, STATE_NAME};

struct Candidate {
    seat: Seat,
    leave: CancellationToken,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(client: &Client, identity: &str) -> Self {
        Self::following(client, identity, None)
    }

    fn following(client: &Client, identity: &str, follow: Option<FollowedLease>) -> Self {
        let options = LeaseOptions {
            namespace: NAMESPACE.into(),
            name: LEASE_NAME.into(),
            identity: identity.into(),
            duration: LEASE,
            follow,
        };
        let (elector, seat) = Elector::new(client.clone(), Arc::new(SystemClock), options);
        let leave = CancellationToken::new();
        let task = tokio::spawn(elector.run(leave.clone()));
        Self { seat, leave, task }
    }

    async fn elected(&mut self) -> u64 {
        timeout(PATIENCE, async {
            loop {
                if let Some(epoch) = self.seat.epoch_now() {
                    return epoch;
                }
                self.seat.changed().await;
            }
        })
        .await
        .expect("elected")
    }

    async fn leave(self) {
        self.leave.cancel();
        timeout(PATIENCE, self.task).await.expect("leaves").unwrap();
    }

    async fn kill(self) -> Seat {
        self.task.abort();
        drop(self.task.await);
        self.seat
    }
}

fn plan(target: Target, images: &[&str]) -> Plan {
    let now = SystemClock.now();
    let entry = |image: &&str| PlanEntry {
        image: image.parse().unwrap(),
        digest: Digest::from_sha256(&[7; 32]),
        platform: Platform::linux("amd64"),
        priority: Priority::Pending,
        reason: Reason::PendingPod("shop/web-1".into()),
        probability: 0.5,
        bytes: ByteSize(1),
        deadline: Some(now),
        expires: now + Duration::from_mins(10),
    };
    Plan {
        entries: images.iter().map(entry).collect(),
        left_out: [("budget".to_owned(), 2)].into(),
        ..Plan::empty(target, 0, now)
    }
}

/// A successor of a killed leader leads with a greater epoch, never before the claim has ended.
pub async fn succession(cluster: &TestCluster) {
    let mut first = Candidate::start(&cluster.client, "first");
    let epoch = first.elected().await;
    let mut second = Candidate::start(&cluster.client, "second");
    while second.seat.claim().holder.as_deref() != Some("first") {
        timeout(PATIENCE, second.seat.changed())
            .await
            .expect("sees the leader");
    }
    let killed = Instant::now();
    let old = first.kill().await;
    let next = second.elected().await;
    assert!(next > epoch);
    assert_eq!(old.epoch_now(), None, "two leaders at once");
    // Not a measure of speed: a successor that did not wait at all would be here at once.
    assert!(killed.elapsed() > LEASE / 10);
    second.leave().await;
}

/// A leader that cannot be heard has stopped by itself before another one begins.
pub async fn silence(cluster: &TestCluster) {
    let gate = Gate::before_cluster(cluster).await;
    let mut first = Candidate::start(&gate.client(cluster), "first");
    let epoch = first.elected().await;
    let mut second = Candidate::start(&cluster.client, "second");
    while second.seat.claim().epoch != epoch {
        let seen = timeout(PATIENCE, second.seat.changed()).await;
        seen.expect("sees the leader");
    }
    gate.hold();
    assert!(second.elected().await > epoch);
    assert_eq!(first.seat.epoch_now(), None, "two leaders at once");
    gate.release();
    first.kill().await;
    second.leave().await;
}

/// A leader that leaves is succeeded at once, and a leader that is told to step down does.
pub async fn release(cluster: &TestCluster) {
    let mut first = Candidate::start(&cluster.client, "first");
    let epoch = first.elected().await;
    first.leave().await;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let spec = leases.get(LEASE_NAME).await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity, None);
    assert_eq!(spec.lease_transitions, i32::try_from(epoch).ok());

    let mut second = Candidate::start(&cluster.client, "second");
    let before = second.elected().await;
    second.seat.raise_floor(before + 10);
    second.seat.step_down();
    while second.seat.claim().epoch <= before + 10 {
        timeout(PATIENCE, second.seat.changed())
            .await
            .expect("begins anew");
    }
    assert_eq!(second.elected().await, before + 11);
    second.leave().await;
}

/// A Lease that somebody deletes does not bring old epochs back.
pub async fn deleted_lease(cluster: &TestCluster) {
    let mut first = Candidate::start(&cluster.client, "first");
    let epoch = first.elected().await;
    let mut second = Candidate::start(&cluster.client, "second");
    while second.seat.claim().epoch != epoch {
        timeout(PATIENCE, second.seat.changed())
            .await
            .expect("sees the epoch");
    }
    first.kill().await;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let params = DeleteParams::default();
    leases.delete(LEASE_NAME, &params).await.unwrap();
    assert!(second.elected().await > epoch);
    second.leave().await;
}

/// An autoscaler's Lease: held by `holder`, and good for an hour without renewal.
async fn held(cluster: &TestCluster, holder: &str) -> FollowedLease {
    let followed = FollowedLease {
        namespace: NAMESPACE.into(),
        name: "cluster-autoscaler".into(),
    };
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(followed.name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(3600),
            ..LeaseSpec::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.unwrap();
    followed
}

async fn hold(cluster: &TestCluster, followed: &FollowedLease, holder: &str) {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let patch = json!({"spec": {"holderIdentity": holder}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    leases.patch(&followed.name, &params, &patch).await.unwrap();
}

/// Whoever the followed Lease names gets its turn, without two leaders at once; who is not there costs a pause.
pub async fn following(cluster: &TestCluster) {
    let followed = held(cluster, "second").await;
    let start = |identity| Candidate::following(&cluster.client, identity, Some(followed.clone()));
    // Nobody else is there: it leads, although another one is preferred.
    let mut first = start("first");
    let epoch = first.elected().await;
    let mut second = start("second");
    let next = second.elected().await;
    assert!(next > epoch);
    assert_eq!(first.seat.epoch_now(), None, "two leaders at once");

    hold(cluster, &followed, "first").await;
    let back = timeout(PATIENCE, async {
        while first.seat.epoch_now().is_none_or(|epoch| epoch <= next) {
            first.seat.changed().await;
        }
        first.seat.epoch_now()
    });
    assert!(back.await.expect("elected again") > Some(next));
    assert_eq!(second.seat.epoch_now(), None, "two leaders at once");
    // The wish is fulfilled, so it is gone.
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let lease = leases.get(LEASE_NAME).await.unwrap();
    assert_eq!(lease.metadata.annotations.unwrap_or_default(), [].into());

    // An autoscaler without one of ours beside it: whoever is there leads, after it was waited for.
    hold(cluster, &followed, "nobody").await;
    let left = Instant::now();
    first.leave().await;
    second.elected().await;
    assert!(
        left.elapsed() > LEASE,
        "the preferred one was not waited for"
    );
    second.leave().await;
    let params = DeleteParams::default();
    leases.delete(&followed.name, &params).await.unwrap();
}

/// A plan is written with its owner, revised, and removed; who does not lead writes nothing.
pub async fn publishing(cluster: &TestCluster) {
    let mut leader = Candidate::start(&cluster.client, "leader");
    let epoch = leader.elected().await;
    let publisher = Publisher::new(cluster.client.clone(), leader.seat.clone());
    let node = cluster.node_joins("publish-1", "general").await;
    let owner = Member {
        uid: node.metadata.uid.clone().unwrap(),
        pool: "general".into(),
    };
    let target = Target::Node("publish-1".into());
    let first = plan(target.clone(), &["nginx", "redis"]);
    publisher.apply(&first, Some(&owner)).await.unwrap();
    let second = plan(target.clone(), &["redis"]);
    publisher.apply(&second, Some(&owner)).await.unwrap();

    let written = cluster.node_plans().get("publish-1").await.unwrap();
    let owners = written.metadata.owner_references.clone().unwrap();
    assert_eq!((owners.len(), &owners[0].uid), (1, &owner.uid));
    let back = Plan::try_from(&written.spec).unwrap();
    assert_eq!(back, Plan { epoch, ..second });

    let odd = Target::Pool("Odd/Pool".into());
    publisher
        .apply(&plan(odd.clone(), &["nginx"]), None)
        .await
        .unwrap();
    let found = publisher.list().await.unwrap();
    assert!(found.iter().any(|f| f.target == odd && f.epoch == epoch));
    for target in [&target, &odd] {
        publisher.remove(target, SystemClock.now()).await.unwrap();
    }
    assert_eq!(publisher.list().await.unwrap(), []);

    let seat = leader.seat.clone();
    leader.leave().await;
    let late = Publisher::new(cluster.client.clone(), seat);
    let refused = late.apply(&first, Some(&owner)).await;
    assert_eq!(refused, Err(PublishError::NotLeading));
}

/// The API server refuses an older epoch, and takes every bound that the definitions state.
pub async fn fencing(cluster: &TestCluster) {
    let mut old = Candidate::start(&cluster.client, "old");
    let epoch = old.elected().await;
    let publisher = Publisher::new(cluster.client.clone(), old.seat.clone());
    let target = Target::Pool("general".into());
    publisher
        .apply(&plan(target.clone(), &["nginx"]), None)
        .await
        .unwrap();

    // Somebody has written with a greater epoch.
    let plans = cluster.pool_plans();
    let mut newer = plans.get("general").await.unwrap();
    newer.spec.epoch = epoch + 5;
    plans
        .replace("general", &kube::api::PostParams::default(), &newer)
        .await
        .unwrap();

    let refused = publisher
        .apply(&plan(target.clone(), &["redis"]), None)
        .await;
    assert!(
        matches!(refused, Err(PublishError::Outdated(_))),
        "{refused:?}"
    );
    let refused = publisher.remove(&target, SystemClock.now()).await;
    assert!(
        matches!(refused, Err(PublishError::Outdated(_))),
        "{refused:?}"
    );
    let kept = plans.get("general").await.unwrap();
    assert_eq!(kept.spec, newer.spec);

    let mut long = plan(Target::Pool("long".into()), &["nginx"]);
    let one = PlanEntry {
        reason: Reason::History("x".repeat(2_000).into()),
        expires: Timestamp::MAX,
        ..long.entries.remove(0)
    };
    long.entries = vec![one; 300];
    publisher.apply(&long, None).await.unwrap();
    let written = plans.get("long").await.unwrap();
    assert_eq!(written.spec.entries.len(), 256);
    assert_eq!(written.spec.left_out["object-size"], 44);
    old.leave().await;
}

/// State is loaded as it was saved, and an older leader cannot overwrite a newer one's.
pub async fn state(cluster: &TestCluster) {
    let mut first = Candidate::start(&cluster.client, "first");
    let epoch = first.elected().await;
    let store =
        |seat: &Seat| StateStore::new(cluster.client.clone(), NAMESPACE, STATE_NAME, seat.clone());
    let old = store(&first.seat);
    assert_eq!(old.load().await.unwrap(), None);
    let now = SystemClock.now();
    old.save("one".into(), now).await.unwrap();
    old.save("two".into(), now).await.unwrap();
    let loaded = old.load().await.unwrap().unwrap();
    assert_eq!((loaded.text.as_str(), loaded.saved), ("two", now));
    let large = old.save("x".repeat(600_000), now).await;
    assert_eq!(large, Err(StoreError::Large(600_000)));

    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(cluster.client.clone(), NAMESPACE);
    let mut map = maps.get(STATE_NAME).await.unwrap();
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert("forelay.dev/epoch".into(), (epoch + 1).to_string());
    maps.replace(STATE_NAME, &kube::api::PostParams::default(), &map)
        .await
        .unwrap();
    let refused = old.save("three".into(), now).await;
    assert_eq!(refused, Err(StoreError::Outdated(epoch + 1)));
    first.leave().await;
    assert_eq!(
        old.save("four".into(), now).await,
        Err(StoreError::NotLeading)
    );
}
