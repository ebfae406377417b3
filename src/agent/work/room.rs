//! Looks at the machine while there is work: room on the disk, pressure on memory and disk.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::agent::work::{Done, Work};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::engine::node::{EntryProgress, Input, Phase};
use crate::port::RuntimeError;

/// Between two looks: a link of 10 Gbit/s brings 2.5 GB in it, some 10 GB unpacked.
const EVERY: Duration = Duration::from_secs(2);

/// What a look found.
pub(super) struct Look {
    room: Result<Option<ByteSize>, RuntimeError>,
    pressed: bool,
}

impl Work {
    /// Looks when it is time to; answers when it will be. With nothing to bring nobody looks.
    pub(super) fn look(&mut self, progress: &[EntryProgress], now: Timestamp) -> Option<Timestamp> {
        let open = |entry: &EntryProgress| {
            matches!(
                entry.phase,
                Phase::Queued | Phase::Fetching | Phase::LeftOut | Phase::Cramped
            )
        };
        if self.looking || !progress.iter().any(open) {
            return None;
        }
        if self.look_at > now {
            return Some(self.look_at);
        }
        self.looking = true;
        let (runtime, pressed) = (self.runtime.clone(), self.pressed);
        self.spawn(async move {
            // Files of /proc: microseconds, but of a thread that may wait.
            let pressed = spawn_blocking(pressed).await.unwrap_or(false);
            let room = runtime.room().await;
            Done::Look(Look { room, pressed })
        });
        None
    }

    pub(super) fn looked(&mut self, look: Look) {
        self.looking = false;
        self.look_at = self.clock.now() + EVERY;
        self.tell(Input::Pressed(look.pressed));
        match look.room {
            Ok(Some(room)) => self.tell(Input::Room(room)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot tell how much room there is"),
        }
    }
}
