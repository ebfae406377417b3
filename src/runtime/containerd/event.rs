//! What happens in containerd, as it happens, to images, content and snapshots of our namespace.

use std::future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use prost::Message;
use prost_types::Any;
use tokio::time::sleep;
use tonic::{Response, Status, Streaming};

use crate::runtime::containerd::client::{Client, DEADLINE, answer};
use crate::runtime::containerd::error::{ContainerdError, Failure};
use crate::runtime::wire::events::events_client::EventsClient;
use crate::runtime::wire::events::{PublishRequest, SubscribeRequest};
use crate::runtime::wire::images::{ImageCreate, ImageDelete, ImageUpdate};
use crate::runtime::wire::payloads::{
    ContentCreate, ContentDelete, NamespaceUpdate, SnapshotCommit, SnapshotPrepare, SnapshotRemove,
};
use crate::runtime::wire::types::Envelope;

/// Which topics we hear of. Older daemons tell less: writing since 2.1, what is collected since 1.7.
const TOPICS: [&str; 4] = ["^/images/", "^/content/", "^/snapshot/", LISTENING];

/// A topic of our own, by which we know that we hear.
const LISTENING: &str = "/forelay/listening";

/// How long after one such event the next one is sent: a subscription takes about a millisecond.
const AGAIN: Duration = Duration::from_millis(20);

/// Something that anybody, we too, did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record of this name was made.
    ImageCreated(String),
    /// A record's target or labels changed.
    ImageUpdated(String),
    /// A record is gone.
    ImageDeleted(String),
    /// A blob is there; since containerd 2.1.
    ContentCreated(String),
    /// A blob was deleted by a call; since 2.1, by the collector too.
    ContentDeleted(String),
    /// An active snapshot was made: CRI's unpacking calls them `extract-.. <chain ID>`.
    SnapshotPrepared {
        /// its key
        key: String,
        /// what it stands on, empty for nothing
        parent: String,
    },
    /// An active snapshot became a committed one.
    SnapshotCommitted {
        /// key it had
        key: String,
        /// name it has
        name: String,
    },
    /// A snapshot is gone.
    SnapshotRemoved(String),
}

impl Client {
    /// Events from now on: what happens after this has returned is told. Ends with an error when the daemon
    /// goes away; who asks again lists first what there is, for events in between are lost.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn events(
        &self,
    ) -> Result<BoxStream<'static, Result<Event, ContainerdError>>, ContainerdError> {
        let namespace = self.namespace();
        let filters = TOPICS.map(|topic| format!("namespace=={namespace:?},topic~={topic:?}"));
        let request = SubscribeRequest {
            filters: filters.to_vec(),
        };
        let mut service = EventsClient::new(self.channel());
        let call = service.subscribe(self.request(request, None));
        let call = self.subscribed(call);
        let stream: Streaming<Envelope> = answer("subscribe to events", DEADLINE, call).await?;
        let snapshotter = self.snapshotter().to_owned();
        let events = stream.filter_map(move |told| {
            let event = match told {
                Ok(envelope) => read(&envelope, &snapshotter).map(Ok),
                Err(status) => Some(Err(ContainerdError::of("tell events", &status))),
            };
            future::ready(event)
        });
        // A daemon that stops in good order ends the stream without an error.
        let gone = Failure::new("tell events", "the daemon ended the stream");
        let end = stream::iter([Err(ContainerdError::Unavailable(gone))]);
        Ok(events.chain(end).boxed())
    }

    /// The answer to a subscription, which Go's server holds back until the first event: we send some
    /// ourselves, so that it comes, and with it the knowledge that the subscription is there.
    async fn subscribed<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let mut call = pin!(call);
        let mut service = EventsClient::new(self.channel());
        loop {
            call = match select(call, pin!(sleep(AGAIN))).await {
                Either::Left((answer, _)) => return answer,
                Either::Right(((), call)) => call,
            };
            let payload = NamespaceUpdate {
                name: self.namespace().to_owned(),
            };
            let event = Any {
                type_url: "containerd.events.NamespaceUpdate".to_owned(),
                value: payload.encode_to_vec(),
            };
            let request = PublishRequest {
                topic: LISTENING.to_owned(),
                event: Some(event),
            };
            service.publish(self.request(request, None)).await?;
        }
    }
}

/// `None` for what is not ours to know, or cannot be read: a later version's topics.
fn read(envelope: &Envelope, snapshotter: &str) -> Option<Event> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    let ours = |theirs: &str, event: Event| {
        // Before 1.7 the name is not told.
        (theirs.is_empty() || theirs == snapshotter).then_some(event)
    };
    match envelope.topic.as_str() {
        "/images/create" => named(bytes, |e: ImageCreate| Event::ImageCreated(e.name)),
        "/images/update" => named(bytes, |e: ImageUpdate| Event::ImageUpdated(e.name)),
        "/images/delete" => named(bytes, |e: ImageDelete| Event::ImageDeleted(e.name)),
        "/content/create" => named(bytes, |e: ContentCreate| Event::ContentCreated(e.digest)),
        "/content/delete" => named(bytes, |e: ContentDelete| Event::ContentDeleted(e.digest)),
        "/snapshot/prepare" => {
            let SnapshotPrepare {
                key,
                parent,
                snapshotter,
            } = Message::decode(bytes).ok()?;
            ours(&snapshotter, Event::SnapshotPrepared { key, parent })
        }
        "/snapshot/commit" => {
            let SnapshotCommit {
                key,
                name,
                snapshotter,
            } = Message::decode(bytes).ok()?;
            ours(&snapshotter, Event::SnapshotCommitted { key, name })
        }
        "/snapshot/remove" => {
            let SnapshotRemove { key, snapshotter } = Message::decode(bytes).ok()?;
            ours(&snapshotter, Event::SnapshotRemoved(key))
        }
        _ => None,
    }
}

fn named<M: Message + Default>(bytes: &[u8], event: impl FnOnce(M) -> Event) -> Option<Event> {
    M::decode(bytes).ok().map(event)
}
