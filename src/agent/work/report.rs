//! Says how far the plan is: to whoever reads metrics, and to the node's object.

use std::collections::BTreeMap;

use crate::agent::status::Facts;
use crate::agent::work::{Done, Work};
use crate::domain::image::Digest;
use crate::domain::plan::Priority;
use crate::domain::time::Timestamp;
use crate::engine::node::{EntryProgress, Phase};

impl Work {
    pub(super) fn measure(&self, progress: &[EntryProgress]) {
        let recorded = progress.iter().filter(|e| e.phase == Phase::Recorded);
        self.measures.present_images.set(recorded.count() as f64);
        let waiting = progress.iter().filter(|e| e.phase == Phase::Queued);
        self.measures.queued_blobs.set(waiting.count() as f64);
    }

    /// Writes the status when it is time to; answers when it will be.
    pub(super) fn report(
        &mut self,
        progress: &[EntryProgress],
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.reporting || self.plans.0.is_none() {
            return None;
        }
        let priorities = self.priorities();
        let facts = Facts {
            progress,
            priorities: &priorities,
            messages: &self.messages,
            generation: self.generation,
        };
        let status = self.journal.status(&facts, now);
        let due = self.journal.due(&status, now)?;
        if due > now {
            return Some(due);
        }
        self.reporting = true;
        let reporter = self.reporter.clone();
        self.spawn(async move {
            let written = reporter.report(status.clone()).await;
            Done::Report(Box::new(status), written)
        });
        None
    }

    pub(super) fn priorities(&self) -> BTreeMap<Digest, Priority> {
        let mut strongest = BTreeMap::new();
        let plans = [&self.plans.0, &self.plans.1].into_iter().flatten();
        for entry in plans.flat_map(|plan| &plan.entries) {
            let known = strongest.entry(entry.digest.clone());
            let known = known.or_insert(entry.priority);
            *known = entry.priority.min(*known);
        }
        strongest
    }
}
