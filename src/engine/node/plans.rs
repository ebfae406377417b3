//! What a changed plan means: entries that count; records and questions that are nobody's now.

use std::collections::BTreeSet;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::plan::{Plan, PlanEntry};
use crate::domain::time::Timestamp;
use crate::engine::node::merge::merged;
use crate::engine::node::{Effect, NodeEngine};

impl NodeEngine {
    pub(super) fn take_plan(
        &mut self,
        plan: Option<Plan>,
        slot: impl Fn(&mut Self) -> &mut Option<Plan>,
    ) {
        let old = std::mem::replace(slot(self), plan);
        let same = match (&old, &*slot(self)) {
            (Some(old), Some(new)) => old.same_wishes(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        // A plan that only renews its expiry is no reason to ask a registry again for what it
        // refused for good.
        if !same {
            self.troubles.forgive_given_up();
            self.refused.clear();
        }
        self.plans_changed = true;
    }

    /// When the node stops following its pool's plan; missing where it does not follow it.
    pub(super) fn newcomer_until(&self) -> Option<Timestamp> {
        let follows = self.pool_plan.is_some() && self.node_plan.is_none();
        let born = self.born.filter(|_| follows);
        born.map(|at| at + self.limits.newcomer)
    }

    /// Renews `entries` when a plan changed or an entry expired; forgets what no entry needs.
    pub(super) fn merge_plans(&mut self, now: Timestamp) -> Vec<Effect> {
        let expired = self.entries.iter().any(|entry| entry.expires <= now);
        let settled = self.newcomer_until().is_some_and(|until| until <= now);
        if !self.plans_changed && !expired && !settled {
            return Vec::new();
        }
        self.plans_changed = false;
        let old = std::mem::take(&mut self.entries);
        let pool_plan = self.pool_plan.as_ref().filter(|_| !settled);
        self.entries = merged(self.node_plan.as_ref(), pool_plan, now);
        let live: BTreeSet<&Digest> = self.entries.iter().map(|entry| &entry.digest).collect();
        self.manifests_asked.retain(|digest| live.contains(digest));
        let mut gone: BTreeSet<Digest> = old
            .iter()
            .map(|entry| entry.digest.clone())
            .filter(|digest| !live.contains(digest))
            .collect();
        for digest in &gone {
            self.lingering.entry(digest.clone()).or_insert(now);
        }
        if self.plan_told {
            // What an earlier run recorded for a plan that is no more: nobody asks what its tags mean.
            let unclaimed = std::mem::take(&mut self.unclaimed).into_iter();
            gone.extend(unclaimed.filter(|digest| !live.contains(digest)));
        }
        self.lingering.retain(|digest, _| !live.contains(digest));
        let names: BTreeSet<(&Digest, &ImageRef)> = self.entries.iter().map(name_of).collect();
        let dropped: BTreeSet<(Digest, ImageRef)> = old
            .iter()
            .map(name_of)
            .filter(|name| live.contains(name.0) && !names.contains(name))
            .map(|(digest, image)| (digest.clone(), image.clone()))
            .collect();
        for records in [
            &mut self.records_asked,
            &mut self.recorded,
            &mut self.refused,
        ] {
            records.retain(|(digest, image)| names.contains(&(digest, image)));
        }
        self.manifests.retain(|digest, _| live.contains(digest));
        let layers: BTreeSet<&Digest> = self
            .manifests
            .values()
            .flat_map(|manifest| manifest.layers.iter().map(|layer| &layer.digest))
            .collect();
        self.troubles
            .retain(|digest| live.contains(digest) || layers.contains(digest));
        let dropped = dropped
            .into_iter()
            .map(|(digest, image)| Effect::WithdrawName { image, digest });
        gone.into_iter()
            .map(Effect::Withdraw)
            .chain(dropped)
            .collect()
    }
}

fn name_of(entry: &PlanEntry) -> (&Digest, &ImageRef) {
    (&entry.digest, &entry.image)
}
