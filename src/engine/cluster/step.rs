//! One step: what was marked is planned anew, and what differs becomes an effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::image::ImageRef;
use crate::domain::node::NodeShape;
use crate::domain::plan::Target;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::combine::Clue;
use crate::forecast::demand::Template;
use crate::plan::policy::Mode;
use crate::plan::select::{Brief, Selection, budget, select};

use super::clues::Clues;
use super::decide::{Decided, Of};
use super::demand::{View, is_wide};
use super::nodes::Node;
use super::pods::Phase;
use super::pools::Pool;
use super::roster::PodId;
use super::sites::SiteId;
use super::{Cluster, Effect, FEW_NODES, Reach, Wake};

/// Pause per target between two looks at all of a pool's targets: a plan takes some 20 microseconds, so
/// all of them a thousandth of a core. Two coming nodes are planned for within 60 ms of a new pod.
const PLAN_PAUSE: Duration = Duration::from_millis(20);

/// The same for however many targets: a tenth of the seconds in which a node boots at best.
const PLAN_PAUSE_MAX: Duration = Duration::from_secs(2);

/// References that nobody could resolve and that targets wait for, at most.
const UNRESOLVED_MAX: usize = 10_000;

/// The quantile of the arrival times at which a transfer should be done: early rather than late.
pub const EARLY: f64 = 0.1;

/// Pools as one step sees them. Only on a node that is not Ready does anything land; the others know it
/// all from less.
#[derive(Default)]
struct Seen {
    views: BTreeMap<Arc<str>, View>,
    fresh_outlines: BTreeMap<Arc<str>, View>,
    outlines: BTreeMap<Arc<str>, View>,
}

impl Cluster {
    /// Forecasts and plans for everything that changed; effects in a fixed order: retractions,
    /// pools by name, nodes by name, references by name.
    pub fn step(&mut self, now: Timestamp) -> Vec<Effect> {
        self.fire_timers(now);
        self.images.sweep(now, &self.model.times);
        if self.model.uses.scalers {
            self.look_ahead(now);
        }
        self.renew_demand(now);
        self.note_awaited(now);
        let mut effects = self.retractions();
        let pools = self.due_pools(now);
        let mut nodes = std::mem::take(&mut self.marks.nodes);
        for (name, reach) in &pools {
            let pool = self.pools.get(name);
            let concerned = pool.into_iter().flat_map(|pool| match reach {
                Reach::Coming => &pool.booting,
                Reach::Fresh => &pool.fresh,
            });
            nodes.extend(concerned.filter_map(|name| self.nodes.id(name)));
        }
        let mut seen = Seen::default();
        for name in pools.into_keys() {
            self.remember(&name, now);
            let view = self.view(&name, self.groups.list(), now);
            self.plan_pool(&name, &view, now, &mut effects);
            seen.views.insert(name, view);
        }
        let name = |id: SiteId| (Arc::clone(&self.nodes[id].name), id);
        let mut nodes: Vec<(Arc<str>, SiteId)> = nodes.into_iter().map(name).collect();
        nodes.sort_unstable();
        for (_, id) in nodes {
            self.plan_node(id, &mut seen, now, &mut effects);
        }
        self.owners.forget_idle();
        self.nodes.forget_idle();
        let references = self.images.ask(now, &self.model.resolve, &self.policy);
        let asked: BTreeSet<ImageRef> = references.into_iter().collect();
        effects.extend(asked.into_iter().map(Effect::Resolve));
        effects
    }

