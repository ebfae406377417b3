//! Nodes and requests for nodes, from the wish to the removal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::node::{NodeShape, Resources};
use crate::domain::plan::Target;
use crate::domain::signal::{
    NodeInterrupted, NodeJoined, NodeLaunched, NodeRemoved, NodeRequested, Signal,
};
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Leg;
use crate::forecast::history::{Key, Record};
use crate::plan::present::Present;

use super::calibrated::Statement;
use super::pods::{Phase, Pod};
use super::pools::{PlainRequest, Pool, SizeTarget};
use super::roster::PodId;
use super::sites::SiteId;
use super::{Applied, Cluster, Family, KNOWN, Reach, STALE, Wake};

/// A node that joined.
#[derive(Debug)]
pub struct Node {
    pub name: Arc<str>,
    /// The number of its name.
    pub site: SiteId,
    pub uid: String,
    pub pool: Arc<str>,
    pub shape: Arc<NodeShape>,
    pub joined: Timestamp,
    pub ready: Option<Timestamp>,
    /// When it was asked for, where known.
    pub requested: Option<Timestamp>,
    /// The request that it fulfils.
    pub request: Option<String>,
    /// The node whose pods will move here.
    pub replaces: Option<String>,
    /// Images that are there for certain.
    pub present: Present,
    /// What plans named for it, with the manifests that were fetched.
    pub sent: BTreeMap<ImageRef, Digest>,
    /// It was no newcomer any more when it was first heard of.
    pub resident: bool,
    /// What its plans said of images that no pod has used yet.
    pub stated: Vec<Statement>,
    first_seen: Timestamp,
    seen: Timestamp,
    generation: u32,
}

/// A request by name that is no node yet.
#[derive(Debug)]
pub struct Request {
    pub pool: Arc<str>,
    pub shape: NodeShape,
    pub replaces: Option<String>,
    pub at: Timestamp,
    generation: u32,
}

/// Nodes that are told Ready before they are told at all, at most.
const EARLY_MAX: usize = 10_000;

/// What pods on new nodes say of the next ones is taken up so often: on a wave of nodes, each of its
/// pods would otherwise plan for all of them anew.
const HISTORY_PAUSE: Duration = Duration::from_secs(2);

/// Seconds in which the scheduler binds what waited for a node that became Ready: all of them within
/// one second in the recordings, bar those that its back-off (1 to 10 s) holds.
const BINDING_S: f64 = 10.0;

impl Cluster {
    pub(super) fn node_requested(&mut self, fact: &NodeRequested, signal: &Signal) -> Applied {
        let at = signal.observedtime;
        let timeout = self.request_timeout();
        if let Some(name) = &fact.request {
            return self.request_named(name, fact, signal);
        }
        let pool_name = self.pool_name(&fact.pool);
        let pool = self.pools.entry(Arc::clone(&pool_name)).or_default();
        let (changed, when) = if let Some(size) = fact.target {
            let mut words = BTreeSet::from([(signal.source.clone(), signal.id.clone())]);
            if let Some(known) = &mut pool.target {
                if at < known.seen {
                    return STALE;
                }
                if at == known.seen {
                    if !known.words.is_disjoint(&words) {
                        return KNOWN;
                    }
                    words.append(&mut known.words);
                }
            }
            let target = SizeTarget {
                size,
                seen: at,
                words,
                shape: fact.shape.clone(),
            };
            (pool.set_target(target, at), at)
        } else {
            let key = (signal.source.clone(), signal.id.clone());
            if pool.plain.contains_key(&key) || fact.count == 0 || at + timeout < signal.time {
                return KNOWN;
            }
            let request = PlainRequest {
                count: fact.count,
                at: signal.time,
                shape: fact.shape.clone(),
            };
            pool.plain.insert(key, request);
            (true, signal.time)
        };
        if !changed {
            return KNOWN;
        }
        self.marks
            .wake(when + timeout, Wake::Pool(Arc::clone(&pool_name)));
        self.mark_pool(&pool_name, Reach::Coming);
        Applied::Changed
    }

