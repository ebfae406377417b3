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
    notes: Notes,
    asked: watch::Sender<bool>,
    answers: watch::Receiver<bool>,
}

impl Tags for Slow {
    fn meaning<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Digest, ResolveError>> {
        async {
            self.notes.note("asked");
            self.asked.send_replace(true);
            let mut answers = self.answers.clone();
            answers.wait_for(|answer| *answer).await.unwrap();
            self.inner.meaning(image).await
        }
        .boxed()
    }
}

/// What happened, in its order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl Notes {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|note| **note == what).count()
    }
}

/// Notes what is prepared, recorded and withdrawn.
struct Noting {
    inner: Arc<dyn ContainerRuntime>,
    notes: Notes,
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

    fn prepare<'a>(
        &'a self,
        image: &'a ImageRef,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async {
            let prepared = self.inner.prepare(image, digest).await;
            self.notes.note("prepared");
            prepared
        }
        .boxed()
    }

    fn record<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async {
            let recorded = self.inner.record(whole).await;
            self.notes.note("recorded");
            recorded
        }
        .boxed()
    }

    fn withdraw<'a>(
        &'a self,
        digest: &'a Digest,
        name: Option<&'a ImageRef>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let withdrawn = self.inner.withdraw(digest, name).await;
            self.notes.note("withdrawn");
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
    let notes = Notes::default();
    let slow = Slow {
        inner: options.tags.take().unwrap(),
        notes: notes.clone(),
        asked,
        answers,
    };
    options.tags = Some(Arc::new(slow));
    options.limits.linger = std::time::Duration::from_hours(1);
    options.runtime = Arc::new(Noting {
        inner: options.runtime.clone(),
        notes: notes.clone(),
    });
    cluster.publish(
        node.clone(),
        vec![entry(&web, &pushed, Priority::Predicted)],
    );
    let agent = start(&cluster.url, options);
    was_asked.wait_for(|asked| *asked).await.unwrap();
    cluster.publish(node, Vec::new());
    // There is nothing to withdraw yet.
    until("the plan's end is heard", async || {
        notes.count("withdrawn") == 1
    })
    .await;
    answer.send_replace(true);
    until("its record is taken back", async || {
        notes.count("withdrawn") == 2
    })
    .await;
    // What takes long comes first: between the registry's answer and the record there is nothing.
    let story = ["prepared", "asked", "withdrawn", "recorded", "withdrawn"];
    assert_eq!(notes.all(), story);
    assert!(listed(folder.path()).is_empty());
    agent.stop().await;
}
