//! What speaks for which images on one target.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::node::NodeShape;
use crate::domain::plan::{Priority, Reason};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::combine::{Cause, Clue, by_cause};
use crate::forecast::demand::{Group, Landing, Template, capacity_in_pods};
use crate::plan::present::Present;

use super::Cluster;
use super::demand::{View, is_wide};
use super::nodes::Node;
use super::pods::Phase;
use super::pools::Pool;
use super::recall::fitting;

/// Clues of one target: its own, and those of its pool's history, which all its nodes share (most of
/// eighty on the benchmark's large day: a copy of each would cost as much as what they are made into).
#[derive(Debug, Default)]
pub struct Clues<'a> {
    own: Vec<Clue>,
    recalled: Vec<&'a Clue>,
}

// === impl Clues ===

impl Clues<'_> {
    /// All of them in the order of their causes; those of history are told in the order of their keys,
    /// which is the same.
    pub fn by_cause(&self) -> Vec<&Clue> {
        by_cause(&self.own, &self.recalled)
    }

    /// Whether they speak for these images alone.
    pub fn are_of(&self, images: &Present) -> bool {
        let clues = self.own.iter().chain(self.recalled.iter().copied());
        let mut all = clues.flat_map(|clue| clue.images.iter());
        all.all(|image| images.contains(image))
    }
}

