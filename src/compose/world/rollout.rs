//! Rollouts: a template changes, old pods make room for new ones.

use crate::compose::cast::WorkId;
use crate::compose::world::World;
use crate::compose::world::state::PodId;

impl World<'_> {
    /// The template that is due now becomes the current one.
    pub(super) fn new_template(&mut self, work: WorkId) {
        let classes = &self.cast.works[work].classes;
        let due = classes
            .iter()
            .rposition(|(at, _)| *at <= self.now)
            .unwrap_or(0);
        self.works[work].template = due;
        self.works[work].since = self.now;
        self.soon(work);
        self.say_applied(work);
    }

    /// One step of a rolling update, as the Deployment controller takes it (`rolling.go`): new pods up
    /// to `maxSurge` above the wish; old ones go, those that are not ready first, as long as no more
    /// than `maxUnavailable` are missing.
    pub(super) fn roll(&mut self, work: WorkId, mut new: Vec<PodId>, old: Vec<PodId>) {
        let spec = &self.cast.works[work].spec;
        let wanted = self.works[work].replicas as usize;
        let surge = spec.surge.up(wanted as u32) as usize;
        let mut unavailable = spec.unavailable.down(wanted as u32) as usize;
        if surge == 0 && unavailable == 0 {
            unavailable = 1; // both rounded to nothing: Kubernetes takes one
        }
        let total = new.len() + old.len();
        let more = (wanted + surge)
            .saturating_sub(total)
            .min(wanted.saturating_sub(new.len()));
        if more > 0 {
            self.resize(work, &new, new.len() + more);
            let class = self.class_of(work);
            let pods = self.works[work].pods.iter().copied();
            new = pods.filter(|pod| self.pods[*pod].class == class).collect();
        } else if new.len() > wanted {
            self.resize(work, &new, wanted);
        }
        let ready = |pods: &[PodId]| {
            pods.iter()
                .filter(|pod| self.pods[**pod].ready.is_some())
                .count()
        };
        let least = wanted.saturating_sub(unavailable);
        let total = new.len() + old.len();
        let may_go = total.saturating_sub(least + (new.len() - ready(&new)));
        let idle: Vec<PodId> = old
            .iter()
            .copied()
            .filter(|pod| self.pods[*pod].ready.is_none())
            .take(may_go)
            .collect();
        let rest: Vec<PodId> = old
            .iter()
            .copied()
            .filter(|pod| !idle.contains(pod))
            .collect();
        let spare = (ready(&new) + ready(&old)).saturating_sub(least);
        let spare = spare.min(may_go - idle.len());
        let goes = self.victims(&rest, spare);
        for pod in idle.into_iter().chain(goes) {
            self.delete_pod(pod);
        }
    }
}
