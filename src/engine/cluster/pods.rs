//! Pods: who waits, who runs where, and how much of each node is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::node::Resources;
use crate::domain::signal::{PodBound, PodWanted, Signal};
use crate::domain::time::Timestamp;
use crate::domain::workload::{PodNeeds, PodRef, Requirement, WorkloadRef};
use crate::forecast::demand::Template;

use super::groups::Source;
use super::workloads::WorkloadState;
use super::{Applied, Cluster, Family, KNOWN, Reach, STALE, Wake};

/// One pod: its strings and template are shared.
#[derive(Debug)]
pub struct Pod {
    pub name: Arc<str>,
    pub owner: Option<Arc<WorkloadRef>>,
    pub template: Arc<Template>,
    pub phase: Phase,
    pub(super) nominated: Option<Place>,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    seen: Timestamp,
    generation: u32,
}

/// Where a pod is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No node yet; `gated` by its own scheduling gates.
    Waiting { gated: bool },
    /// On a node since `at`.
    Bound { node: Arc<str>, at: Timestamp },
}

/// A node, or a request that is no node yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Node(Arc<str>),
    Request(Arc<str>),
}

/// Owner, fingerprint of the template, gated.
pub type WaitingKey = (Option<Arc<WorkloadRef>>, u64, bool);

/// Waiting pods of one kind.
#[derive(Debug)]
pub struct Waiting {
    pub template: Arc<Template>,
    /// (name, uid)
    pub pods: BTreeSet<(Arc<str>, Arc<str>)>,
    /// (name, uid) of those that somebody intends for a request; the scheduler knows nothing of it.
    pub promised: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Since when how many of both wait.
    ages: BTreeMap<Timestamp, u32>,
}

/// The pods of one owner.
#[derive(Debug, Default)]
pub struct Crowd {
    pub waiting: u32,
    pub bound: u32,
    /// How many of them run on which node.
    pub nodes: BTreeMap<Arc<str>, u32>,
}

/// The pods of one node.
#[derive(Debug, Default)]
pub struct Load {
    pub pods: Uids,
    /// Of those, the ones whose images may still be missing.
    pub unsettled: Uids,
    pub used: Resources,
}

/// Uids of a node's pods, each the one shared copy, in no order. They are found by their addresses: a
/// hundred of those are read faster than the texts that a search in an ordered set compares.
#[derive(Debug, Default)]
pub struct Uids(Vec<Arc<str>>);

impl Pod {
    /// Whether somebody intends it for a request.
    pub fn is_promised(&self) -> bool {
        matches!(self.nominated, Some(Place::Request(_)))
    }
}

impl Crowd {
    /// One pod more, that waits or runs on a node.
    fn join(&mut self, node: Option<&Arc<str>>) {
        let Some(node) = node else {
            self.waiting += 1;
            return;
        };
        self.bound += 1;
        *self.nodes.entry(Arc::clone(node)).or_default() += 1;
    }
}

impl Uids {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    fn insert(&mut self, uid: &Arc<str>) {
        self.0.push(Arc::clone(uid));
    }

    /// Takes out the shared copy; true when it was there.
    pub fn remove(&mut self, uid: &Arc<str>) -> bool {
        let place = self.0.iter().position(|known| Arc::ptr_eq(known, uid));
        place.is_some_and(|place| {
            self.0.swap_remove(place);
            true
        })
    }
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

    fn join(&mut self, uid: &Arc<str>, pod: &Pod) {
        let members = if pod.is_promised() {
            &mut self.promised
        } else {
            &mut self.pods
        };
        members.insert((Arc::clone(&pod.name), Arc::clone(uid)));
        *self.ages.entry(pod.first_seen).or_default() += 1;
    }

