//! Pods: who waits, who runs where, and how much of each node is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::node::Resources;
use crate::domain::signal::{PodBound, PodWanted, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::{PodNeeds, PodRef, Requirement, WorkloadRef};
use crate::forecast::demand::Template;

use super::groups::Mark;
use super::owners::OwnerId;
use super::roster::PodId;
use super::sites::SiteId;
use super::workloads::WorkloadState;
use super::{Applied, Cluster, Family, KNOWN, Reach, STALE, Wake};

/// One pod: its strings and template are shared.
#[derive(Debug)]
pub struct Pod {
    pub uid: Arc<str>,
    pub name: Arc<str>,
    pub owner: Option<Arc<WorkloadRef>>,
    /// The owner's number.
    pub owned: Option<OwnerId>,
    pub template: Arc<Template>,
    pub phase: Phase,
    pub(super) nominated: Option<Place>,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// Since when it looks for a node: gates of its own held it before.
    pub waits: Timestamp,
    seen: Timestamp,
    generation: u32,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No node yet; `gated` by its own scheduling gates.
    Waiting { gated: bool },
    /// On a node since `at`.
    Bound { node: SiteId, at: Timestamp },
}

/// A node, or a request that is no node yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Node(Arc<str>),
    Request(Arc<str>),
}

/// Owner, fingerprint of the template, gated.
pub type WaitingKey = (Option<OwnerId>, u64, bool);

/// Waiting pods of one kind.
#[derive(Debug)]
pub struct Waiting {
    pub template: Arc<Template>,
    /// By name.
    pub pods: BTreeSet<(Arc<str>, PodId)>,
    /// Those that somebody intends for a request; the scheduler knows nothing of it.
    pub promised: BTreeSet<(Arc<str>, PodId)>,
    /// Since when how many of both wait.
    ages: BTreeMap<Timestamp, u32>,
}

/// The pods of one owner.
#[derive(Debug, Default)]
pub struct Crowd {
    pub waiting: u32,
    pub bound: u32,
    /// How many of them run on which node.
    pub nodes: BTreeMap<SiteId, u32>,
}

/// The pods of one node.
#[derive(Debug, Default)]
pub struct Load {
    /// In no order.
    pub pods: Vec<PodId>,
    /// Of those, the ones whose images may still be missing.
    pub unsettled: Vec<PodId>,
    pub used: Resources,
}

impl Pod {
    /// Whether somebody intends it for a request.
    pub fn is_promised(&self) -> bool {
        matches!(self.nominated, Some(Place::Request(_)))
    }
}

impl Crowd {
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    pub fn size(&self) -> u32 {
        self.waiting + self.bound
    }

    /// One pod more, that waits or runs on a node.
    fn join(&mut self, node: Option<SiteId>) {
        let Some(node) = node else {
            self.waiting += 1;
            return;
        };
        self.bound += 1;
        *self.nodes.entry(node).or_default() += 1;
    }
}

impl Load {
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// A pod's images are there; true when that is news.
    pub fn settle(&mut self, pod: PodId) -> bool {
        remove(&mut self.unsettled, pod)
    }
}

/// Takes a pod out of a hundred; true when it was there.
fn remove(pods: &mut Vec<PodId>, pod: PodId) -> bool {
    let place = pods.iter().position(|known| *known == pod);
    place.is_some_and(|place| {
        pods.swap_remove(place);
        true
    })
}

impl Waiting {
    fn of(template: &Arc<Template>) -> Self {
        Self {
            template: Arc::clone(template),
            pods: BTreeSet::new(),
            promised: BTreeSet::new(),
            ages: BTreeMap::new(),
        }
    }

    /// Since when the first of them waits.
    pub fn since(&self) -> Option<Timestamp> {
        self.ages.keys().next().copied()
    }

    fn join(&mut self, id: PodId, pod: &Pod) {
        let members = if pod.is_promised() {
            &mut self.promised
        } else {
            &mut self.pods
        };
        members.insert((Arc::clone(&pod.name), id));
        *self.ages.entry(pod.waits).or_default() += 1;
    }

    fn leave(&mut self, id: PodId, pod: &Pod) {
        let member = (Arc::clone(&pod.name), id);
        if (self.pods.remove(&member) || self.promised.remove(&member))
            && let Some(as_old) = self.ages.get_mut(&pod.waits)
        {
            *as_old -= 1;
            if *as_old == 0 {
                self.ages.remove(&pod.waits);
            }
        }
    }
}

