//! What is recorded and foreseen is kept from the kubelet's collector until the plan's own expiry.

use std::collections::BTreeMap;

use crate::agent::work::{Done, Work};
use crate::domain::image::Digest;
use crate::domain::time::Timestamp;
use crate::engine::node::{EntryProgress, Phase};
use crate::port::PIN_LONGEST;

/// The end of a pin is moved when that adds so much of what would be left: plans are renewed every few
/// minutes, and each move is a write to the daemon's database.
const WORTH: f64 = 0.25;

impl Work {
    /// Pins images that are there, each as long as the longest of its entries lives.
    pub(super) fn pin(&mut self, progress: &[EntryProgress], now: Timestamp) {
        let plans = [&self.plans.0, &self.plans.1].into_iter().flatten();
        let mut ends: BTreeMap<&Digest, Timestamp> = BTreeMap::new();
        for entry in plans.flat_map(|plan| &plan.entries) {
            let end = ends.entry(&entry.digest).or_insert(entry.expires);
            *end = entry.expires.max(*end);
        }
        let recorded = progress.iter().filter(|e| e.phase == Phase::Recorded);
        let due: BTreeMap<Digest, Timestamp> = recorded
            .filter_map(|entry| {
                let until = (*ends.get(&entry.digest)?).min(now + PIN_LONGEST);
                let told = self.pinned.get(&entry.digest).copied().unwrap_or(now);
                let more = until.secs_since(told) > WORTH * until.secs_since(now);
                (until > now && more).then(|| (entry.digest.clone(), until))
            })
            .collect();
        for (digest, until) in due {
            self.pinned.insert(digest.clone(), until);
            let runtime = self.runtime.clone();
            self.spawn(async move {
                let pinned = runtime.pin(&digest, until).await;
                Done::Pinned(digest, pinned)
            });
        }
    }
}
