//! What the engine thought of a few targets while a world was played.

use std::collections::BTreeSet;

use crate::domain::plan::{Plan, Target};
use crate::domain::time::Timestamp;
use crate::plan::explain::{Explanation, Fate};
use crate::sim::world::{Planner, World};

/// Which targets are looked at.
#[derive(Debug, Default)]
pub struct Watch {
    targets: BTreeSet<Target>,
    /// An instant at which all of them are looked at, whether or not a plan is made then.
    at: Option<Timestamp>,
    pub(super) sights: Vec<Sight>,
}

/// One look at one target.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The engine's thoughts.
    pub explanation: Explanation,
    /// Whether a plan was published with them; else it was only asked for.
    pub published: bool,
}

// === impl Watch ===

impl Watch {
    /// Looks at these whenever a plan of theirs is published, and once at an instant.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = Target>, at: Option<Timestamp>) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            at,
            sights: Vec::new(),
        }
    }

    /// Images that the target's last published plan named.
    fn named_before(&self, target: &Target) -> BTreeSet<&str> {
        let last = self.sights.iter().rev();
        let last = last.filter(|sight| sight.published);
        let verdicts = last
            .map(|sight| &sight.explanation)
            .find(|explanation| explanation.target == *target)
            .map(|explanation| &explanation.verdicts);
        let planned = verdicts.into_iter().flatten();
        planned
            .filter(|verdict| matches!(verdict.fate, Fate::Planned(_)))
            .map(|verdict| verdict.image.as_str())
            .collect()
    }
}

// === impl World: looking ===

impl World<'_> {
    /// The same world, with some targets watched.
    #[must_use]
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// A plan has just been made.
    pub(super) fn look_at(&mut self, plan: &Plan) {
        let Planner::Engine(cluster) = &self.planner else {
            return;
        };
        if !self.watch.targets.contains(&plan.target) {
            return;
        }
        let Some(mut explanation) = cluster.explain(&plan.target, self.now) else {
            return;
        };
        // The engine takes the plan just made for the one before: it answers with the threshold for
        // what stays, where an image that is new in it had to reach the whole one.
        let keep = cluster.model().price.keep.clamp(0.0, 1.0);
        let before = self.watch.named_before(&plan.target);
        for verdict in &mut explanation.verdicts {
            if matches!(verdict.fate, Fate::Planned(_)) && !before.contains(verdict.image.as_str())
            {
                let whole = |limit: f64| (keep > 0.0).then(|| limit / keep);
                verdict.threshold = verdict.threshold.and_then(whole);
            }
        }
        self.watch.sights.push(Sight {
            explanation,
            published: true,
        });
    }

    /// Nothing more happens before `next`: if the asked instant lies there, this is how it looks.
    pub(super) fn look_before(&mut self, next: Timestamp) {
        let Planner::Engine(cluster) = &self.planner else {
            return;
        };
        let Some(at) = self.watch.at.filter(|at| *at < next) else {
            return;
        };
        self.watch.at = None;
        let looks = self.watch.targets.iter();
        let looks = looks.filter_map(|target| cluster.explain(target, at));
        let sights = looks.map(|explanation| Sight {
            explanation,
            published: false,
        });
        self.watch.sights.extend(sights);
    }
}