/// What a pod takes of a node; every pod takes one of its pod places.
pub fn taken(needs: &PodNeeds) -> Resources {
    let mut taken = needs.requests.clone();
    taken.pods = taken.pods.max(1);
    taken
}

impl Cluster {
    pub(super) fn pod_wanted(&mut self, fact: &PodWanted, gated: bool, at: Timestamp) -> Applied {
        if self.gone.pods.knows(&fact.pod.uid) {
            return STALE;
        }
        let owner = fact.owner.as_ref();
        let (mut first_seen, mut ungated) = (at, false);
        if let Some(id) = self.pods.id(&fact.pod.uid) {
            let generation = self.generation(Family::Pods);
            let pod = &mut self.pods[id];
            pod.generation = generation;
            if at < pod.seen {
                return STALE;
            }
            pod.seen = at;
            let same = match pod.phase {
                Phase::Bound { .. } => return KNOWN,
                // Gates are only ever taken off.
                Phase::Waiting { gated: was } => was == gated || gated,
            };
            ungated = pod.phase == (Phase::Waiting { gated: true }) && !gated;
            if same && self.is_as_told(id, owner, &fact.needs) {
                return KNOWN;
            }
            first_seen = self.take_out(id);
        }
        let id = self.put_in(&fact.pod, owner, &fact.needs, (first_seen, at));
        if ungated {
            self.pods[id].waits = at;
        }
        self.set_phase(id, Phase::Waiting { gated });
        Applied::Changed
    }

    pub(super) fn pod_bound(&mut self, fact: &PodBound, signal: &Signal) -> Applied {
        if self.gone.pods.knows(&fact.pod.uid) {
            return STALE;
        }
        let at = signal.observedtime;
        let owner = fact.owner.as_ref();
        let known = self.pods.id(&fact.pod.uid);
        if let Some(id) = known {
            let generation = self.generation(Family::Pods);
            let pod = &mut self.pods[id];
            pod.generation = generation;
            if let Phase::Bound { node, .. } = pod.phase {
                if *self.nodes[node].name == *fact.node {
                    return KNOWN;
                }
                if at < pod.seen {
                    return STALE;
                }
            }
        }
        let node = self.nodes.enter(&fact.node);
        let id = match known {
            Some(id) => self.rebind(id, node, fact, at),
            None => self.put_in(&fact.pod, owner, &fact.needs, (at, at)),
        };
        let time = signal.time;
        self.set_phase(id, Phase::Bound { node, at: time });
        if !self.is_resident(node) {
            let settle = Duration::from_secs_f64(self.model.times.settle_s.max(0.0));
            let wake = Wake::Node(Arc::clone(&self.nodes[node].name));
            self.marks.wake(time + settle, wake);
        }
        self.note_use(node, id, signal);
        let images = Arc::clone(&self.pods[id].template.images);
        self.settle_true(node, &images, at);
        Applied::Changed
    }

    /// A known pod is about to be bound to a node; the number that it has from then on.
    fn rebind(&mut self, id: PodId, node: SiteId, fact: &PodBound, at: Timestamp) -> PodId {
        self.note_order(id, node, at);
        self.note_promise(id, node);
        let owner = fact.owner.as_ref();
        if self.is_as_told(id, owner, &fact.needs) {
            self.leave_phase(id);
            let pod = &mut self.pods[id];
            (pod.seen, pod.nominated) = (at, None);
            pod.first_seen = pod.first_seen.min(at);
            return id;
        }
        let first_seen = self.take_out(id);
        self.put_in(&fact.pod, owner, &fact.needs, (first_seen, at))
    }

    pub(super) fn pod_started(&mut self, pod: &PodRef, at: Timestamp) -> Applied {
        let Some(id) = self.pods.id(&pod.uid) else {
            return Applied::Ignored("start of an unknown pod");
        };
        let Phase::Bound { node, .. } = self.pods[id].phase else {
            return Applied::Ignored("start of a pod that is not bound");
        };
        let mut changed = false;
        let site = &mut self.nodes[node];
        if let Some(there) = &mut site.node {
            for use_ in &self.pods[id].template.needs.images {
                changed |= there.present.seen(&use_.image, at);
            }
            changed |= site.load.settle(id);
        }
        if !changed {
            return KNOWN;
        }
        self.marks.nodes.insert(node);
        Applied::Changed
    }