    fn plan_node(&mut self, id: SiteId, seen: &mut Seen, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(node) = &self.nodes[id].node else {
            return;
        };
        let name = Arc::clone(&node.name);
        let pool = Arc::clone(&node.pool);
        let planned = self.plans.contains_key(&Target::Node(name.to_string()));
        if node.resident && !planned {
            return;
        }
        let coming = node.ready.is_none();
        self.settle(id, now);
        let fresh = self.is_fresh(&name);
        if fresh {
            self.remember(&pool, now);
        }
        let views = match (coming, fresh) {
            (true, _) => &mut seen.views,
            (false, true) => &mut seen.fresh_outlines,
            (false, false) => &mut seen.outlines,
        };
        let view = views.entry(Arc::clone(&pool)).or_insert_with(|| {
            if coming {
                self.view(&pool, self.groups.list(), now)
            } else {
                let mut view = self.outline(&pool, now);
                if fresh {
                    view.recalled = self.recalled(&pool, now);
                }
                view
            }
        });
        let Some(node) = &self.nodes[id].node else {
            return;
        };
        // Two of three looks end here: a pod more or less on a node that serves, and has its images.
        let serves = !(coming || fresh || planned);
        if serves && self.node_clues(node, view, now).are_of(&node.present) {
            return;
        }
        let decide = |selection: Selection<'_>| self.decide(&selection, Of::Node(node), now);
        let mut decided = self.select_for_node(node, view, now, decide);
        self.state_chances(&name, std::mem::take(&mut decided.said));
        if decided.lacks_room {
            self.look_again(&name, now);
        }
        let guesses = std::mem::take(&mut decided.guesses);
        if self.publish(decided, Wake::Node(Arc::clone(&name)), now, out) {
            self.set_out(&name, &guesses, now);
        }
    }

    fn fire_timers(&mut self, now: Timestamp) {
        let due = |timers: &BTreeSet<(Timestamp, Wake)>| {
            let first = timers.first();
            first.is_some_and(|(at, _)| *at <= now)
        };
        while due(&self.marks.timers) {
            let Some((_, wake)) = self.marks.timers.pop_first() else {
                return;
            };
            match wake {
                Wake::Groups => self.marks.timed = true,
                Wake::Corrections => self.renew_corrections(),
                Wake::Pool(name) => {
                    self.end_offer(&name, now);
                    self.mark_pool(&name, Reach::Coming);
                }
                Wake::Fresh(name) => self.mark_pool(&name, Reach::Fresh),
                Wake::Node(name) => {
                    self.age(&name, now);
                    self.marks.nodes.extend(self.nodes.id(&name));
                }
            }
        }
    }