    fn leave(&mut self, uid: &Arc<str>, pod: &Pod) {
        let member = (Arc::clone(&pod.name), Arc::clone(uid));
        if (self.pods.remove(&member) || self.promised.remove(&member))
            && let Some(as_old) = self.ages.get_mut(&pod.first_seen)
        {
            *as_old -= 1;
            if *as_old == 0 {
                self.ages.remove(&pod.first_seen);
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
        let uid = self.shared_uid(&fact.pod.uid);
        let generation = self.generation(Family::Pods);
        if let Some(pod) = self.pods.get_mut(&uid) {
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
            if same && self.is_as_told(&uid, fact.owner.as_ref(), &fact.needs) {
                return KNOWN;
            }
        }
        let first_seen = self.take_out(&uid).unwrap_or(at);
        let owner = fact.owner.as_ref();
        self.put_in((&uid, &fact.pod.name), owner, &fact.needs, (first_seen, at));
        self.set_phase(&uid, Phase::Waiting { gated });
        Applied::Changed
    }

    pub(super) fn pod_bound(&mut self, fact: &PodBound, signal: &Signal) -> Applied {
        if self.gone.pods.knows(&fact.pod.uid) {
            return STALE;
        }
        let uid = self.shared_uid(&fact.pod.uid);
        let generation = self.generation(Family::Pods);
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.generation = generation;
            if matches!(&pod.phase, Phase::Bound { node, .. } if **node == *fact.node) {
                return KNOWN;
            }
            if signal.observedtime < pod.seen && matches!(pod.phase, Phase::Bound { .. }) {
                return STALE;
            }
        }
        let at = signal.observedtime;
        let node = self.node_name(&fact.node);
        self.note_order(&uid, &node, at);
        self.note_promise(&uid, &node);
        let owner = fact.owner.as_ref();
        if self.is_as_told(&uid, owner, &fact.needs) {
            self.leave_phase(&uid);
            if let Some(pod) = self.pods.get_mut(&uid) {
                (pod.seen, pod.nominated) = (at, None);
                pod.first_seen = pod.first_seen.min(at);
            }
        } else {
            let first_seen = self.take_out(&uid).unwrap_or(at);
            self.put_in((&uid, &fact.pod.name), owner, &fact.needs, (first_seen, at));
        }
        self.set_phase(
            &uid,
            Phase::Bound {
                node: Arc::clone(&node),
                at: signal.time,
            },
        );
        if !self.is_resident(&node) {
            let settle = Duration::from_secs_f64(self.model.times.settle_s.max(0.0));
            let wake = Wake::Node(Arc::clone(&node));
            self.marks.wake(signal.time + settle, wake);
        }
        self.note_use(&node, &uid, signal);
        if let Some(images) = self
            .pods
            .get(&uid)
            .map(|pod| Arc::clone(&pod.template.images))
        {
            self.settle_true(&node, &images, at);
        }
        Applied::Changed
    }

    pub(super) fn pod_started(&mut self, pod: &PodRef) -> Applied {
        let Some((uid, known)) = self.pods.get_key_value(pod.uid.as_str()) else {
            return Applied::Ignored("start of an unknown pod");
        };
        let Phase::Bound { node, .. } = &known.phase else {
            return Applied::Ignored("start of a pod that is not bound");
        };
        let (node, template) = (Arc::clone(node), Arc::clone(&known.template));
        let mut changed = false;
        if let Some(there) = self.nodes.get_mut(&node) {
            for use_ in &template.needs.images {
                changed |= there.present.insert(use_.image.clone());
            }
        }
        if let Some(load) = self.loads.get_mut(&node)
            && self.nodes.contains_key(&node)
        {
            changed |= load.unsettled.remove(uid);
        }
        if !changed {
            return KNOWN;
        }
        self.marks.nodes.insert(node);
        Applied::Changed
    }

    pub(super) fn pod_removed(&mut self, pod: &PodRef, at: Timestamp) -> Applied {
        let uid = self.shared_uid(&pod.uid);
        self.gone.pods.note(Arc::clone(&uid), at);
        if !self.pods.contains_key(&uid) {
            return Applied::Ignored("removal of an unknown pod");
        }
        self.take_out(&uid);
        Applied::Changed
    }

    pub(super) fn sweep_pods(&mut self, current: u32, now: Timestamp) {
        let old = |pod: &&Pod| pod.generation != current;
        let mut gone: Vec<Arc<str>> = self
            .pods
            .iter()
            .filter(|(_, pod)| old(pod))
            .map(|(uid, _)| Arc::clone(uid))
            .collect();
        gone.sort();
        for uid in gone {
            self.gone.pods.note(Arc::clone(&uid), now);
            self.take_out(&uid);
        }
    }

    /// The one shared copy of a pod's uid.
    pub(super) fn shared_uid(&self, uid: &str) -> Arc<str> {
        let known = self.pods.get_key_value(uid);
        known.map_or_else(|| uid.into(), |(uid, _)| Arc::clone(uid))
    }

    /// The pods on a node, in no order.
    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.loads
            .get(node)
            .into_iter()
            .flat_map(|load| load.pods.iter())
            .filter_map(|uid| self.pods.get(uid))
    }

