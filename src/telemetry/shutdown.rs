//! The end of a process: asked for by a signal, waited for until a deadline.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal ended: 128 and SIGINT, as shells have it.
const SECOND_SIGNAL: i32 = 130;

/// A token that SIGTERM or SIGINT cancels; a second signal ends the process at once.
pub fn on_signals() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        for already in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if already {
                tracing::warn!(signal = name, "asked twice: ending at once");
                std::process::exit(SECOND_SIGNAL);
            }
            tracing::info!(signal = name, "ending; a second signal ends at once");
            asked.cancel();
        }
    });
    Ok(token)
}

/// Waits for named parts to end; answers with the names of those that were still at work when
/// `deadline` had passed (they are dropped).
pub async fn drain(
    deadline: Duration,
    parts: Vec<(&'static str, BoxFuture<'_, ()>)>,
) -> Vec<&'static str> {
    let mut left: Vec<&'static str> = parts.iter().map(|(name, _)| *name).collect();
    let mut parts: FuturesUnordered<_> = parts
        .into_iter()
        .enumerate()
        .map(|(index, (_, part))| async move {
            part.await;
            index
        })
        .collect();
    let names = left.clone();
    let all = async {
        while let Some(index) = parts.next().await {
            if let Some(at) = left.iter().position(|name| *name == names[index]) {
                left.remove(at);
            }
        }
    };
    if tokio::time::timeout(deadline, all).await.is_err() {
        tracing::warn!(
            ?deadline,
            ?left,
            "the deadline has passed: leaving work undone"
        );
    }
    left
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn parts_that_end_in_time_are_waited_for_and_the_others_named() {
        let nap = |millis| tokio::time::sleep(Duration::from_millis(millis)).boxed();
        let parts = vec![
            ("quick", nap(0)),
            ("stuck", futures::future::pending().boxed()),
        ];
        assert_eq!(drain(Duration::from_millis(200), parts).await, ["stuck"]);
        let parts = vec![("same", nap(1)), ("same", nap(3))];
        assert!(drain(Duration::from_mins(1), parts).await.is_empty());
    }
}
