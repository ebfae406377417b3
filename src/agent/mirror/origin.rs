//! Who may have a manifest, and what a tag means: an origin's to say, each time it can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::agent::mirror::book::Book;
use crate::agent::mirror::known::Access;
use crate::domain::image::{Digest, ImageRef};
use crate::domain::time::Timestamp;
use crate::port::{Clock, ResolveError, Tags};
use crate::registry::{Registry, Said};

/// Questions at the same time: a node starts a handful of pods at once.
const QUESTIONS: usize = 16;

/// How long an origin may take: one that is well answers in a tenth of it, from another continent and with a
/// token to fetch.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a registry that did not answer is not asked again; a pull asks two or three times.
const DOWN_PAUSE: Duration = Duration::from_secs(5);

/// How long a challenge is good: it names the token server, which changes once in years.
const CHALLENGE_GOOD: Duration = Duration::from_mins(1);

/// Registries and repositories that are remembered for these pauses; beyond it the memory starts anew.
const MEMORY_MAX: usize = 256;

/// Asks origins on behalf of who asks the mirror.
pub(super) struct Doorman {
    registry: Arc<Registry>,
    book: Book,
    clock: Arc<dyn Clock>,
    questions: Semaphore,
    down: Lately<()>,
    challenges: Lately<HeaderValue>,
}

/// What the doorman says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The reference means this, and the caller may have it.
    Means(Digest),
    /// As before, from memory: the origin does not answer.
    Remembered(Digest),
    /// Show a token; where one is to be had.
    Challenge(HeaderValue),
    /// Ask somebody else; a word for the metrics.
    No(&'static str),
}

/// Things that are true for a while.
struct Lately<V> {
    good: Duration,
    known: Mutex<HashMap<String, (V, Timestamp)>>,
}

// === impl Doorman ===

impl Doorman {
    /// `registry` goes to origins only, and has no credentials.
    pub(super) fn new(registry: Arc<Registry>, book: Book, clock: Arc<dyn Clock>) -> Self {
        Self {
            registry,
            book,
            clock,
            questions: Semaphore::new(QUESTIONS),
            down: Lately::new(DOWN_PAUSE),
            challenges: Lately::new(CHALLENGE_GOOD),
        }
    }

    /// What the reference means to this caller.
    pub(super) async fn ask(
        &self,
        image: &ImageRef,
        access: Access,
        caller: Option<&HeaderValue>,
    ) -> Word {
        match (access, caller) {
            (Access::Some, None) => self.challenge(image).await,
            (Access::Some | Access::Unknown, Some(caller)) => self.ask_for(image, caller).await,
            // What everybody may read needs no token of anybody's.
            (Access::Unknown, None) | (Access::Everybody, _) => self.ask_for_nobody(image).await,
        }
    }

    async fn ask_for_nobody(&self, image: &ImageRef) -> Word {
        let remembered = |why| {
            let remembered = self.book.remembered(image);
            remembered.map_or(Word::No(why), Word::Remembered)
        };
        if self.is_down(image) {
            return remembered("away");
        }
        let Ok(turn) = self.questions.try_acquire() else {
            return remembered("busy");
        };
        let asked = timeout(PATIENCE, self.registry.meaning(image)).await;
        match asked {
            Ok(Ok(means)) => {
                self.book.said(image, &means);
                Word::Means(means)
            }
            // A repository that hides itself from the unknown answers either way.
            Ok(Err(ResolveError::Denied { .. } | ResolveError::NotFound { .. })) => {
                self.book.closed(image);
                drop(turn);
                self.challenge(image).await
            }
            Ok(Err(ResolveError::Unavailable { .. } | ResolveError::Broken { .. })) | Err(_) => {
                self.note_down(image);
                remembered("away")
            }
        }
    }

    /// The origin's own words to who shows nothing. A registry that wants a password is left to the caller:
    /// it would cross the loopback in clear.
    async fn challenge(&self, image: &ImageRef) -> Word {
        let place = format!("{}/{}", image.registry(), image.repository());
        if let Some(known) = self.challenges.get(&place, self.clock.now()) {
            return Word::Challenge(known);
        }
        match self.once(image, None).await {
            Some(Said::Means(means)) => Word::Means(means),
            Some(Said::Asks(challenge)) => {
                let Ok(challenge) = HeaderValue::try_from(challenge) else {
                    return Word::No("refused");
                };
                let now = self.clock.now();
                self.challenges.put(place, challenge.clone(), now);
                Word::Challenge(challenge)
            }
            Some(Said::Refuses) => Word::No("refused"),
            None => Word::No("away"),
        }
    }

    /// Asks with the caller's own token; nothing of it is kept, and what is refused is for the origin to say.
    async fn ask_for(&self, image: &ImageRef, caller: &HeaderValue) -> Word {
        let bytes = caller.as_bytes();
        let scheme = bytes.split(|byte| *byte == b' ').next();
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer")) {
            return Word::No("refused");
        }
        let mut caller = caller.clone();
        caller.set_sensitive(true);
        match self.once(image, Some(caller)).await {
            Some(Said::Means(means)) => Word::Means(means),
            Some(Said::Asks(_) | Said::Refuses) => Word::No("refused"),
            None => Word::No("away"),
        }
    }

    /// One HEAD; `None` where there is no answer now.
    async fn once(&self, image: &ImageRef, caller: Option<HeaderValue>) -> Option<Said> {
        if self.is_down(image) {
            return None;
        }
        let _turn = self.questions.try_acquire().ok()?;
        let asked = timeout(PATIENCE, self.registry.ask_as(image, caller)).await;
        if let Ok(Ok(said)) = asked {
            return Some(said);
        }
        self.note_down(image);
        None
    }

    fn is_down(&self, image: &ImageRef) -> bool {
        let now = self.clock.now();
        self.down.get(image.registry(), now).is_some()
    }

    fn note_down(&self, image: &ImageRef) {
        tracing::debug!(registry = image.registry(), "no answer");
        let now = self.clock.now();
        self.down.put(image.registry().to_owned(), (), now);
    }
}

// === impl Lately ===

impl<V: Clone> Lately<V> {
    fn new(good: Duration) -> Self {
        Self {
            good,
            known: Mutex::default(),
        }
    }

    fn get(&self, key: &str, now: Timestamp) -> Option<V> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, since) = known.get(key)?;
        (now.since(*since) < self.good).then(|| value.clone())
    }

    fn put(&self, key: String, value: V, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMORY_MAX {
            known.clear();
        }
        known.insert(key, (value, now));
    }
}