    /// The pods on a node whose images may still be missing, in no order.
    pub(super) fn unsettled_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        let load = self.loads.get(node).into_iter();
        load.flat_map(|load| load.unsettled.iter())
            .filter_map(|uid| self.pods.get(uid))
    }

    /// Whether a pod is known with this owner and these needs.
    fn is_as_told(&self, uid: &str, owner: Option<&WorkloadRef>, needs: &PodNeeds) -> bool {
        self.pods.get(uid).is_some_and(|pod| {
            let shared = without_own_node(needs);
            pod.owner.as_deref() == owner && pod.template.needs == *shared.as_ref().unwrap_or(needs)
        })
    }

    fn put_in(
        &mut self,
        (uid, name): (&Arc<str>, &str),
        owner: Option<&WorkloadRef>,
        needs: &PodNeeds,
        (first_seen, at): (Timestamp, Timestamp),
    ) {
        let shared = without_own_node(needs);
        let needs = shared.as_ref().unwrap_or(needs);
        // Most pods are of the template that their owner has now: comparing costs a third of a print.
        let usual = owner.and_then(|owner| self.workloads.get(owner));
        let usual = usual.map(|state| &state.template);
        let (template, new) = match usual.filter(|template| template.needs == *needs) {
            Some(template) => (self.templates.again(template), false),
            None => self.templates.acquire(needs),
        };
        if new {
            self.images.add_template(&template, at);
        }
        let owner = owner.map(|owner| {
            self.crowds
                .get_key_value(owner)
                .map_or_else(|| Arc::new(owner.clone()), |(known, _)| Arc::clone(known))
        });
        let pod = Pod {
            name: name.into(),
            owner,
            template,
            phase: Phase::Waiting { gated: true },
            nominated: None,
            first_seen: at.min(first_seen),
            seen: at,
            generation: self.generation(Family::Pods),
        };
        self.fill_announcements(uid, &pod);
        self.pods.insert(Arc::clone(uid), pod);
    }

    /// Forgets a pod; when it was known, says since when.
    fn take_out(&mut self, uid: &Arc<str>) -> Option<Timestamp> {
        self.leave_phase(uid);
        let pod = self.pods.remove(uid)?;
        if let Some(owner) = &pod.owner {
            self.refresh_wish(owner);
        }
        if self.templates.release(&pod.template) {
            self.images.drop_template(&pod.template, pod.seen);
        }
        Some(pod.first_seen)
    }

    /// Enters the indexes of a phase.
    pub(super) fn set_phase(&mut self, uid: &Arc<str>, phase: Phase) {
        let Some(pod) = self.pods.get_mut(uid) else {
            return;
        };
        pod.phase = phase.clone();
        let owner = pod.owner.clone();
        match phase {
            Phase::Waiting { gated } => {
                if let Some(place) = &pod.nominated {
                    let place = place.clone();
                    let daemon = owner
                        .as_ref()
                        .is_some_and(|owner| owner.kind == "DaemonSet");
                    if pod.is_promised() && !daemon {
                        let key = (owner.clone(), pod.template.print, gated);
                        let source = Source::waiting(key.clone());
                        self.marks.groups.insert(source);
                        let waiting = self.waiting.entry(key);
                        let waiting = waiting.or_insert_with(|| Waiting::of(&pod.template));
                        waiting.join(uid, pod);
                    }
                    self.nominated
                        .entry(place.clone())
                        .or_default()
                        .insert(Arc::clone(uid));
                    self.mark_place(&place);
                } else if owner.as_ref().is_none_or(|owner| owner.kind != "DaemonSet") {
                    // A DaemonSet's pod waits for the one node that it was made for.
                    let key = (owner.clone(), pod.template.print, gated);
                    let source = Source::waiting(key.clone());
                    let waiting = self.waiting.entry(key);
                    let waiting = waiting.or_insert_with(|| Waiting::of(&pod.template));
                    waiting.join(uid, pod);
                    self.marks.groups.insert(source);
                }
                if let Some(owner) = &owner {
                    self.join_crowd(owner, None);
                }
            }
            Phase::Bound { node, .. } => {
                let taken = taken(&pod.template.needs);
                let load = self.loads.entry(Arc::clone(&node)).or_default();
                load.pods.insert(uid);
                load.unsettled.insert(uid);
                load.used = load.used.plus(&taken);
                if let Some(owner) = &owner {
                    self.join_crowd(owner, Some(&node));
                }
                self.mark_load(&node, &taken, true);
            }
        }
        if let Some(owner) = owner {
            self.refresh_wish(&owner);
        }
    }

    /// Leaves the indexes of the phase that the pod is in; what its workload lacks is left to the caller.
    pub(super) fn leave_phase(&mut self, uid: &Arc<str>) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        let owner = pod.owner.clone();
        match &pod.phase {
            Phase::Waiting { gated } => {
                let key = (owner.clone(), pod.template.print, *gated);
                if let Some(waiting) = self.waiting.get_mut(&key) {
                    waiting.leave(uid, pod);
                    if waiting.pods.is_empty() && waiting.promised.is_empty() {
                        self.waiting.remove(&key);
                    }
                    self.marks.groups.insert(Source::waiting(key));
                }
                if let Some(place) = pod.nominated.clone() {
                    if let Some(pods) = self.nominated.get_mut(&place) {
                        pods.remove(uid);
                        if pods.is_empty() {
                            self.nominated.remove(&place);
                        }
                    }
                    self.mark_place(&place);
                }
                self.leave_crowd(owner.as_ref(), None);
            }
            Phase::Bound { node, .. } => {
                let (node, taken) = (Arc::clone(node), taken(&pod.template.needs));
                if let Some(load) = self.loads.get_mut(&node) {
                    load.pods.remove(uid);
                    load.unsettled.remove(uid);
                    load.used = load.used.minus(&taken);
                    if load.pods.0.is_empty() {
                        self.loads.remove(&node);
                    }
                }
                self.mark_load(&node, &taken, false);
                self.leave_crowd(owner.as_ref(), Some(&node));
            }
        }
    }

    fn join_crowd(&mut self, owner: &Arc<WorkloadRef>, node: Option<&Arc<str>>) {
        if let Some(crowd) = self.crowds.get_mut(owner) {
            crowd.join(node);
            return;
        }
        let mut crowd = Crowd::default();
        crowd.join(node);
        self.crowds.insert(Arc::clone(owner), crowd);
        self.note_crowd(owner);
    }

    /// A workload has its first pod, or had its last: one that asks for none counts as long as it has
    /// some.
    fn note_crowd(&mut self, owner: &WorkloadRef) {
        let asks = |state: &WorkloadState| state.replicas > 0;
        if !self.workloads.get(owner).is_none_or(asks) {
            self.note_turn();
        }
    }

    fn leave_crowd(&mut self, owner: Option<&Arc<WorkloadRef>>, node: Option<&Arc<str>>) {
        let Some(owner) = owner else { return };
        let Some(crowd) = self.crowds.get_mut(owner) else {
            return;
        };
        match node {
            None => crowd.waiting = crowd.waiting.saturating_sub(1),
            Some(node) => {
                crowd.bound = crowd.bound.saturating_sub(1);
                if let Some(here) = crowd.nodes.get_mut(node) {
                    *here -= 1;
                    if *here == 0 {
                        crowd.nodes.remove(node);
                    }
                }
            }
        }
        if crowd.waiting == 0 && crowd.bound == 0 {
            self.crowds.remove(owner);
            self.note_crowd(owner);
        }
    }

    fn mark_place(&mut self, place: &Place) {
        match place {
            Place::Node(node) => {
                self.marks.nodes.insert(Arc::clone(node));
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
