//! What references mean: asked a few at a time, later again where nobody answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::signal::{Fact, ImageResolved, Signal};
use crate::domain::time::Timestamp;
use crate::port::{ImageResolver, ResolveError};

/// References that wait, at most; what comes on top is asked for when the engine asks again.
const WAITING_MAX: usize = 10_000;
/// One question may take so long: three requests of the registry, each with its own patience.
const PATIENCE: Duration = Duration::from_mins(1);
/// First pause after no answer; doubles.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest pause, and the pause after an answer that will not soon change (no such image).
const BACK_OFF_MAX: Duration = Duration::from_mins(5);

type Answer = (ImageRef, Result<Vec<ImageManifest>, ResolveError>);

/// Questions, and who of them is being asked.
pub struct Resolving {
    resolver: Arc<dyn ImageResolver>,
    limit: usize,
    ready: VecDeque<ImageRef>,
    later: BTreeSet<(Timestamp, ImageRef)>,
    /// Everything in `ready`, `later` or `running`, with the failures so far.
    asked: BTreeMap<ImageRef, u32>,
    running: JoinSet<Answer>,
}

impl Resolving {
    /// At most `limit` questions at once.
    #[must_use]
    pub fn new(resolver: Arc<dyn ImageResolver>, limit: usize) -> Self {
        Self {
            resolver,
            limit: limit.max(1),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            asked: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Asks, unless it is being asked already.
    pub fn ask(&mut self, image: ImageRef) {
        if self.asked.len() >= WAITING_MAX || self.asked.contains_key(&image) {
            return;
        }
        self.asked.insert(image.clone(), 0);
        self.ready.push_back(image);
    }

    /// Starts what is due.
    pub fn pump(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, image)) = self.later.pop_first()
        {
            self.ready.push_back(image);
        }
        while self.running.len() < self.limit
            && let Some(image) = self.ready.pop_front()
        {
            let resolver = self.resolver.clone();
            self.running.spawn(async move {
                let answer = match timeout(PATIENCE, resolver.resolve(&image)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(ResolveError::Unavailable {
                        image: image.clone(),
                        reason: "no answer in time".into(),
                    }),
                };
                (image, answer)
            });
        }
    }

    /// The next answer; never completes while nothing is being asked.
    pub async fn answer(&mut self) -> Answer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) => warn!(%error, "a question was lost"),
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// An answer as the engine wants it; a failure is asked again later.
    pub fn conclude(&mut self, (image, answer): Answer, now: Timestamp) -> Option<Signal> {
        match answer {
            Ok(manifests) => {
                self.asked.remove(&image);
                let id = format!("{image}@{now}");
                let fact = Fact::ImageResolved(ImageResolved { image, manifests });
                Some(Signal::new("/registry", id, now, fact))
            }
            Err(error) => {
                let failures = self.asked.entry(image.clone()).or_default();
                let pause = match error {
                    ResolveError::Unavailable { .. } => {
                        BACK_OFF * 2u32.saturating_pow((*failures).min(10))
                    }
                    _ => BACK_OFF_MAX,
                };
                *failures += 1;
                debug!(%error, failures = *failures, "not resolved");
                self.later.insert((now + pause.min(BACK_OFF_MAX), image));
                None
            }
        }
    }

    /// When `pump` has something that it has not now.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    /// Answers from a list, the last answer for ever.
    struct Scripted(Mutex<Vec<Result<Vec<ImageManifest>, ()>>>);

    impl ImageResolver for Scripted {
        fn resolve<'a>(
            &'a self,
            image: &'a ImageRef,
        ) -> BoxFuture<'a, Result<Vec<ImageManifest>, ResolveError>> {
            let mut left = self.0.lock().unwrap();
            let answer = if left.len() > 1 {
                left.remove(0)
            } else {
                left[0].clone()
            };
            let answer = answer.map_err(|()| ResolveError::Unavailable {
                image: image.clone(),
                reason: "away".into(),
            });
            async { answer }.boxed()
        }
    }

    #[tokio::test]
    async fn a_registry_that_is_away_is_asked_again_later_and_each_pause_is_longer() {
        let script = vec![Err(()), Err(()), Ok(Vec::new())];
        let mut resolving = Resolving::new(Arc::new(Scripted(Mutex::new(script))), 2);
        let image: ImageRef = "nginx".parse().unwrap();
        resolving.ask(image.clone());
        resolving.ask(image.clone());
        let mut now = Timestamp::ZERO;
        let mut pauses = Vec::new();
        let signal = loop {
            resolving.pump(now);
            let answer = resolving.answer().await;
            if let Some(signal) = resolving.conclude(answer, now) {
                break signal;
            }
            let next = resolving.wake_at().unwrap();
            pauses.push(next.since(now));
            now = next;
        };
        assert_eq!(pauses, [BACK_OFF, BACK_OFF * 2]);
        assert!(matches!(signal.fact, Fact::ImageResolved(of) if of.image == image));
        assert_eq!(resolving.wake_at(), None);
        assert!(resolving.asked.is_empty());
    }
}