    fn request_named(&mut self, name: &str, fact: &NodeRequested, signal: &Signal) -> Applied {
        let at = signal.observedtime;
        if self.fulfilled.contains_key(name) {
            return Applied::Ignored("request that is a node already");
        }
        if self.gone.requests.after(name, at) {
            return STALE;
        }
        let generation = self.generation(Family::Requests);
        if let Some(known) = self.requests.get_mut(name) {
            known.generation = generation;
            if known.shape == fact.shape && known.replaces == fact.replaces {
                return KNOWN;
            }
            known.shape.clone_from(&fact.shape);
            known.replaces.clone_from(&fact.replaces);
            self.marks.drained |= !self.leaving.is_empty();
            let pool = Arc::clone(&known.pool);
            self.mark_pool(&pool, Reach::Coming);
            return Applied::Changed;
        }
        let pool = self.pool_name(&fact.pool);
        let request = Request {
            pool: Arc::clone(&pool),
            shape: fact.shape.clone(),
            replaces: fact.replaces.clone(),
            at: signal.time,
            generation,
        };
        self.requests.insert(name.to_owned(), request);
        self.marks.drained |= !self.leaving.is_empty();
        self.pools
            .entry(Arc::clone(&pool))
            .or_default()
            .requests
            .insert(name.to_owned());
        let timeout = self.request_timeout();
        self.marks
            .wake(signal.time + timeout, Wake::Pool(Arc::clone(&pool)));
        self.mark_pool(&pool, Reach::Coming);
        Applied::Changed
    }

    pub(super) fn node_launched(&mut self, fact: &NodeLaunched, at: Timestamp) -> Applied {
        let Some(name) = &fact.request else {
            return Applied::Ignored("launch without a request");
        };
        let Some(request) = self.requests.get_mut(name) else {
            return Applied::Ignored("launch of an unknown request");
        };
        if request.at > at || request.shape == fact.shape {
            return KNOWN;
        }
        request.shape.clone_from(&fact.shape);
        let pool = Arc::clone(&request.pool);
        self.mark_pool(&pool, Reach::Coming);
        Applied::Changed
    }

    pub(super) fn node_joined(&mut self, fact: &NodeJoined, signal: &Signal) -> Applied {
        let at = signal.observedtime;
        if self.gone.nodes.after(&fact.node, at) {
            return STALE;
        }
        let generation = self.generation(Family::Nodes);
        let id = self.nodes.enter(&fact.node);
        let name = Arc::clone(&self.nodes[id].name);
        if let Some(known) = &mut self.nodes[id].node {
            known.generation = generation;
            if at < known.seen {
                return STALE;
            }
            known.seen = at;
            let same_machine = known.uid == fact.uid && *known.pool == *fact.pool;
            if same_machine {
                let news = known.present.listed_by_kubelet(&fact.images);
                return self.node_reshaped(id, &fact.shape, news);
            }
            self.drop_node(id);
        }
        let pool_name = self.pool_name(&fact.pool);
        let named = fact.request.as_ref().and_then(|request| {
            self.fulfilled.insert(request.clone(), Arc::clone(&name));
            self.take_request(request)
        });
        let pool = self.pools.entry(Arc::clone(&pool_name)).or_default();
        pool.nodes.insert(Arc::clone(&name));
        pool.fresh.insert(Arc::clone(&name));
        pool.booting.insert(Arc::clone(&name));
        pool.profile.note(&name, signal.time, &fact.shape);
        let asked = pool.fulfil(fact.request.is_some());
        count_in(pool, &fact.shape, Some(&self.nodes[id].load.used));
        let node = Node {
            name: Arc::clone(&name),
            site: id,
            uid: fact.uid.clone(),
            pool: Arc::clone(&pool_name),
            shape: Arc::new(fact.shape.clone()),
            joined: signal.time,
            ready: None,
            requested: named.as_ref().map(|request| request.at).or(asked),
            request: fact.request.clone(),
            replaces: named.and_then(|request| request.replaces),
            present: Present::of_kubelet(&fact.images),
            sent: BTreeMap::new(),
            resident: false,
            stated: Vec::new(),
            first_seen: at,
            seen: at,
            generation,
        };
        self.nodes.join(id, node);
        self.marks.drained |= !self.leaving.is_empty();
        self.mark_pool(&pool_name, Reach::Coming);
        let given_up = signal.time + self.request_timeout();
        self.marks.wake(given_up, Wake::Pool(pool_name));
        self.marks.nodes.insert(id);
        if let Some((time, observed)) = self.early_ready.remove(&name) {
            self.make_ready(id, time, observed);
        }
        Applied::Changed
    }

