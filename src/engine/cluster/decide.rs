//! What follows from a look at one target: a plan, or none, and what is to be remembered.

use crate::domain::image::ImageRef;
use crate::domain::plan::{Plan, Staging, Target};
use crate::domain::time::Timestamp;
use crate::plan::explain::Explanation;
use crate::plan::flights::Guess;
use crate::plan::select::Selection;

use super::Cluster;
use super::calibrated::Said;
use super::nodes::Node;

/// What a look at one target ends with.
pub(super) struct Decided {
    /// The plan that replaces the one in force.
    pub plan: Option<Plan>,
    /// Images of which nobody has said what they mean.
    pub awaits: Option<(Target, Vec<ImageRef>)>,
    /// What it says of a new node, where that is learned from.
    pub said: Vec<Said>,
    /// Guesses that the plan in force did not name.
    pub guesses: Vec<Guess>,
    /// Whether guesses are left out because others are on their way.
    pub lacks_room: bool,
}

/// Whose plan is decided on.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    /// A node's.
    Node(&'a Node),
    /// A pool's, for so many new nodes.
    Pool(Option<Staging>),
}

impl Cluster {
    /// What follows from a selection: its plan becomes the one in force if it asks for something else or
    /// has to be renewed.
    ///
    /// A new node gets a plan of its own even when it asks for nothing: until it has one, its agent
    /// follows the pool's.
    pub(super) fn decide(&self, selection: &Selection<'_>, of: Of<'_>, now: Timestamp) -> Decided {
        let target = selection.target();
        let half = self.model.times.expiry() / 2;
        let (fresh, nodes) = match of {
            Of::Node(node) => (self.is_fresh(&node.name), None),
            Of::Pool(nodes) => (false, nodes),
        };
        let stays = match self.plans.get(target) {
            None => selection.is_empty() && !fresh,
            Some(known) => {
                let same = selection.same_wishes(known) && known.epoch == self.epoch;
                let young = selection.is_empty() || now < known.made + half;
                same && young && !known.is_outgrown_by(nodes)
            }
        };
        let unresolved: Vec<ImageRef> = selection.unresolved().cloned().collect();
        let learns = fresh && self.curves().is_some();
        let said = learns.then(|| selection.statements());
        let said = said.into_iter().flatten();
        Decided {
            plan: (!stays).then(|| self.plan_of(selection, of)),
            awaits: (!unresolved.is_empty()).then(|| (target.clone(), unresolved)),
            said: said
                .map(|(image, class, p)| (image.clone(), class, p))
                .collect(),
            guesses: selection.guesses().to_vec(),
            lacks_room: selection.lacks_room(),
        }
    }

    fn plan_of(&self, selection: &Selection<'_>, of: Of<'_>) -> Plan {
        let plan = selection.plan();
        match of {
            Of::Node(node) => Plan {
                let_go: self.let_go(node, selection),
                ..plan
            },
            Of::Pool(nodes) => Plan { nodes, ..plan },
        }
    }

    /// Why each candidate is, or is not, in the plan that would be made now; none for a target that
    /// is not known.
    #[must_use]
    pub fn explain(&self, target: &Target, now: Timestamp) -> Option<Explanation> {
        let told = |selection: Selection<'_>, of: Of<'_>| {
            let plan = self.plan_of(&selection, of);
            Explanation {
                target: target.clone(),
                made: now,
                arrival: None,
                fills: selection.fills().to_vec(),
                verdicts: selection.verdicts(),
                let_go: plan.let_go,
                nodes: plan.nodes,
            }
        };
        match target {
            Target::Node(name) => {
                let node = self.nodes.get(name.as_str())?;
                let view = self.view(&node.pool, self.groups.list(), now);
                let told = |selection: Selection<'_>| told(selection, Of::Node(node));
                Some(self.select_for_node(node, &view, now, told))
            }
            Target::Pool(name) => {
                let pool = self.pools.get(name.as_str())?;
                let view = self.view(name, self.groups.list(), now);
                let nodes = self.staged(pool, &view, now).map(|(_, nodes)| nodes);
                let told = |selection: Selection<'_>| told(selection, Of::Pool(nodes));
                let told = self.select_for_pool((name, pool), &view, now, told);
                Some(Explanation {
                    arrival: Some(self.outlook(pool, now)),
                    ..told
                })
            }
        }
    }
}
