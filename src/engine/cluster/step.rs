//! One step: what was marked is planned anew, and what differs becomes an effect.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::image::{ImageRef, Platform};
use crate::domain::node::NodeShape;
use crate::domain::plan::{Plan, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Leg;
use crate::forecast::combine::Clue;
use crate::forecast::demand::{Group, Template};
use crate::plan::explain::{Explanation, Fate};
use crate::plan::policy::Mode;
use crate::plan::select::{Brief, Selection, budget, select};

use super::demand::View;
use super::nodes::Node;
use super::pods::Phase;
use super::pools::Pool;
use super::{Cluster, Effect, Wake};

/// Where at most so many nodes can take a pod, a change of the demand is looked at for every one of
/// them. Among more, one more waiting pod moves the probability of a Ready node by less than 2 %.
const FEW_NODES: usize = 64;

/// References that nobody could resolve and that targets wait for, at most.
const UNRESOLVED_MAX: usize = 10_000;

/// The quantile of the arrival times at which a transfer should be done: early rather than late.
const EARLY: f64 = 0.1;

impl Cluster {
    /// Forecasts and plans for everything that changed; effects in a fixed order: retractions,
    /// pools by name, nodes by name, references by name.
    pub fn step(&mut self, now: Timestamp) -> Vec<Effect> {
        self.fire_timers(now);
        self.images.sweep(now, &self.model.times);
        if std::mem::take(&mut self.marks.demand) {
            self.renew_demand(now);
        }
        let mut effects = self.retractions();
        let pools = std::mem::take(&mut self.marks.pools);
        let mut nodes = std::mem::take(&mut self.marks.nodes);
        for name in &pools {
            nodes.extend(
                self.pools
                    .get(name)
                    .iter()
                    .flat_map(|pool| pool.fresh.iter().cloned()),
            );
        }
        let mut views: BTreeMap<Arc<str>, View> = BTreeMap::new();
        let mut outlines: BTreeMap<Arc<str>, View> = BTreeMap::new();
        for name in pools {
            self.remember(&name, now);
            let view = self.view(&name, &self.groups, now);
            self.plan_pool(&name, &view, now, &mut effects);
            views.insert(name, view);
        }
        for name in nodes {
            self.settle(&name, now);
            let Some(pool) = self.nodes.get(&name).map(|node| Arc::clone(&node.pool)) else {
                continue;
            };
            let fresh = self.is_fresh(&name);
            if fresh {
                self.remember(&pool, now);
            }
            let seen = if fresh { &mut views } else { &mut outlines };
            let view = seen.entry(Arc::clone(&pool)).or_insert_with(|| {
                if fresh {
                    self.view(&pool, &self.groups, now)
                } else {
                    self.outline(&pool, now)
                }
            });
            let selection = self.select_for_node(&self.nodes[&name], view, now);
            self.await_meanings(&selection);
            self.publish(selection.plan, Wake::Node(name), now, &mut effects);
        }
        let references = self.images.ask(now, &self.model.resolve, &self.policy);
        let asked: BTreeSet<ImageRef> = references.into_iter().collect();
        effects.extend(asked.into_iter().map(Effect::Resolve));
        effects
    }

    /// Why each candidate is, or is not, in the plan that would be made now; none for a target that
    /// is not known.
    #[must_use]
    pub fn explain(&self, target: &Target, now: Timestamp) -> Option<Explanation> {
        let selection = match target {
            Target::Node(name) => {
                let node = self.nodes.get(name.as_str())?;
                let view = self.view(&node.pool, &self.groups, now);
                self.select_for_node(node, &view, now)
            }
            Target::Pool(name) => {
                let pool = self.pools.get(name.as_str())?;
                let view = self.view(name, &self.groups, now);
                self.select_for_pool(name, pool, &view, now)
            }
        };
        Some(Explanation {
            target: target.clone(),
            made: now,
            verdicts: selection.verdicts,
        })
    }

    fn fire_timers(&mut self, now: Timestamp) {
        while let Some(entry) = self.marks.timers.first_entry() {
            if *entry.key() > now {
                break;
            }
            for wake in entry.remove() {
                match wake {
                    Wake::Demand => self.marks.demand = true,
                    Wake::Pool(name) => {
                        self.marks.pools.insert(name);
                    }
                    Wake::Node(name) => {
                        self.age(&name, now);
                        self.marks.nodes.insert(name);
                    }
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
        {
            pool.fresh.remove(name);
        }
    }

    /// Looks again at whom a change of the demand can concern: pools that could take a pod of a
    /// group that changed, and their Ready nodes where those are few.
    fn renew_demand(&mut self, now: Timestamp) {
        let groups = self.demand(now);
        let changed = changed_templates(&groups, &self.groups);
        if changed.is_empty() {
            return;
        }
        self.groups = Arc::new(groups);
        let concerned = |(_, pool): &(&Arc<str>, &Pool)| {
            !pool.is_vacant() && changed.iter().any(|t| self.could_take(pool, t))
        };
        // Where no node comes or is new, groups land nowhere: the pool's plan is the same.
        let grows = |name: &&Arc<str>| {
            let pool = &self.pools[*name];
            !(pool.fresh.is_empty() && pool.requests.is_empty() && pool.asked.is_empty())
                || !pool.plain.is_empty()
        };
        let pools: Vec<Arc<str>> = self
            .pools
            .iter()
            .filter(concerned)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let nodes_of = |name: &Arc<str>| self.pools.get(name).into_iter().flat_map(|p| &p.nodes);
        if pools.iter().flat_map(nodes_of).take(FEW_NODES + 1).count() <= FEW_NODES {
            let nodes: Vec<Arc<str>> = pools.iter().flat_map(nodes_of).cloned().collect();
            self.marks.nodes.extend(nodes);
        }
        let growing: Vec<Arc<str>> = pools.iter().filter(grows).cloned().collect();
        self.marks.pools.extend(growing);
    }

    /// Whether some node of the pool, whatever its size, could run the pod: what the nodes have in
    /// common, or what a request says, does not forbid it.
    fn could_take(&self, pool: &Pool, template: &Template) -> bool {
        let admits = |told: &NodeShape| {
            let mut shape = pool.profile.coming(told);
            shape.capacity = None;
            shape.admits(&template.needs, true)
        };
        let named = pool.requests.iter().filter_map(|r| self.requests.get(r));
        admits(&NodeShape::default()) || named.into_iter().any(|request| admits(&request.shape))
    }

    fn retractions(&mut self) -> Vec<Effect> {
        let vacant: Vec<Target> = self
            .marks
            .pools
            .iter()
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
    fn settle(&mut self, name: &Arc<str>, now: Timestamp) {
        let settle_s = self.model.times.settle_s;
        if !self.nodes.contains_key(name) {
            return;
        }
        let mut settled: Vec<(Arc<str>, Arc<Template>)> = Vec::new();
        let unsettled = self.loads.get(name).map(|load| &load.unsettled);
        for uid in unsettled.into_iter().flatten() {
            if let Some(pod) = self.pods.get(uid)
                && let Phase::Bound { at, .. } = &pod.phase
                && now.secs_since(*at) >= settle_s
            {
                settled.push((Arc::clone(uid), Arc::clone(&pod.template)));
            }
        }
        for (uid, template) in settled {
            if let Some(load) = self.loads.get_mut(name) {
                load.unsettled.remove(&uid);
            }
            if let Some(node) = self.nodes.get_mut(name) {
                node.present.extend(template.images.iter().cloned());
            }
        }
    }

    /// What history says of a pool, computed once for all looks at it.
    fn remember(&mut self, pool: &Arc<str>, now: Timestamp) {
        if let Some(pool) = self.pools.get_mut(pool) {
            let model = &self.model;
            pool.history.refresh(&model.history, &model.times, now);
        }
    }

    fn plan_pool(&mut self, name: &Arc<str>, view: &View, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        if pool.is_vacant() || name.is_empty() {
            return;
        }
        let selection = self.select_for_pool(name, pool, view, now);
        self.await_meanings(&selection);
        self.publish(selection.plan, Wake::Pool(Arc::clone(name)), now, out);
    }

    /// Remembers for which images the target is to be looked at again.
    fn await_meanings(&mut self, selection: &Selection) {
        for verdict in &selection.verdicts {
            if verdict.fate == Fate::Unresolved {
                let targets = self.unresolved.entry(verdict.image.clone()).or_default();
                targets.insert(selection.plan.target.clone());
            }
        }
        // Names that no registry knows pile up slowly; starting over costs one look at everything.
        if self.unresolved.len() > UNRESOLVED_MAX {
            self.unresolved.clear();
            self.mark_everything();
        }
    }

    /// Makes the plan the one in force, if it asks for something else or has to be renewed.
    ///
    /// A new node gets a plan of its own even when it asks for nothing: until it has one, its agent
    /// follows the pool's.
    fn publish(&mut self, plan: Plan, wake: Wake, now: Timestamp, out: &mut Vec<Effect>) {
        let fresh = match (&plan.target, &wake) {
            (Target::Node(_), Wake::Node(name)) => self.is_fresh(name),
            _ => false,
        };
        let half = self.model.times.expiry() / 2;
        match self.plans.get(&plan.target) {
            None if plan.entries.is_empty() && !fresh => return,
            Some(known) if known.same_wishes(&plan) && known.epoch == plan.epoch => {
                if plan.entries.is_empty() {
                    return;
                }
                if now < known.made + half {
                    return;
                }
            }
            _ => {}
        }
        if !plan.entries.is_empty() {
            self.marks.wake(now + half, wake);
        }
        self.plans.insert(plan.target.clone(), plan.clone());
        out.push(Effect::Publish(plan));
    }

    pub(super) fn is_fresh(&self, node: &Arc<str>) -> bool {
        let pool = self
            .nodes
            .get(node)
            .and_then(|node| self.pools.get(&node.pool));
        pool.is_some_and(|pool| pool.fresh.contains(node))
    }

    fn select_for_pool(&self, name: &str, pool: &Pool, view: &View, now: Timestamp) -> Selection {
        let target = Target::Pool(name.to_owned());
        let shape = pool.profile.coming(&NodeShape::default());
        let asked = pool
            .requests
            .iter()
            .filter_map(|request| self.requests.get(request).map(|request| request.at))
            .chain(pool.asked.iter().copied())
            .min();
        let takes = Duration::from_secs_f64(pool.arrivals.quantile(Leg::Request, EARLY));
        let brief = Brief {
            previous: self.plans.get(&target),
            target,
            pool: name,
            now,
            epoch: self.epoch,
            budget: self.budget(&shape),
            dearer: 1.0,
            at_least: self.model.chances.sure,
            deadline: asked.map(|at| (at + takes).max(now)),
            present: None,
        };
        let clues = self.unless_off(name, || self.pool_clues(pool, view));
        self.select(&brief, &clues, &shape)
    }

    fn select_for_node(&self, node: &Node, view: &View, now: Timestamp) -> Selection {
        let target = Target::Node(node.name.to_string());
        let pool = self.pools.get(&node.pool);
        let fresh = pool.is_some_and(|pool| pool.fresh.contains(&node.name));
        let boot = pool.map_or(0.0, |pool| pool.arrivals.quantile(Leg::Boot, EARLY));
        let deadline = match node.ready {
            None => Some((node.joined + Duration::from_secs_f64(boot)).max(now)),
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
        };
        let clues = self.unless_off(&node.pool, || self.node_clues(node, view, now));
        self.select(&brief, &clues, &node.shape)
    }

    fn unless_off(&self, pool: &str, clues: impl FnOnce() -> Vec<Clue>) -> Vec<Clue> {
        if self.policy.mode(pool) == Mode::Off {
            return Vec::new();
        }
        clues()
    }

    fn select(&self, brief: &Brief<'_>, clues: &[Clue], shape: &NodeShape) -> Selection {
        let os = shape.label("kubernetes.io/os").unwrap_or("linux");
        let platform = shape.architecture().map(|arch| Platform {
            os: os.to_owned(),
            arch: arch.to_owned(),
        });
        select(&self.model, &self.policy, brief, clues, |image| {
            self.images.meaning(image, platform.as_ref())
        })
    }

    fn budget(&self, shape: &NodeShape) -> ByteSize {
        let ephemeral = shape.capacity.as_ref().map(|capacity| capacity.ephemeral);
        budget(&self.model.disk, ephemeral)
    }
}

/// Templates of the groups that are in one list only, or with other numbers.
fn changed_templates(new: &[Group], old: &[Group]) -> Vec<Arc<Template>> {
    fn key(group: &Group) -> impl Eq + Hash + '_ {
        let reason = std::mem::discriminant(&group.reason);
        let numbers = (group.count.to_bits(), group.chance.to_bits());
        let whose = (group.template.print, group.owner.as_deref());
        (whose, reason, numbers, group.priority)
    }
    // Most changes of an index change no demand: that is seen without a hash.
    if new.len() == old.len() && new.iter().zip(old).all(|(a, b)| key(a) == key(b)) {
        return Vec::new();
    }
    let known: HashSet<_> = old.iter().map(key).collect();
    let kept: HashSet<_> = new.iter().map(key).collect();
    let appeared = new.iter().filter(|group| !known.contains(&key(group)));
    let gone = old.iter().filter(|group| !kept.contains(&key(group)));
    let changed: BTreeMap<u64, &Arc<Template>> = appeared
        .chain(gone)
        .map(|group| (group.template.print, &group.template))
        .collect();
    changed.into_values().cloned().collect()
}