    fn node_reshaped(&mut self, id: SiteId, shape: &NodeShape, news: bool) -> Applied {
        let Some(node) = &mut self.nodes[id].node else {
            return KNOWN;
        };
        if *node.shape != *shape {
            if let Some(pool) = self.pools.get_mut(&node.pool) {
                count_out(pool, &node.shape, None);
                count_in(pool, shape, None);
                pool.profile.note(&node.name, node.joined, shape);
            }
            node.shape = Arc::new(shape.clone());
            let pool = Arc::clone(&node.pool);
            self.mark_pool(&pool, Reach::Fresh);
        } else if !news {
            return KNOWN;
        }
        self.marks.nodes.insert(id);
        Applied::Changed
    }

    pub(super) fn node_ready(&mut self, node: &str, signal: &Signal) -> Applied {
        if self.gone.nodes.after(node, signal.observedtime) {
            return STALE;
        }
        let known = self.nodes.id(node);
        match known.and_then(|id| Some((id, self.nodes[id].node.as_ref()?.ready))) {
            Some((_, Some(_))) => KNOWN,
            Some((id, None)) => {
                self.make_ready(id, signal.time, signal.observedtime);
                Applied::Changed
            }
            None => {
                if self.early_ready.len() < EARLY_MAX {
                    let times = (signal.time, signal.observedtime);
                    let name = self.nodes.name(node);
                    self.early_ready.entry(name).or_insert(times);
                }
                Applied::Ignored("readiness of an unknown node")
            }
        }
    }

    fn make_ready(&mut self, id: SiteId, time: Timestamp, observed: Timestamp) {
        let window = Duration::from_secs_f64(self.model.times.window_s.max(0.0));
        let most = self.model.history.arrivals;
        let Some(node) = &mut self.nodes[id].node else {
            return;
        };
        let name = Arc::clone(&node.name);
        node.ready = Some(time);
        let resident = time + window < node.first_seen;
        node.resident = resident;
        let (pool_name, joined, requested) = (Arc::clone(&node.pool), node.joined, node.requested);
        let wake = Wake::Node(Arc::clone(&name));
        self.marks.wake(time + window, wake);
        self.mark_pool(&pool_name, Reach::Coming);
        self.marks.nodes.insert(id);
        let (mut used, mut late) = (BTreeSet::new(), BTreeSet::new());
        for pod in self.pods_on(id) {
            let Phase::Bound { at, .. } = pod.phase else {
                continue;
            };
            if at.secs_since(time) <= self.model.times.window_s {
                used.extend(keys(pod));
                if is_late(pod, at, time) {
                    late.extend(keys(pod));
                }
            }
        }
        let Some(pool) = self.pools.get_mut(&pool_name) else {
            return;
        };
        pool.booting.remove(&name);
        if !resident {
            pool.arrivals
                .note(Leg::Boot, observed, time.secs_since(joined), most);
            if let Some(at) = requested {
                pool.arrivals
                    .note(Leg::Request, observed, time.secs_since(at), most);
            }
        }
        let record = Record {
            node: name.to_string(),
            since: time,
            resident,
            used,
            late,
        };
        pool.history.note_node(record, self.model.history.nodes);
    }