    /// A node that is older than the window is not new any more.
    fn age(&mut self, name: &Arc<str>, now: Timestamp) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let window = self.model.times.window_s;
        if node
            .ready
            .is_some_and(|ready| now.secs_since(ready) >= window)
            && let Some(pool) = self.pools.get_mut(&node.pool)
            && pool.fresh.remove(name)
        {
            // What it replaces counts as not replaced from now on.
            self.marks.drained |= !self.leaving.is_empty();
            self.settle_rest(name, now);
        }
    }

    /// Looks again at whom a change of the demand can concern: pools that could take a pod of a
    /// group that changed, and their Ready nodes where those are few.
    fn renew_demand(&mut self, now: Timestamp) {
        let turned = self.renew_groups(now);
        if turned.is_empty() {
            return;
        }
        let concerned = |(_, pool): &(&Arc<str>, &Pool)| {
            !pool.is_vacant() && turned.values().any(|t| self.could_take(pool, &t.template))
        };
        let pools: Vec<Arc<str>> = self
            .pools
            .iter()
            .filter(concerned)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let nodes_of = |name: &Arc<str>| self.pools.get(name).into_iter().flat_map(|p| &p.nodes);
        if pools.iter().flat_map(nodes_of).take(FEW_NODES + 1).count() <= FEW_NODES {
            let nodes = pools.iter().flat_map(nodes_of);
            let nodes = nodes.filter_map(|name| self.nodes.id(name));
            self.marks.nodes.extend(nodes);
        }
        let most = turned.values().map(|one| one.most).fold(0.0, f64::max);
        for name in pools {
            // Where no node comes or is new, groups land nowhere: the pool's plan is the same.
            let Some(pool) = self.pools.get(&name).filter(|pool| pool.grows()) else {
                continue;
            };
            let reach = if is_wide(most, pool.ready()) {
                Reach::Fresh
            } else {
                Reach::Coming
            };
            self.mark_pool(&name, reach);
        }
    }

    /// Where the first node comes on its way or the last one is there, who waits is no reason, or a
    /// reason again, to touch nodes that serve: in a small pool they are all looked at.
    fn note_awaited(&mut self, now: Timestamp) {
        for name in self.marks.pools.keys() {
            let Some(pool) = self.pools.get(name) else {
                continue;
            };
            let awaited = self.is_awaited(pool, now);
            if awaited != pool.awaited && pool.nodes.len() <= FEW_NODES {
                let nodes = pool.nodes.iter().filter_map(|name| self.nodes.id(name));
                self.marks.nodes.extend(nodes);
            }
            if let Some(pool) = self.pools.get_mut(name) {
                pool.awaited = awaited;
            }
        }
    }

    /// The marked pools whose pause is over; the others wake up when theirs is. Pods of one wave come
    /// one by one, and each would otherwise plan for every node that is on its way.
    fn due_pools(&mut self, now: Timestamp) -> BTreeMap<Arc<str>, Reach> {
        let mut due = BTreeMap::new();
        for (name, reach) in std::mem::take(&mut self.marks.pools) {
            let Some(pool) = self.pools.get_mut(&name) else {
                continue;
            };
            let targets = pool.fresh.len() + pool.requests.len().max(pool.asked.len());
            let pause = (PLAN_PAUSE * targets as u32).min(PLAN_PAUSE_MAX);
            match pool.planned.map(|planned| planned + pause) {
                // A clock that was set back pauses nobody.
                Some(at) if now < at && pool.planned <= Some(now) => {
                    let wake = match reach {
                        Reach::Coming => Wake::Pool(name),
                        Reach::Fresh => Wake::Fresh(name),
                    };
                    self.marks.wake(at, wake);
                }
                _ => {
                    pool.planned = Some(now);
                    due.insert(name, reach);
                }
            }
        }
        due
    }

    /// Whether some node of the pool, whatever its size, could run the pod: what the nodes have in
    /// common, or what a request says, does not forbid it.
    fn could_take(&self, pool: &Pool, template: &Template) -> bool {
        let needs = &template.needs;
        let named = || pool.requests.iter().filter_map(|r| self.requests.get(r));
        pool.profile.attracts(needs)
            || named().any(|request| pool.profile.coming(&request.shape).attracts(needs, true))
    }

    fn retractions(&mut self) -> Vec<Effect> {
        let vacant: Vec<Target> = self
            .marks
            .pools
            .keys()
            .filter(|name| self.pools.get(*name).is_none_or(Pool::is_vacant))
            .map(|name| Target::Pool(name.to_string()))
            .collect();
        let retract = std::mem::take(&mut self.marks.retract);
        retract
            .into_iter()
            .chain(vacant)
            .filter(|target| match target {
                Target::Node(name) => !self.nodes.contains_key(name.as_str()),
                Target::Pool(_) => true,
            })
            .filter(|target| self.plans.remove(target).is_some())
            .map(Effect::Retract)
            .collect()
    }

    /// Images of pods that were bound long ago are taken as present.
    fn settle(&mut self, id: SiteId, now: Timestamp) {
        let settle_s = self.model.times.settle_s;
        let (site, pods) = (&mut self.nodes[id], &self.pods);
        let Some(node) = &mut site.node else {
            return;
        };
        let settled = |id: &PodId| match pods[*id].phase {
            Phase::Bound { at, .. } => (now.secs_since(at) >= settle_s).then_some(at),
            Phase::Waiting { .. } => None,
        };
        for pod in &site.load.unsettled {
            let Some(bound) = settled(pod) else { continue };
            for image in pods[*pod].template.images.iter() {
                node.present.seen(image, bound);
            }
        }
        site.load.unsettled.retain(|pod| settled(pod).is_none());
    }

    fn plan_pool(&mut self, name: &Arc<str>, view: &View, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        if pool.is_vacant() || name.is_empty() {
            return;
        }
        let staged = self.staged(pool, view, now);
        let of = Of::Pool(staged.map(|(_, nodes)| nodes));
        let decide = |selection: Selection<'_>| self.decide(&selection, of, now);
        let decided = self.select_for_pool((name, pool), view, now, decide);
        if let Some(pool) = self.pools.get_mut(name) {
            pool.staged = staged;
        }
        self.publish(decided, Wake::Pool(Arc::clone(name)), now, out);
    }

    /// Remembers for which images the target is to be looked at again.
    fn await_meanings(&mut self, unresolved: Vec<ImageRef>, target: &Target) {
        for image in unresolved {
            let targets = self.unresolved.entry(image).or_default();
            targets.insert(target.clone());
        }
        // Names that no registry knows pile up slowly; starting over costs one look at everything.
        if self.unresolved.len() > UNRESOLVED_MAX {
            self.unresolved.clear();
            self.mark_everything();
        }
    }

    /// True if a plan is the one in force from now on.
    fn publish(
        &mut self,
        decided: Decided,
        wake: Wake,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> bool {
        if let Some((target, unresolved)) = decided.awaits {
            self.await_meanings(unresolved, &target);
        }
        let Some(plan) = decided.plan else {
            return false;
        };
        if !plan.entries.is_empty() {
            let half = self.model.times.expiry() / 2;
            self.marks.wake(now + half, wake);
        }
        self.plans.insert(plan.target.clone(), plan.clone());
        out.push(Effect::Publish(plan));
        true
    }

    pub(super) fn is_fresh(&self, node: &Arc<str>) -> bool {
        let pool = self
            .nodes
            .get(node)
            .and_then(|node| self.pools.get(&node.pool));
        pool.is_some_and(|pool| pool.fresh.contains(node))
    }

    pub(super) fn select_for_pool<T>(
        &self,
        (name, pool): (&str, &Pool),
        view: &View,
        now: Timestamp,
        take: impl FnOnce(Selection<'_>) -> T,
    ) -> T {
        let target = Target::Pool(name.to_owned());
        let shape = pool.profile.typical();
        let brief = Brief {
            previous: self.plans.get(&target),
            target,
            pool: name,
            now,
            epoch: self.epoch,
            budget: self.budget(&shape),
            dearer: 1.0,
            at_least: self.model.chances.sure,
            deadline: self.first_due(pool, now),
            present: None,
            guesses: None,
            curves: self.curves(),
        };
        let clues = self.unless_off(name, || self.pool_clues(pool, view));
        take(self.select(&brief, &clues.by_cause(), &shape))
    }

    pub(super) fn select_for_node<T>(
        &self,
        node: &Node,
        view: &View,
        now: Timestamp,
        take: impl FnOnce(Selection<'_>) -> T,
    ) -> T {
        let target = Target::Node(node.name.to_string());
        let pool = self.pools.get(&node.pool);
        let fresh = pool.is_some_and(|pool| pool.fresh.contains(&node.name));
        let deadline = match node.ready {
            None => Some(self.boot_due(node, now)),
            Some(_) => None,
        };
        let brief = Brief {
            previous: self.plans.get(&target),
            target,
            pool: &node.pool,
            now,
            epoch: self.epoch,
            budget: self.budget(&node.shape),
            dearer: if fresh {
                1.0
            } else {
                self.model.price.resident
            },
            at_least: 0.0,
            deadline,
            present: Some(&node.present),
            guesses: Some(self.common(node, deadline, now)),
            // What is learned of new nodes says nothing of those that serve.
            curves: self.curves().filter(|_| fresh),
        };
        let clues = self.unless_off(&node.pool, || self.node_clues(node, view, now));
        take(self.select(&brief, &clues.by_cause(), &node.shape))
    }

    fn unless_off<'a>(&self, pool: &str, clues: impl FnOnce() -> Clues<'a>) -> Clues<'a> {
        if self.policy.mode(pool) == Mode::Off {
            return Clues::default();
        }
        clues()
    }

    fn select<'a>(
        &'a self,
        brief: &'a Brief<'a>,
        clues: &[&'a Clue],
        shape: &NodeShape,
    ) -> Selection<'a> {
        let os = shape.label("kubernetes.io/os").unwrap_or("linux");
        let platform = shape.architecture().map(|arch| (os, arch));
        select(&self.model, &self.policy, brief, clues, |image| {
            self.images.meaning(image, platform)
        })
    }

    fn budget(&self, shape: &NodeShape) -> ByteSize {
        let ephemeral = shape.capacity.as_ref().map(|capacity| capacity.ephemeral);
        budget(&self.model.disk, ephemeral)
    }
}
