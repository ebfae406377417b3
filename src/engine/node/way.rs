//! Transfers of a weaker class give way where those of a stronger one fill the link.
//!
//! A free slot is no free link: on the scenario pack guesses that ran beside what pods waited for cost
//! 216 of 9,792 seconds of wait.

use std::collections::BTreeMap;

use crate::domain::image::Digest;
use crate::domain::plan::Priority;
use crate::domain::time::Timestamp;
use crate::engine::node::demand::{Demand, Wanted};
use crate::engine::node::{Effect, NodeEngine};
use crate::engine::trouble::Verdict;

impl NodeEngine {
    /// Whether somebody else has the machine: a pod's own pull, or want of memory or disk time.
    pub(super) fn is_guest(&self) -> bool {
        self.pressed || !self.foreground.is_empty()
    }

    /// While a pod's own pull runs nothing runs beside it that no pod waits for, and the kubelet's copy
    /// of a blob is the only one: "speculative bytes yield to a pod's own pull, always" (design, section 6).
    pub(super) fn yield_to_kubelet(&mut self, demand: &Demand, effects: &mut Vec<Effect>) {
        if !self.is_guest() {
            return;
        }
        for blob in &demand.wanted {
            let stops =
                blob.priority != Priority::Pending || self.foreground.contains(&blob.digest);
            if stops && self.transfers.remove(&blob.digest).is_some() {
                effects.push(Effect::Cancel(blob.digest.clone()));
            }
        }
    }

    /// Transfers stop for blobs of a stronger class that fill the link without them: what has come of
    /// them stays for later.
    pub(super) fn give_way(&mut self, demand: &Demand, now: Timestamp, effects: &mut Vec<Effect>) {
        let can = |blob: &&Wanted| {
            !self.foreground.contains(&blob.digest)
                && (self.transfers.contains_key(&blob.digest)
                    || self.troubles.verdict(&blob.digest, now) == Verdict::Free)
        };
        let Some(strongest) = demand.wanted.iter().filter(can).map(|b| b.priority).min() else {
            return;
        };
        // Beside a pod's own pull only what a pod waits for begins: nobody gives way to what may not.
        if strongest != Priority::Pending && self.is_guest() {
            return;
        }
        let strong = demand.wanted.iter().filter(can);
        let strong = strong.filter(|blob| blob.priority == strongest).count();
        if strong < self.lanes.needed() {
            return;
        }
        let weaker = demand.wanted.iter().filter(|b| b.priority > strongest);
        for blob in weaker {
            if self.transfers.remove(&blob.digest).is_some() {
                effects.push(Effect::Cancel(blob.digest.clone()));
            }
        }
    }

    /// Whether the transfers of stronger classes than this one fill the link.
    pub(super) fn is_full_with(
        &self,
        class: &BTreeMap<&Digest, Priority>,
        weaker: Priority,
    ) -> bool {
        let stronger = self.transfers.keys();
        let stronger = stronger.filter(|digest| class.get(digest) < Some(&weaker));
        stronger.count() >= self.lanes.needed()
    }
}