    /// A pod came to a node: if the node is new, it says what new nodes of the pool run.
    pub(super) fn note_use(&mut self, site: SiteId, pod: PodId, signal: &Signal) {
        let Some(there) = &self.nodes[site].node else {
            return;
        };
        let Some(ready) = there.ready else { return };
        if signal.time.secs_since(ready) > self.model.times.window_s {
            return;
        }
        let pod = &self.pods[pod];
        let late = is_late(pod, signal.time, ready);
        let keys = keys(pod);
        let Some(pool) = self.pools.get_mut(&there.pool) else {
            return;
        };
        let mut news = false;
        for key in keys {
            news |= pool.history.note_use(&there.name, key, late);
        }
        if news && !pool.fresh.is_empty() {
            let at = signal.observedtime.next_whole(HISTORY_PAUSE);
            self.marks.wake(at, Wake::Fresh(Arc::clone(&there.pool)));
        }
    }

    pub(super) fn node_interrupted(&mut self, fact: &NodeInterrupted, at: Timestamp) -> Applied {
        if self.gone.nodes.after(&fact.node, at) {
            return STALE;
        }
        let id = self.nodes.id(&fact.node);
        let known = id.and_then(|id| Some((id, self.nodes[id].node.as_ref()?)));
        let Some((id, node)) = known else {
            return Applied::Ignored("interruption of an unknown node");
        };
        if at < node.first_seen || !self.leaving.insert(Arc::clone(&node.name)) {
            return KNOWN;
        }
        self.marks.drained = true;
        let pool = Arc::clone(&node.pool);
        self.mark_pool(&pool, Reach::Fresh);
        self.marks.nodes.insert(id);
        Applied::Changed
    }

    pub(super) fn node_removed(&mut self, fact: &NodeRemoved, at: Timestamp) -> Applied {
        let mut changed = false;
        if let Some(request) = &fact.request {
            self.gone.requests.note(request.as_str(), at);
            self.fulfilled.remove(request);
            if let Some(taken) = self.take_request(request) {
                changed = true;
                if fact.node.is_none() {
                    self.given_up(&taken.pool, &[taken.at], fact, at);
                }
            }
        }
        if let Some(node) = &fact.node {
            self.gone.nodes.note(node.as_str(), at);
            self.early_ready.remove(node.as_str());
            let known = |known: &Node| known.first_seen <= at;
            if let Some(id) = self.nodes.id(node)
                && self.nodes[id].node.as_ref().is_some_and(known)
            {
                self.drop_node(id);
                changed = true;
            }
        }
        if let (None, None, Some(pool)) = (&fact.node, &fact.request, &fact.pool)
            && let Some((name, known)) = self.pools.get_key_value(pool.as_str())
        {
            let name = Arc::clone(name);
            let made: Vec<Timestamp> = Self::unnamed(known).collect();
            changed |= self.given_up(&name, &made, fact, at);
            if let Some(pool) = self.pools.get_mut(&name)
                && !(pool.asked.is_empty() && pool.plain.is_empty())
            {
                pool.withdraw();
                self.mark_pool(&name, Reach::Coming);
                changed = true;
            }
        }
        if changed {
            Applied::Changed
        } else {
            Applied::Ignored("removal of an unknown node or request")
        }
    }

    pub(super) fn sweep_nodes(&mut self, current: u32, now: Timestamp) {
        let mut gone: Vec<Arc<str>> = self
            .nodes
            .values()
            .filter(|node| node.generation != current)
            .map(|node| Arc::clone(&node.name))
            .collect();
        gone.sort();
        for name in gone {
            self.gone.nodes.note(Arc::clone(&name), now);
            if let Some(id) = self.nodes.id(&name) {
                self.drop_node(id);
            }
        }
    }

