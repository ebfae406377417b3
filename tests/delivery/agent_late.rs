//! A plan that changes while a registry is asked what a tag means.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use forelay::domain::image::{Digest, ImageRef};
use forelay::domain::plan::{Priority, Target};
use forelay::domain::quantity::ByteSize;
use forelay::port::{BlobWriter, ContainerRuntime, ResolveError, RuntimeError, Tags, Whole};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::cache::NAME;
use crate::node::{Cluster, NODE, entry, listed, options, start, until};
use crate::upstream::Upstream;

/// Answers when it is let.
struct Slow {
    inner: Arc<dyn Tags>,
    asked: watch::Sender<bool>,
    answers: watch::Receiver<bool>,
}

impl Tags for Slow {
    fn meaning<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        async {
            self.asked.send_replace(true);
            let mut answers = self.answers.clone();
            answers.wait_for(|answer| *answer).await.unwrap();
            self.inner.meaning(image).await
        }
        .boxed()
    }
}

/// Notes what is recorded and withdrawn.
struct Noting {
    inner: Arc<dyn ContainerRuntime>,
    notes: Arc<Mutex<Vec<&'static str>>>,
}

impl Noting {
    fn note(&self, what: &'static str) {
        self.notes.lock().unwrap().push(what);
    }
}

impl ContainerRuntime for Noting {
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<Digest>, RuntimeError>> {
        self.inner.inventory()
    }

    fn read<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RuntimeError>> {
        self.inner.read(digest)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        size: Option<ByteSize>,
    ) -> BoxFuture<'a, Result<Box<dyn BlobWriter>, RuntimeError>> {
        self.inner.open(digest, size)
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async {
            let recorded = self.inner.record(whole).await;
            self.note("recorded");
            recorded
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async {
            let withdrawn = self.inner.withdraw(digest).await;
            self.note("withdrawn");
            withdrawn
        }
        .boxed()
    }

    fn release<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.inner.release(digest)
    }
}

#[tokio::test]
async fn a_record_that_comes_after_its_plan_has_gone_is_taken_back() {
    let (origin, cluster) = (Upstream::start(), Cluster::start().await);
    let folder = tempfile::tempdir().unwrap();
    let web: ImageRef = format!("{NAME}/team/web:1").parse().unwrap();
    let pushed = origin.push(&web, &[(1, 1000)]).await;
    let node = Target::Node(NODE.into());
    let url = format!("http://{}", origin.address);
    let mut options = options(folder.path(), &[], Some(url));
    let (asked, mut was_asked) = watch::channel(false);
    let (answer, answers) = watch::channel(false);
    let slow = Slow {
        inner: options.tags.take().unwrap(),
        asked,
        answers,
    };
    options.tags = Some(Arc::new(slow));
    options.limits.linger = std::time::Duration::from_hours(1);
    let notes: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    options.runtime = Arc::new(Noting {
        inner: options.runtime.clone(),
        notes: notes.clone(),
    });
    let noted = |what| notes.lock().unwrap().iter().filter(|n| **n == what).count();
    cluster.publish(
        node.clone(),
        vec![entry(&web, &pushed, Priority::Predicted)],
    );
    let agent = start(&cluster.url, options);
    was_asked.wait_for(|asked| *asked).await.unwrap();
    cluster.publish(node, Vec::new());
    // There is nothing to withdraw yet.
    until("the plan's end is heard", async || noted("withdrawn") == 1).await;
    answer.send_replace(true);
    until("its record is taken back", async || noted("withdrawn") == 2).await;
    assert_eq!(noted("recorded"), 1);
    assert!(listed(folder.path()).is_empty());
    agent.stop().await;
}
