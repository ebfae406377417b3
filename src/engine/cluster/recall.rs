//! What a pool's history says of its next node, as clues that are made once for all looks.

use std::sync::Arc;

use crate::domain::node::NodeShape;
use crate::domain::plan::{Priority, Reason};
use crate::domain::time::Timestamp;
use crate::forecast::combine::{Cause, Clue};
use crate::forecast::demand::Template;
use crate::forecast::history::{Chance, History, Key};

use super::Cluster;
use super::owners::Owner;

/// A clue, and what its pod needs of a node, where that is known.
#[derive(Clone, Debug)]
pub struct Recalled {
    clue: Clue,
    template: Option<Arc<Template>>,
}

/// Clues of a pool's history, and of which history and which workloads they speak.
#[derive(Clone, Debug, Default)]
pub struct Recall {
    of: Option<(u64, u64)>,
    clues: Arc<[Recalled]>,
}

/// Those whose pods a node of this shape could run.
pub fn fitting<'a>(recalled: &'a [Recalled], shape: &NodeShape) -> Vec<&'a Clue> {
    let fits = recalled.iter().filter(|one| {
        let template = one.template.as_ref();
        template.is_none_or(|template| shape.admits(&template.needs, true))
    });
    fits.map(|one| &one.clue).collect()
}

impl Cluster {
    /// Makes the clues of a pool anew where its history or a workload says something else by now.
    pub(super) fn remember(&mut self, name: &Arc<str>, now: Timestamp) {
        let model = &self.model;
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let computed = pool.history.refresh(&model.history, &model.times, now);
        let of = Some((computed, self.turns_of_workloads));
        if pool.recall.of == of {
            return;
        }
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        let clues = self.recollect(&pool.history, now);
        if let Some(pool) = self.pools.get_mut(name) {
            pool.recall = Recall { of, clues };
        }
    }

    /// The clues of a pool's history; made for this look only if the kept ones are of another time.
    pub(super) fn recalled(&self, name: &str, now: Timestamp) -> Arc<[Recalled]> {
        let Some(pool) = self.pools.get(name).filter(|_| self.model.uses.history) else {
            return Arc::default();
        };
        match (pool.history.computed(now), pool.recall.of) {
            (Some(computed), Some(of)) if of == (computed, self.turns_of_workloads) => {
                Arc::clone(&pool.recall.clues)
            }
            _ => self.recollect(&pool.history, now),
        }
    }

    fn recollect(&self, history: &History, now: Timestamp) -> Arc<[Recalled]> {
        let model = &self.model;
        let chances = history.current(&model.history, &model.times, now);
        chances
            .iter()
            .filter_map(|(key, chance)| self.recollection(key, *chance))
            .collect()
    }

    fn recollection(&self, key: &Key, chance: Chance) -> Option<Recalled> {
        // Who waits is counted by the waiting pods themselves, where those are looked at.
        let chance = if self.model.uses.pods {
            chance.late.max(chance.any * self.model.history.unasked)
        } else {
            chance.any
        };
        let (images, cause, template, name) = match key {
            Key::Image(image) => {
                let cause = Cause::Image(image.clone());
                let name: Arc<str> = image.as_str().into();
                (Arc::from([image.clone()]), cause, None, name)
            }
            Key::Workload(name) => {
                let owner = self.owners.get(name)?;
                let state = owner.state.as_ref()?;
                // Scaled to nothing, or suspended: its pods come from nowhere.
                if state.idle || !makes_pods(owner, state.replicas) {
                    return None;
                }
                let cause = Cause::Workload(Arc::clone(&owner.name));
                let template = Arc::clone(&state.template);
                let images = Arc::clone(&template.images);
                (images, cause, Some(template), Arc::clone(&state.name))
            }
        };
        let clue = Clue {
            images,
            cause,
            chance,
            pods: chance,
            reason: Reason::History(name),
            priority: Priority::Predicted,
        };
        Some(Recalled { clue, template })
    }

    /// A workload began or ended to make pods, or makes others.
    pub(super) fn note_turn(&mut self) {
        self.turns_of_workloads += 1;
    }
}

fn makes_pods(owner: &Owner, replicas: u32) -> bool {
    replicas > 0
        || matches!(owner.name.kind.as_str(), "DaemonSet" | "CronJob")
        || !owner.crowd.is_empty()
}
