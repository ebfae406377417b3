//! Watch responses: one JSON line per event until the time is up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures::stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::request::{Params, View};
use super::shared::Shared;
use super::status::ApiError;
use super::target::Target;
use super::watch::{Cursor, WatchEvent};

/// Events per piece of the response: what a slow reader makes the server hold, besides the history.
const BATCH_MAX: usize = 256;
/// Upstream ends watches that name no timeout after 30 to 60 minutes.
const TIMEOUT_DEFAULT: Duration = Duration::from_mins(30);
/// Upstream sends a last bookmark about two seconds before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// A watch being sent.
struct Sending {
    shared: Arc<Shared>,
    cursor: Cursor,
    view: View,
    changed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    deadline: Instant,
    bookmark_at: Option<Instant>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Begins a watch.
pub(super) fn watch(
    shared: &Arc<Shared>,
    target: Target,
    params: &Params,
    view: View,
) -> Result<Response, ApiError> {
    let timeout = params
        .number("timeoutSeconds")?
        .filter(|&seconds| seconds > 0);
    let query = params.watch(&target.resource)?;
    let permit = Arc::clone(&shared.watches)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many_requests("too many watches, please try again later"))?;
    // Subscribed before the cursor is placed, so that no write falls between.
    let changed = shared.changed.subscribe();
    let cursor = shared.with(|machine, _| machine.watch(target, query))?;
    let now = Instant::now();
    let deadline = now + timeout.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
    let mut sending = Sending {
        closing: shared.closing.subscribe(),
        shared: Arc::clone(shared),
        view,
        changed,
        deadline,
        bookmark_at: None,
        ended: false,
        _permit: permit,
        cursor,
    };
    sending.bookmark_at = sending.next_bookmark(now);
    let lines = stream::unfold(sending, |mut sending| async move {
        let piece = sending.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), sending))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

impl Sending {
    fn next_bookmark(&self, now: Instant) -> Option<Instant> {
        if !self.cursor.wants_bookmarks() {
            return None;
        }
        let regular = now + self.shared.options.bookmark_interval;
        let last = self
            .deadline
            .checked_sub(LAST_BOOKMARK)
            .filter(|&last| last > now);
        Some(last.map_or(regular, |last| regular.min(last)))
    }

    /// The next piece of the response; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            self.shared.running().await;
            self.changed.borrow_and_update();
            let cursor = &mut self.cursor;
            match self
                .shared
                .with(|machine, _| machine.poll(cursor, BATCH_MAX))
            {
                Err(error) => {
                    self.ended = true;
                    let line = json!({"type": "ERROR", "object": error.body()});
                    return Some(Bytes::from(format!("{line}\n")));
                }
                Ok(events) if !events.is_empty() => return Some(self.lines(events)),
                Ok(_) => {}
            }
            if *self.closing.borrow() {
                return None;
            }
            let bookmark_at = self.bookmark_at;
            let bookmark = async {
                match bookmark_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                closing = self.closing.changed() => closing.ok()?,
                () = sleep_until(self.deadline) => return None,
                () = bookmark => {
                    self.bookmark_at = self.next_bookmark(Instant::now());
                    let event = self.cursor.bookmark_now();
                    return Some(self.lines(vec![event]));
                }
            }
        }
        None
    }

    fn lines(&self, events: Vec<WatchEvent>) -> Bytes {
        let mut text = String::new();
        for event in events {
            let line = json!({"type": event.kind, "object": self.view.object(event.object)});
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Bytes::from(text)
    }
}