    pub(super) fn pod_removed(&mut self, pod: &PodRef, at: Timestamp) -> Applied {
        let Some(id) = self.pods.id(&pod.uid) else {
            self.gone.pods.note(pod.uid.as_str(), at);
            return Applied::Ignored("removal of an unknown pod");
        };
        self.gone.pods.note(Arc::clone(&self.pods[id].uid), at);
        self.take_out(id);
        Applied::Changed
    }

    pub(super) fn sweep_pods(&mut self, current: u32, now: Timestamp) {
        let old = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.generation != current);
        let mut gone: Vec<(Arc<str>, PodId)> =
            old.map(|(id, pod)| (Arc::clone(&pod.uid), id)).collect();
        gone.sort();
        for (uid, id) in gone {
            self.gone.pods.note(uid, now);
            self.take_out(id);
        }
    }

    /// The pods on a node, in no order.
    pub(super) fn pods_on(&self, site: SiteId) -> impl Iterator<Item = &Pod> {
        let load = &self.nodes[site].load;
        load.pods.iter().map(|id| &self.pods[*id])
    }

    /// Whether a pod is known with this owner and these needs.
    fn is_as_told(&self, id: PodId, owner: Option<&WorkloadRef>, needs: &PodNeeds) -> bool {
        let (pod, shared) = (&self.pods[id], without_own_node(needs));
        pod.owner.as_deref() == owner && pod.template.needs == *shared.as_ref().unwrap_or(needs)
    }

    fn put_in(
        &mut self,
        pod: &PodRef,
        owner: Option<&WorkloadRef>,
        needs: &PodNeeds,
        (first_seen, at): (Timestamp, Timestamp),
    ) -> PodId {
        let shared = without_own_node(needs);
        let needs = shared.as_ref().unwrap_or(needs);
        // Most pods are of the template that their owner has now: comparing costs a third of a print.
        let owned = owner.map(|owner| self.owners.enter(owner));
        let usual = owned.and_then(|id| self.owners[id].state.as_ref());
        let usual = usual.map(|state| &state.template);
        let (template, new) = match usual.filter(|template| template.needs == *needs) {
            Some(template) => (self.templates.again(template), false),
            None => self.templates.acquire(needs),
        };
        if new {
            self.images.add_template(&template, at);
        }
        let pod = Pod {
            uid: pod.uid.as_str().into(),
            name: pod.name.as_str().into(),
            owner: owned.map(|id| Arc::clone(&self.owners[id].name)),
            owned,
            template,
            phase: Phase::Waiting { gated: true },
            nominated: None,
            first_seen: at.min(first_seen),
            waits: at.min(first_seen),
            seen: at,
            generation: self.generation(Family::Pods),
        };
        self.fill_announcements(&pod);
        self.pods.put(pod)
    }

    /// Forgets a pod; says since when it was known.
    fn take_out(&mut self, id: PodId) -> Timestamp {
        self.leave_phase(id);
        let pod = self.pods.take(id);
        if let Some(owner) = pod.owned {
            self.refresh_wish(owner);
            self.owners.note_left(owner);
        }
        if self.templates.release(&pod.template) {
            self.images.drop_template(&pod.template, pod.seen);
        }
        pod.first_seen
    }

    /// Enters the indexes of a phase.
    pub(super) fn set_phase(&mut self, id: PodId, phase: Phase) {
        let pod = &mut self.pods[id];
        pod.phase = phase;
        let owner = pod.owned;
        let daemon = owner.is_some_and(|id| self.owners[id].daemon);
        match phase {
            Phase::Waiting { gated } => {
                if let Some(place) = &pod.nominated {
                    let place = place.clone();
                    if pod.is_promised() && !daemon {
                        let key = (owner, pod.template.print, gated);
                        self.marks.groups.insert(Mark::Waiting(key));
                        let waiting = self.waiting.entry(key);
                        let waiting = waiting.or_insert_with(|| Waiting::of(&pod.template));
                        waiting.join(id, pod);
                    }
                    self.nominated
                        .entry(place.clone())
                        .or_default()
                        .insert((Arc::clone(&pod.uid), id));
                    self.mark_place(&place);
                } else if !daemon {
                    let key = (owner, pod.template.print, gated);
                    let waiting = self.waiting.entry(key);
                    let waiting = waiting.or_insert_with(|| Waiting::of(&pod.template));
                    waiting.join(id, pod);
                    self.marks.groups.insert(Mark::Waiting(key));
                }
                if let Some(owner) = owner {
                    self.join_crowd(owner, None);
                }
            }
            Phase::Bound { node, .. } => {
                let taken = taken(&pod.template.needs);
                let load = &mut self.nodes[node].load;
                load.pods.push(id);
                load.unsettled.push(id);
                load.used = load.used.plus(&taken);
                if let Some(owner) = owner {
                    self.join_crowd(owner, Some(node));
                }
                self.mark_load(node, &taken, true);
            }
        }
        if let Some(owner) = owner {
            self.refresh_wish(owner);
        }
    }

    /// Leaves the indexes of the phase that the pod is in; what its workload lacks is left to the caller.
    pub(super) fn leave_phase(&mut self, id: PodId) {
        let pod = &self.pods[id];
        let owner = pod.owned;
        match &pod.phase {
            Phase::Waiting { gated } => {
                let key = (owner, pod.template.print, *gated);
                if let Some(waiting) = self.waiting.get_mut(&key) {
                    waiting.leave(id, pod);
                    if waiting.pods.is_empty() && waiting.promised.is_empty() {
                        self.waiting.remove(&key);
                    }
                    self.marks.groups.insert(Mark::Waiting(key));
                }
                if let Some(place) = pod.nominated.clone() {
                    if let Some(pods) = self.nominated.get_mut(&place) {
                        pods.remove(&(Arc::clone(&pod.uid), id));
                        if pods.is_empty() {
                            self.nominated.remove(&place);
                        }
                    }
                    self.mark_place(&place);
                }
                self.leave_crowd(owner, None);
            }
            Phase::Bound { node, .. } => {
                let (node, taken) = (*node, taken(&pod.template.needs));
                let load = &mut self.nodes[node].load;
                remove(&mut load.pods, id);
                remove(&mut load.unsettled, id);
                load.used = load.used.minus(&taken);
                if load.is_empty() {
                    load.used = Resources::default();
                    self.nodes.note_left(node);
                }
                self.mark_load(node, &taken, false);
                self.leave_crowd(owner, Some(node));
            }
        }
    }

    fn join_crowd(&mut self, owner: OwnerId, node: Option<SiteId>) {
        let crowd = &mut self.owners[owner].crowd;
        crowd.join(node);
        if crowd.size() == 1 {
            self.owners.crowds += 1;
            self.note_crowd(owner);
        }
    }

    /// A workload has its first pod, or had its last: one that asks for none counts as long as it has
    /// some.
    fn note_crowd(&mut self, owner: OwnerId) {
        let asks = |state: &WorkloadState| state.replicas > 0;
        if !self.owners[owner].state.as_ref().is_none_or(asks) {
            self.note_turn();
        }
    }

    fn leave_crowd(&mut self, owner: Option<OwnerId>, node: Option<SiteId>) {
        let Some(owner) = owner else { return };
        let crowd = &mut self.owners[owner].crowd;
        if crowd.is_empty() {
            return;
        }
        match node {
            None => crowd.waiting = crowd.waiting.saturating_sub(1),
            Some(node) => {
                crowd.bound = crowd.bound.saturating_sub(1);
                if let Some(here) = crowd.nodes.get_mut(&node) {
                    *here -= 1;
                    if *here == 0 {
                        crowd.nodes.remove(&node);
                    }
                }
            }
        }
        if crowd.is_empty() {
            self.owners.crowds -= 1;
            self.note_crowd(owner);
        }
    }

    fn mark_place(&mut self, place: &Place) {
        match place {
            Place::Node(node) => {
                self.marks.nodes.extend(self.nodes.id(node));
            }
            Place::Request(request) => {
                if let Some(request) = self.requests.get(&**request) {
                    let pool = Arc::clone(&request.pool);
                    self.mark_pool(&pool, Reach::Coming);
                }
            }
        }
    }
}

/// A DaemonSet's pod requires its own node by name; without that all its pods have one template.
/// Missing where there is nothing to leave out.
fn without_own_node(needs: &PodNeeds) -> Option<PodNeeds> {
    let names_node = |requirement: &Requirement| requirement.key == "metadata.name";
    if !needs.affinity.iter().flatten().any(names_node) {
        return None;
    }
    let mut shared = needs.clone();
    for term in &mut shared.affinity {
        term.retain(|requirement| !names_node(requirement));
    }
    // An empty term would hold nowhere; here it holds everywhere, so the others say nothing.
    if shared.affinity.iter().any(Vec::is_empty) {
        shared.affinity.clear();
    }
    Some(shared)
}