impl Cluster {
    /// Everything that speaks for images on an existing node.
    pub(super) fn node_clues<'a>(&self, node: &Node, view: &'a View, now: Timestamp) -> Clues<'a> {
        let mut clues = Clues::default();
        // Nobody saw the node come: it has what its pool runs, and what it lacks the kubelet is
        // pulling already. A cluster in which nothing scales is sent nothing.
        if node.resident || self.leaving.contains(&node.name) {
            return clues;
        }
        if self.model.uses.pods {
            self.add_bound(&mut clues.own, node, now);
            self.add_nominated(&mut clues.own, node);
        }
        let Some(pool) = self.pools.get(&node.pool) else {
            return clues;
        };
        if pool.fresh.contains(&node.name) {
            let shape = pool.profile.completed(&node.shape);
            self.add_daemons(&mut clues.own, &shape, false);
            clues.recalled = fitting(&view.recalled, &shape);
            if self.model.uses.pods {
                self.add_replaced(&mut clues.own, node);
            }
        }
        match view.places.get(&node.name) {
            Some(place) => {
                add_landings(&mut clues.own, self.groups.list(), &view.landings[*place]);
            }
            None if node.ready.is_some() => self.add_vacancies(&mut clues.own, node, view),
            None => {}
        }
        if self.model.uses.rollouts {
            self.add_outdated(&mut clues.own, node);
        }
        clues
    }

    /// Everything that speaks for images on any coming node of a pool.
    pub(super) fn pool_clues<'a>(&self, pool: &Pool, view: &'a View) -> Clues<'a> {
        let mut clues = Clues::default();
        let shape = pool.profile.typical();
        self.add_daemons(&mut clues.own, &shape, true);
        clues.recalled = fitting(&view.recalled, &shape);
        if !view.landings.is_empty() {
            let rooms = view.landings.len() as f64;
            let average: Vec<Landing> = (0..self.groups.list().len())
                .map(|group| {
                    let of = |value: fn(&Landing) -> f64| {
                        view.landings
                            .iter()
                            .map(|room| value(&room[group]))
                            .sum::<f64>()
                            / rooms
                    };
                    Landing {
                        any: of(|landing| landing.any),
                        pods: of(|landing| landing.pods),
                    }
                })
                .collect();
            add_landings(&mut clues.own, self.groups.list(), &average);
        }
        clues
    }

    /// Pods that were bound so lately that their images may still be missing.
    fn add_bound(&self, clues: &mut Vec<Clue>, node: &Node, now: Timestamp) {
        let mut kinds: BTreeMap<_, (f64, &Arc<str>)> = BTreeMap::new();
        let unsettled = self.nodes[node.site].load.unsettled.iter();
        for pod in unsettled.map(|id| &self.pods[*id]) {
            if let Phase::Bound { at, .. } = pod.phase
                && now.secs_since(at) < self.model.times.settle_s
            {
                let kind = kinds
                    .entry((pod.owner.as_ref(), &pod.template))
                    .or_insert((0.0, &pod.name));
                kind.0 += 1.0;
                kind.1 = kind.1.min(&pod.name);
            }
        }
        clues.extend(
            kinds
                .into_iter()
                .map(|((owner, template), (count, name))| Clue {
                    images: Arc::clone(&template.images),
                    cause: cause(owner, template),
                    chance: 1.0,
                    pods: count,
                    reason: Reason::Bound(Arc::clone(name)),
                    priority: Priority::Pending,
                }),
        );
    }

    fn add_nominated(&self, clues: &mut Vec<Clue>, node: &Node) {
        // Pods expected, the first by name, and the probability of none.
        let mut kinds: BTreeMap<_, (f64, &Arc<str>, f64)> = BTreeMap::new();
        let nominees = self.nominees_of(&node.name);
        let stays = self.model.chances.nominated;
        for pod in nominees.iter().map(|id| &self.pods[*id]) {
            let kind = kinds
                .entry((pod.owner.as_ref(), &pod.template))
                .or_insert((0.0, &pod.name, 1.0));
            let stays = if pod.is_promised() {
                stays.min(self.kept())
            } else {
                stays
            };
            kind.0 += stays;
            kind.2 *= 1.0 - stays;
            kind.1 = kind.1.min(&pod.name);
        }
        for ((owner, template), (count, name, none)) in kinds {
            clues.push(Clue {
                images: Arc::clone(&template.images),
                cause: cause(owner, template),
                chance: 1.0 - none,
                pods: count,
                reason: Reason::Nominated(Arc::clone(name)),
                priority: Priority::Pending,
            });
        }
    }

    fn add_daemons(&self, clues: &mut Vec<Clue>, shape: &NodeShape, partial: bool) {
        if !self.model.uses.daemonsets {
            return;
        }
        for (name, id) in &self.daemonsets {
            let Some(state) = &self.owners[*id].state else {
                continue;
            };
            if shape.admits(&state.template.needs, partial) {
                clues.push(Clue {
                    images: Arc::clone(&state.template.images),
                    cause: Cause::Workload(Arc::clone(name)),
                    chance: self.model.chances.daemonset,
                    pods: 1.0,
                    reason: Reason::DaemonSet(Arc::clone(&state.name)),
                    priority: Priority::Predicted,
                });
            }
        }
    }

    /// Pods of the node that this one replaces, until it is gone.
    fn add_replaced(&self, clues: &mut Vec<Clue>, node: &Node) {
        let Some(old) = node
            .replaces
            .as_deref()
            .filter(|old| self.nodes.contains_key(old))
        else {
            return;
        };
        for (owner, template, count) in self.movable(old) {
            if node.shape.admits(&template.needs, false) {
                clues.push(Clue {
                    images: Arc::clone(&template.images),
                    cause: cause(owner.as_ref(), &template),
                    chance: self.model.chances.replacement,
                    pods: count,
                    reason: Reason::Replacement(old.into()),
                    priority: Priority::Predicted,
                });
            }
        }
    }

    /// A node that is Ready gets what finds room on it, now or when pods leave it: m pods over E
    /// nodes come to this one with 1 - (1 - 1/E)^m.
    fn add_vacancies(&self, clues: &mut Vec<Clue>, node: &Node, view: &View) {
        let nodes = view.ready.max(1) as f64;
        let fresh = self.is_fresh(&node.name);
        let free = node
            .shape
            .capacity
            .as_ref()
            .map(|capacity| capacity.minus(&self.nodes[node.site].load.used));
        for group in self.groups.list() {
            if !is_wide(group.count, view.ready) || matches!(group.reason, Reason::Rollout(_)) {
                continue;
            }
            // What is only foreseen is no reason to touch a node that serves.
            if !fresh && group.priority == Priority::Background {
                continue;
            }
            // Who waits while nodes come waits for those: on the scenario pack what such pods brought
            // to nodes that served already was 10 GB in vain and saved no second.
            if !fresh && group.priority == Priority::Pending && view.awaited {
                continue;
            }
            let needs = &group.template.needs;
            if !node.shape.admits(needs, false) {
                continue;
            }
            let has_room = free
                .as_ref()
                .is_none_or(|free| capacity_in_pods(needs, free) >= 1.0);
            let waits = group.priority == Priority::Pending;
            // Who waits although there is room waits for something else; who does not exist yet will
            // not look at a full node.
            let part = match (waits, has_room) {
                (true, _) => self.model.chances.vacancy,
                (false, true) => 1.0,
                (false, false) => continue,
            };
            let any = group.chance * part * (1.0 - (1.0 - 1.0 / nodes).powf(group.count));
            clues.push(Clue {
                images: Arc::clone(&group.template.images),
                cause: cause(group.owner.as_ref(), &group.template),
                chance: any,
                pods: group.count / nodes,
                reason: group.reason.clone(),
                priority: Priority::Predicted,
            });
        }
    }

    /// Workloads that are rolling out where this node runs the old template.
    fn add_outdated(&self, clues: &mut Vec<Clue>, node: &Node) {
        for (owner, id) in &self.rolling {
            let crowd = &self.owners[*id].crowd;
            let state = self.owners[*id].state.as_ref();
            let Some(state) = state.filter(|_| crowd.nodes.contains_key(&node.site)) else {
                continue;
            };
            let here = self.pods_on(node.site);
            let old_pods = here.filter(|pod| {
                pod.owner.as_ref() == Some(owner) && pod.template.images != state.template.images
            });
            let old_pods = old_pods.count() as f64;
            if old_pods == 0.0 {
                continue;
            }
            let daemon = owner.kind == "DaemonSet";
            let nodes = crowd.nodes.len().max(1) as f64;
            let left = f64::from(state.outdated.max(1));
            let any = if daemon {
                1.0
            } else {
                1.0 - (1.0 - 1.0 / nodes).powf(left)
            };
            clues.push(Clue {
                images: Arc::clone(&state.template.images),
                cause: Cause::Workload(Arc::clone(owner)),
                chance: self.model.chances.rollout * any,
                pods: old_pods,
                reason: Reason::Rollout(owner.to_string().into()),
                priority: Priority::Predicted,
            });
        }
    }
}

fn add_landings(clues: &mut Vec<Clue>, groups: &[Group], landings: &[Landing]) {
    for (group, landing) in groups.iter().zip(landings) {
        if landing.any > 0.0 {
            clues.push(Clue {
                images: Arc::clone(&group.template.images),
                cause: cause(group.owner.as_ref(), &group.template),
                chance: landing.any,
                pods: landing.pods,
                reason: group.reason.clone(),
                priority: group.priority,
            });
        }
    }
}

/// Pods of one owner and one template are one cause: after a rollout the new template's pods are
/// other pods than the old one's.
fn cause(owner: Option<&Arc<WorkloadRef>>, template: &Template) -> Cause {
    owner.map_or(Cause::Template(template.print), |owner| {
        Cause::Workload(Arc::clone(owner))
    })
}
