//! Drives `engine::blobs`: readers ask here, fetches report here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Options;
use crate::cache::measure::Measures;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::quantity::ByteSize;
use crate::engine::blobs::{Blobs, Effect, Input, Limits, Reader};
use crate::port::Clock;
use crate::registry::Registry;
use crate::store::Store;

/// The one place that knows which blobs are here, arriving or wanted.
pub(super) struct Desk {
    state: Mutex<State>,
    pub(super) store: Store,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) measures: Measures,
    /// Places for upstream fetches.
    pub(super) slots: Semaphore,
    /// A blob that alone would fill the disk is left to its origin.
    pub(super) blob_max: ByteSize,
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
}

struct State {
    blobs: Blobs,
    readers: Reader,
    asking: HashMap<Reader, Asking>,
    /// Bytes that readers of an arriving blob may see; the sender goes when the fetch ends.
    growing: HashMap<Digest, watch::Sender<u64>>,
}

struct Asking {
    image: ImageRef,
    answer: oneshot::Sender<Answer>,
}

/// How a reader gets its blob.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is on disk.
    Whole(ByteSize),
    /// It is arriving: so many bytes are there, until the channel closes.
    Growing(ByteSize, watch::Receiver<u64>),
}

/// A reader; counts as one until dropped.
pub(super) struct Reading {
    desk: Arc<Desk>,
    digest: Digest,
    reader: Reader,
}

// === impl Desk ===

impl Desk {
    pub(super) fn open(
        store: Store,
        registry: Arc<Registry>,
        options: &Options,
        limits: Limits,
        measures: Measures,
    ) -> Arc<Self> {
        let mut found = store.entries();
        found.sort_by_key(|(_, entry)| entry.used);
        let state = State {
            blobs: Blobs::new(limits),
            readers: 0,
            asking: HashMap::new(),
            growing: HashMap::new(),
        };
        let desk = Arc::new(Self {
            state: Mutex::new(state),
            store,
            registry,
            clock: options.clock.clone(),
            measures,
            slots: Semaphore::new(options.fetches.max(1)),
            blob_max: options.quota,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        for (digest, entry) in found {
            let size = entry.size;
            desk.tell(Input::Finished { digest, size });
        }
        desk
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Size of a blob that is here or arriving.
    pub(super) fn size(&self, digest: &Digest) -> Option<ByteSize> {
        self.state().blobs.size(digest)
    }

    /// Waits until the blob can be read, if only its beginning; `None` when it cannot be had.
    pub(super) async fn want(
        self: &Arc<Self>,
        image: ImageRef,
        digest: Digest,
    ) -> Option<(Answer, Reading)> {
        let (answer, answered) = oneshot::channel();
        let reader = {
            let mut state = self.state();
            state.readers += 1;
            let reader = state.readers;
            state.asking.insert(reader, Asking { image, answer });
            reader
        };
        let reading = Reading {
            desk: self.clone(),
            digest: digest.clone(),
            reader,
        };
        self.tell(Input::Want { digest, reader });
        let answer = answered.await.ok()?;
        self.store.touch(&reading.digest, self.clock.now());
        Some((answer, reading))
    }

    /// Tells the engine and does what it says.
    pub(super) fn tell(self: &Arc<Self>, input: Input) {
        let now = self.clock.now();
        let ended = match &input {
            Input::Finished { digest, .. } | Input::Failed { digest, .. } => Some(digest.clone()),
            _ => None,
        };
        let mut state = self.state();
        for effect in state.blobs.input(input, now) {
            self.carry_out(&mut state, effect);
        }
        if let Some(digest) = ended {
            state.growing.remove(&digest);
        }
        self.measures.stored_bytes.set(state.blobs.bytes().0 as f64);
    }

    /// Ends upstream fetches; what they have stays for a resume.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, effect: Effect) {
        match effect {
            Effect::Fetch { digest, reader } => {
                let Some(asking) = state.asking.get(&reader) else {
                    return;
                };
                let image = asking.image.clone();
                self.measures.begun.inc();
                self.tasks.spawn(self.clone().fetch(image, digest));
            }
            Effect::Serve {
                digest,
                reader,
                whole,
            } => {
                let size = state.blobs.size(&digest).unwrap_or_default();
                let answer = if whole {
                    Answer::Whole(size)
                } else {
                    let growing = state.growing.entry(digest);
                    let have = growing.or_insert_with(|| watch::channel(0).0).subscribe();
                    Answer::Growing(size, have)
                };
                if let Some(asking) = state.asking.remove(&reader) {
                    // A client that went away has dropped its end.
                    let _ = asking.answer.send(answer);
                }
            }
            Effect::Advance { digest, have } => {
                if let Some(growing) = state.growing.get(&digest) {
                    growing.send_replace(have.0);
                }
            }
            Effect::Refuse { reader, .. } => {
                // Dropping the sender is the answer.
                state.asking.remove(&reader);
            }
            Effect::Evict(digest) => {
                let size = self.store.size(&digest).unwrap_or_default();
                self.measures.evicted_bytes.inc_by(size.0);
                let store = self.store.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = store.remove(&digest).await {
                        tracing::warn!(%digest, %error, "cannot evict");
                    }
                });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The engine does not panic halfway through a change: its property tests say so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// The blob.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.desk.state().asking.remove(&self.reader);
        let digest = self.digest.clone();
        let reader = self.reader;
        self.desk.tell(Input::Left { digest, reader });
    }
}
