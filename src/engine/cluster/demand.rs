//! The rooms that come in a pool, and what lands in them: one pool's view.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::node::NodeShape;
use crate::domain::plan::{Priority, Reason};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::demand::{Group, Landing, Room, Template, asked, capacity_in_pods, share};

use super::Cluster;
use super::nodes::Node;
use super::pods::{Place, taken};
use super::pools::Pool;
use super::recall::Recalled;
use super::roster::PodId;

/// Rooms that one pool's view looks at: beyond them nodes are planned as the last one.
const ROOMS_MAX: usize = 64;

/// What is needed to plan for the targets of one pool.
#[derive(Debug, Default)]
pub struct View {
    /// Which not yet Ready node has which room.
    pub places: BTreeMap<Arc<str>, usize>,
    /// Per room and group, what lands there.
    pub landings: Vec<Vec<Landing>>,
    /// History of the pool.
    pub recalled: Arc<[Recalled]>,
    /// Nodes on their way.
    pub rooms: usize,
    /// Ready nodes.
    pub ready: usize,
    /// Whether nodes are asked for, or not Ready yet.
    pub awaited: bool,
}

/// A node on its way: which one, or nobody yet, and its room.
struct Coming {
    node: Option<Arc<str>>,
    room: Room,
}

impl Cluster {
    /// Pods on a node that will look for another when it goes, in kinds.
    pub(super) fn movable(
        &self,
        node: &str,
    ) -> Vec<(Option<Arc<WorkloadRef>>, Arc<Template>, f64)> {
        let mut kinds: BTreeMap<(Option<Arc<WorkloadRef>>, Arc<Template>), f64> = BTreeMap::new();
        let pods = self.nodes.id(node).map(|site| self.pods_on(site));
        for pod in pods.into_iter().flatten() {
            let stays = pod
                .owner
                .as_ref()
                .is_none_or(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "Job" | "CronJob"));
            if !stays {
                *kinds
                    .entry((pod.owner.clone(), Arc::clone(&pod.template)))
                    .or_default() += 1.0;
            }
        }
        kinds
            .into_iter()
            .map(|((owner, template), count)| (owner, template, count))
            .collect()
    }

    /// What is asked for nodes that are Ready: how many there are, and whether more come.
    pub(super) fn outline(&self, name: &str, now: Timestamp) -> View {
        let pool = self.pools.get(name);
        View {
            ready: pool.map_or(0, Pool::ready),
            awaited: pool.is_some_and(|pool| self.is_awaited(pool, now)),
            ..View::default()
        }
    }

    /// Whether nodes are on their way to a pool.
    pub(super) fn is_awaited(&self, pool: &Pool, now: Timestamp) -> bool {
        let alive = |at: Timestamp| at + self.request_timeout() > now;
        let mut booting = pool.booting.iter().filter_map(|name| self.nodes.get(name));
        let mut named = pool.requests.iter().filter_map(|r| self.requests.get(r));
        // A machine that boots for longer than requests live will not serve who waits.
        let comes = |node: &Node| !self.leaving.contains(&node.name);
        booting.any(|node| comes(node) && alive(node.joined))
            || named.any(|request| alive(request.at))
            || pool.asked.iter().any(|at| alive(*at))
            || pool.plain.values().any(|request| alive(request.at))
            || pool.offer.is_some()
    }

    /// What comes in a pool, what lands where, and what history says.
    pub(super) fn view(&self, name: &str, groups: &[Group], now: Timestamp) -> View {
        let Some(pool) = self.pools.get(name) else {
            return View::default();
        };
        let coming = self.coming(pool, now);
        let mut rooms: Vec<Room> = Vec::with_capacity(coming.len());
        let mut view = View::default();
        for one in coming.into_iter().take(ROOMS_MAX) {
            if let Some(node) = one.node {
                view.places.insert(node, rooms.len());
            }
            rooms.push(one.room);
        }
        view.ready = pool.ready();
        view.awaited = self.is_awaited(pool, now);
        view.recalled = self.recalled(name, now);
        view.rooms = rooms.len();
        view.landings = self.land(pool, &view, groups, rooms);
        view
    }

    /// Those that wait take their room first; what is only expected gets what they leave.
    fn land(
        &self,
        pool: &Pool,
        view: &View,
        groups: &[Group],
        mut rooms: Vec<Room>,
    ) -> Vec<Vec<Landing>> {
        let race = self.model.chances.race;
        let waiting = groups
            .iter()
            .take_while(|group| group.priority == Priority::Pending)
            .count();
        let (waits, expected) = groups.split_at(waiting);
        let counts: Vec<f64> = waits.iter().map(|group| group.count).collect();
        let mut landings = share(waits, &counts, &rooms, race, self.lean());
        for (room, landed) in rooms.iter_mut().zip(&landings) {
            let Some(free) = &mut room.free else { continue };
            for (group, landing) in waits.iter().zip(landed) {
                *free = free.minus(&asked(&group.template.needs, landing.pods));
            }
        }
        let counts = self.beside_existing(pool, view, !waits.is_empty(), expected);
        let spread = self.spread(view, expected);
        for ((landed, room), more) in landings
            .iter_mut()
            .zip(&rooms)
            .zip(share(expected, &counts, &rooms, race, 0.0))
        {
            for ((landing, group), spread) in more.iter().zip(expected).zip(&spread) {
                let (any, pods) = match spread {
                    Some(pods) if room.admits(&group.template.needs) => {
                        (1.0 - (-pods).exp(), *pods)
                    }
                    Some(_) => (0.0, 0.0),
                    None => (landing.any, landing.pods),
                };
                landed.push(Landing {
                    any: any * group.chance,
                    pods: pods * group.chance,
                });
            }
        }
        landings
    }

    /// Pods that come one by one wherever there is room, not all to the next node: how many of each
    /// such group a coming node gets, as a Poisson mean; missing for groups that come at once.
    fn spread(&self, view: &View, expected: &[Group]) -> Vec<Option<f64>> {
        let share =
            |group: &Group, others: usize| Some(group.count / (view.rooms + others).max(1) as f64);
        expected
            .iter()
            .map(|group| match &group.reason {
                // The old pods make room where they run.
                Reason::Rollout(_) => {
                    let owner = group.owner.as_ref().and_then(|name| self.owners.get(name));
                    share(group, owner.map_or(0, |owner| owner.crowd.nodes.len()))
                }
                Reason::Schedule(_) => share(group, view.ready),
                _ => None,
            })
            .collect()
    }

    /// Expected pods of each group that come at once, less those that existing nodes will take.
    pub(super) fn beside_existing(
        &self,
        pool: &Pool,
        view: &View,
        crowded: bool,
        expected: &[Group],
    ) -> Vec<f64> {
        let mut free = pool.capacity.minus(&pool.used);
        for node in view.places.keys() {
            if let Some(capacity) = self.nodes.get(node).and_then(|n| n.shape.capacity.as_ref()) {
                free = free.minus(capacity);
            }
        }
        expected
            .iter()
            .map(|group| {
                if matches!(group.reason, Reason::Rollout(_) | Reason::Schedule(_)) {
                    return 0.0;
                }
                if crowded || view.ready == 0 {
                    return group.count;
                }
                let there = capacity_in_pods(&group.template.needs, &free).floor();
                (group.count - there).max(0.0)
            })
            .collect()
    }

    /// Not yet Ready nodes, named requests, then whatever else is on its way: in the order in which
    /// they are expected.
    fn coming(&self, pool: &Pool, now: Timestamp) -> Vec<Coming> {
        let mut joined: Vec<_> = pool
            .booting
            .iter()
            .filter_map(|name| self.nodes.get(name))
            .filter(|node| !self.leaving.contains(&node.name))
            .collect();
        joined.sort_by_key(|node| (node.joined, Arc::clone(&node.name)));
        let mut out: Vec<Coming> = joined
            .into_iter()
            .map(|node| {
                let shape = pool.profile.completed(&node.shape);
                let mut free = shape.capacity.clone();
                if let Some(free) = &mut free {
                    *free = free.minus(&self.nodes[node.site].load.used);
                }
                let mut room = Room {
                    shape,
                    partial: false,
                    free,
                };
                self.reserve(
                    &mut room,
                    node.replaces.as_deref(),
                    &self.nominees_of(&node.name),
                );
                Coming {
                    node: Some(Arc::clone(&node.name)),
                    room,
                }
            })
            .collect();
        let timeout = self.request_timeout();
        let mut named: Vec<_> = pool
            .requests
            .iter()
            .filter_map(|name| self.requests.get(name).map(|request| (name, request)))
            .filter(|(_, request)| request.at + timeout > now)
            .collect();
        named.sort_by_key(|(name, request)| (request.at, (*name).clone()));
        let count = named.len();
        for (name, request) in named {
            let mut room = self.room_for(pool, &request.shape);
            let place = Place::Request(name.as_str().into());
            let nominees = self.nominated.get(&place).into_iter().flatten();
            let nominees: Vec<PodId> = nominees.map(|(_, id)| *id).collect();
            self.reserve(&mut room, request.replaces.as_deref(), &nominees);
            out.push(Coming { node: None, room });
        }
        let unknown = NodeShape::default();
        let anonymous = pool.anonymous(count, now, timeout);
        let rooms_left = ROOMS_MAX.saturating_sub(out.len());
        // Nodes of one wish are told alike: 64 of them are one room, looked at once.
        let mut alike: Option<(&NodeShape, Room)> = None;
        for (_, told) in anonymous.into_iter().take(rooms_left) {
            let told = told.unwrap_or(&unknown);
            let (_, room) = match alike.take() {
                Some(known) if std::ptr::eq(known.0, told) => alike.insert(known),
                _ => alike.insert((told, self.room_for(pool, told))),
            };
            let room = room.clone();
            out.push(Coming { node: None, room });
        }
        out
    }

    /// Waiting pods that are nominated to a node, under its own name or its request's.
    pub(super) fn nominees_of(&self, node: &Arc<str>) -> Vec<PodId> {
        let request = self
            .nodes
            .get(node)
            .and_then(|node| node.request.as_deref())
            .map(|request| Place::Request(request.into()));
        [Some(Place::Node(Arc::clone(node))), request]
            .into_iter()
            .flatten()
            .filter_map(|place| self.nominated.get(&place))
            .flatten()
            .map(|(_, id)| *id)
            .collect()
    }

    /// How often a pod comes to the node that a request for it became, 0 to 1; where nothing may be
    /// learned, always.
    pub(super) fn kept(&self) -> f64 {
        if self.model.uses.history {
            self.promises.chance(self.model.chances.promised)
        } else {
            1.0
        }
    }

    /// How far the scheduler's order is known; where nothing may be learned, it is not.
    fn lean(&self) -> f64 {
        if self.model.uses.history {
            self.order.lean()
        } else {
            0.0
        }
    }

    /// Takes out of a room what is spoken for.
    fn reserve(&self, room: &mut Room, replaces: Option<&str>, nominees: &[PodId]) {
        let Some(free) = &mut room.free else { return };
        let mut kinds: BTreeMap<&Template, f64> = BTreeMap::new();
        for pod in nominees.iter().map(|id| &self.pods[*id]) {
            let part = if pod.is_promised() { self.kept() } else { 1.0 };
            *kinds.entry(&*pod.template).or_default() += part;
        }
        for (template, pods) in kinds {
            // Whole pods: three fifths of one pod's GPU are none.
            *free = free.minus(&asked(&template.needs, pods.round()));
        }
        if let Some(old) = replaces.filter(|old| self.nodes.contains_key(old)) {
            for (_, template, count) in self.movable(old) {
                *free = free.minus(&asked(&template.needs, count));
            }
        }
    }

    pub(super) fn room_for(&self, pool: &Pool, told: &NodeShape) -> Room {
        let shape = pool.profile.coming(told);
        let mut free = shape.capacity.clone();
        if let Some(free) = &mut free {
            for template in self.daemons(&shape, true) {
                *free = free.minus(&taken(&template.needs));
            }
        }
        Room {
            shape: Arc::new(shape),
            partial: true,
            free,
        }
    }

    /// Templates of the DaemonSets that a shape admits.
    pub(super) fn daemons<'a>(
        &'a self,
        shape: &'a NodeShape,
        partial: bool,
    ) -> impl Iterator<Item = &'a Arc<Template>> {
        self.daemonsets
            .values()
            .filter_map(|id| self.owners[*id].state.as_ref())
            .map(|state| &state.template)
            .filter(move |template| shape.admits(&template.needs, partial))
    }

    pub(super) fn owner(&self, name: &WorkloadRef) -> Arc<WorkloadRef> {
        let known = self.owners.get(name);
        known.map_or_else(|| Arc::new(name.clone()), |owner| Arc::clone(&owner.name))
    }
}

/// Whether a group of so many pods is felt on each of so many Ready nodes: fewer than one pod in eight
/// nodes is below every threshold.
pub fn is_wide(pods: f64, nodes: usize) -> bool {
    pods * 8.0 >= nodes.max(1) as f64
}