    pub(super) fn sweep_requests(&mut self, current: u32) {
        let gone: Vec<String> = self
            .requests
            .iter()
            .filter(|(_, request)| request.generation != current)
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.take_request(&name);
        }
    }

    /// The load of a node changed.
    pub(super) fn mark_load(&mut self, id: SiteId, taken: &Resources, more: bool) {
        let Some(node) = &self.nodes[id].node else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&node.pool) {
            pool.used = if more {
                pool.used.plus(taken)
            } else {
                pool.used.minus(taken)
            };
        }
        let (resident, coming) = (node.resident, node.ready.is_none());
        self.marks.drained |= !self.leaving.is_empty() && self.leaving.contains(&node.name);
        // A node that nobody saw come is sent nothing, whatever runs on it.
        if resident {
            return;
        }
        self.marks.nodes.insert(id);
        if coming {
            let pool = Arc::clone(&node.pool);
            self.mark_pool(&pool, Reach::Coming);
        }
    }

    pub(super) fn is_resident(&self, id: SiteId) -> bool {
        let node = self.nodes[id].node.as_ref();
        node.is_some_and(|node| node.resident)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.model.times.request_s.max(0.0))
    }

    fn take_request(&mut self, name: &str) -> Option<Request> {
        let request = self.requests.remove(name)?;
        self.marks.drained |= !self.leaving.is_empty();
        if let Some(pool) = self.pools.get_mut(&request.pool) {
            pool.requests.remove(name);
        }
        self.mark_pool(&request.pool, Reach::Coming);
        Some(request)
    }

    fn drop_node(&mut self, id: SiteId) {
        let leaving = !self.leaving.is_empty();
        let Some(node) = self.nodes.leave(id) else {
            return;
        };
        let name = &node.name;
        if let Some(pool) = self.pools.get_mut(&node.pool) {
            pool.nodes.remove(name);
            pool.fresh.remove(name);
            pool.booting.remove(name);
            let replaces = |node: &Node| node.replaces.as_deref() == Some(&**name);
            let fresh = pool.fresh.iter().filter_map(|fresh| self.nodes.id(fresh));
            let heirs = fresh.filter(|id| self.nodes[*id].node.as_ref().is_some_and(replaces));
            self.marks.nodes.extend(heirs);
            pool.node_went();
            count_out(pool, &node.shape, Some(&self.nodes[id].load.used));
        }
        if let Some(request) = &node.request
            && self.fulfilled.get(request).is_some_and(|by| by == name)
        {
            self.fulfilled.remove(request);
        }
        self.leaving.remove(name);
        self.marks.drained |= leaving;
        self.mark_pool(&node.pool, Reach::Coming);
        self.marks.nodes.remove(&id);
        self.marks.retract.insert(Target::Node(name.to_string()));
    }

    pub(super) fn pool_name(&self, pool: &str) -> Arc<str> {
        self.pools
            .get_key_value(pool)
            .map_or_else(|| pool.into(), |(name, _)| Arc::clone(name))
    }
}

/// Under what a pod is remembered: its workload, where that makes pods again and again under one
/// name; a Job does not.
fn keys(pod: &Pod) -> Vec<Key> {
    match &pod.owner {
        Some(owner) if owner.kind != "Job" => vec![Key::Workload(Arc::clone(owner))],
        _ => pod
            .template
            .needs
            .images
            .iter()
            .map(|use_| Key::Image(use_.image.clone()))
            .collect(),
    }
}

/// Whether a pod on a node was made only after the node was Ready.
fn is_late(pod: &Pod, bound: Timestamp, ready: Timestamp) -> bool {
    pod.first_seen.min(bound).secs_since(ready) > BINDING_S
}

fn count_in(pool: &mut Pool, shape: &NodeShape, used: Option<&Resources>) {
    if let Some(capacity) = &shape.capacity {
        pool.capacity = pool.capacity.plus(capacity);
    }
    if let Some(used) = used {
        pool.used = pool.used.plus(used);
    }
}

fn count_out(pool: &mut Pool, shape: &NodeShape, used: Option<&Resources>) {
    if let Some(capacity) = &shape.capacity {
        pool.capacity = pool.capacity.minus(capacity);
    }
    if let Some(used) = used {
        pool.used = pool.used.minus(used);
    }
}
