//! Every kind of pod that looks for a node, kept in order; only what was marked is counted anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::plan::{Priority, Reason};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::calendar::Calendar;
use crate::forecast::demand::{Group, Template};

use super::ahead::Look;
use super::owners::{Owner, OwnerId};
use super::pods::{Waiting, WaitingKey};
use super::{Cluster, Wake};

/// Whence a group comes. Groups stand in this order: those that wait come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Pods that wait, by owner and fingerprint of their template.
    Waiting(Option<Arc<WorkloadRef>>, u64),
    /// The same, held by gates of their own.
    Gated(Option<Arc<WorkloadRef>>, u64),
    /// Pods that a workload lacks.
    Missing(Arc<WorkloadRef>),
    /// Pods of an older template.
    Outdated(Arc<WorkloadRef>),
    /// Pods that scalers will ask for.
    Ahead(Arc<WorkloadRef>),
    /// An announcement, by name.
    Announced(String),
    /// Pods that a calendar starts.
    Scheduled(Arc<WorkloadRef>),
    /// Pods of a node that goes away.
    Drained(Arc<str>, Option<Arc<WorkloadRef>>, u64),
}

/// A group that is to be counted anew: its source, by number where that has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    Waiting(WaitingKey),
    Missing(OwnerId),
    Outdated(OwnerId),
    Ahead(OwnerId),
    Announced(String),
    Scheduled(OwnerId),
}

/// Groups in the order of their sources; at most one of each.
#[derive(Debug, Default)]
pub struct Groups {
    sources: Vec<Source>,
    /// The same as marks; none for those that are counted with all of their node's.
    marks: Vec<Option<Mark>>,
    list: Vec<Group>,
}

/// Templates that more, fewer or other pods ask for than before, by fingerprint.
pub type Turned = BTreeMap<u64, Turn>;

/// One of them.
#[derive(Debug)]
pub struct Turn {
    pub template: Arc<Template>,
    /// Pods of the largest group, before or after.
    pub most: f64,
}

// === impl Source ===

impl Source {
    /// Whether the group is counted with all of its node's.
    fn is_drained(&self) -> bool {
        matches!(self, Self::Drained(..))
    }
}

// === impl Mark ===

impl Mark {
    /// Whether the group changes with the time alone.
    fn is_timed(&self) -> bool {
        matches!(self, Self::Announced(_) | Self::Scheduled(_))
    }
}

// === impl Groups ===

impl Groups {
    /// The groups.
    pub fn list(&self) -> &[Group] {
        &self.list
    }

    /// Puts what a source says now in place of what it said; notes the templates for which that
    /// makes a difference.
    fn set(
        &mut self,
        (source, mark): (Source, Option<Mark>),
        group: Option<Group>,
        turned: &mut Turned,
    ) {
        let mut note = |group: &Group| {
            let turn = turned.entry(group.template.print).or_insert_with(|| Turn {
                template: Arc::clone(&group.template),
                most: 0.0,
            });
            turn.most = turn.most.max(group.count);
        };
        match (self.sources.binary_search(&source), group) {
            (Ok(at), Some(group)) => {
                if !same_pods(&self.list[at], &group) {
                    note(&self.list[at]);
                    note(&group);
                }
                self.list[at] = group;
            }
            (Ok(at), None) => {
                note(&self.list[at]);
                self.sources.remove(at);
                self.marks.remove(at);
                self.list.remove(at);
            }
            (Err(at), Some(group)) => {
                note(&group);
                self.sources.insert(at, source);
                self.marks.insert(at, mark);
                self.list.insert(at, group);
            }
            (Err(_), None) => {}
        }
    }

    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().flatten()
    }
}

/// Whether two groups of one source ask for the same; the pod that a reason names may be another.
fn same_pods(a: &Group, b: &Group) -> bool {
    let numbers = |group: &Group| (group.count.to_bits(), group.chance.to_bits());
    a.template.print == b.template.print
        && numbers(a) == numbers(b)
        && a.priority == b.priority
        && a.owner == b.owner
        && a.since == b.since
}

// === impl Cluster ===

impl Cluster {
    /// Counts anew what was marked.
    pub(super) fn renew_groups(&mut self, now: Timestamp) -> Turned {
        let mut turned = Turned::new();
        let mut marked = std::mem::take(&mut self.marks.groups);
        if std::mem::take(&mut self.marks.promised) {
            let promised = |waiting: &Waiting| !waiting.promised.is_empty();
            let kinds = self.waiting.iter().filter(|(_, kind)| promised(kind));
            marked.extend(kinds.map(|(key, _)| Mark::Waiting(*key)));
        }
        if std::mem::take(&mut self.marks.timed) {
            let timed = self.groups.marks().filter(|mark| mark.is_timed());
            marked.extend(timed.cloned());
            marked.extend(self.announcements.keys().cloned().map(Mark::Announced));
            marked.extend(self.calendars.iter().copied().map(Mark::Scheduled));
            if !self.calendars.is_empty() && self.model.uses.announcements {
                self.marks.wake(Calendar::next_look(now), Wake::Groups);
            }
        }
        for mark in marked {
            let group = self.group(&mark, now);
            let source = self.source(&mark);
            self.groups.set((source, Some(mark)), group, &mut turned);
        }
        if std::mem::take(&mut self.marks.drained) {
            self.renew_drained(&mut turned);
        }
        turned
    }

    /// Every group is to be counted anew.
    pub(super) fn mark_groups(&mut self) {
        let marks = &mut self.marks;
        marks.groups.extend(self.groups.marks().cloned());
        let waiting = self.waiting.keys();
        marks.groups.extend(waiting.map(|key| Mark::Waiting(*key)));
        for id in self.wanting.iter().copied() {
            marks.groups.insert(Mark::Missing(id));
            marks.groups.insert(Mark::Outdated(id));
        }
        let with_some = |owner: &Owner| owner.look.as_ref().is_some_and(Look::finds_some);
        let ahead = self.owners.iter().filter(|(_, owner)| with_some(owner));
        marks.groups.extend(ahead.map(|(id, _)| Mark::Ahead(id)));
        (marks.timed, marks.drained) = (true, true);
    }

    /// What a workload says of its pods is another than before.
    pub(super) fn mark_workload(&mut self, id: OwnerId) {
        let groups = &mut self.marks.groups;
        groups.insert(Mark::Missing(id));
        groups.insert(Mark::Outdated(id));
        groups.insert(Mark::Ahead(id));
        self.marks.timed = true;
    }

    fn source(&self, mark: &Mark) -> Source {
        let name = |id: OwnerId| Arc::clone(&self.owners[id].name);
        match mark {
            Mark::Waiting((owner, print, false)) => Source::Waiting(owner.map(name), *print),
            Mark::Waiting((owner, print, true)) => Source::Gated(owner.map(name), *print),
            Mark::Missing(id) => Source::Missing(name(*id)),
            Mark::Outdated(id) => Source::Outdated(name(*id)),
            Mark::Ahead(id) => Source::Ahead(name(*id)),
            Mark::Announced(text) => Source::Announced(text.clone()),
            Mark::Scheduled(id) => Source::Scheduled(name(*id)),
        }
    }

    fn group(&mut self, mark: &Mark, now: Timestamp) -> Option<Group> {
        let uses = &self.model.uses;
        match mark {
            Mark::Waiting(key) if uses.pods => self.waiting_group(*key),
            Mark::Missing(id) => {
                let count = self.owners[*id].state.as_ref()?.missing;
                self.lacking_group(*id, count, self.model.chances.wished, Reason::ScalerWish)
            }
            Mark::Outdated(id) => {
                let count = self.owners[*id].state.as_ref()?.outdated;
                self.lacking_group(*id, count, self.model.chances.rollout, Reason::Rollout)
            }
            Mark::Ahead(id) if uses.scalers => self.ahead_group(*id),
            Mark::Announced(name) if uses.announcements => self.announced_group(name, now),
            Mark::Scheduled(id) if uses.announcements => self.scheduled_group(*id, now),
            _ => None,
        }
    }

    fn waiting_group(&self, key: WaitingKey) -> Option<Group> {
        let (owner, _, gated) = key;
        let waiting = self.waiting.get(&key)?;
        let promised = waiting.promised.len() as f64 * (1.0 - self.kept());
        let count = waiting.pods.len() as f64 + promised;
        let first = waiting.pods.first().or(waiting.promised.first());
        let first = first.map(|(name, _)| Arc::clone(name));
        let (chance, priority) = if gated {
            (self.model.chances.gated, Priority::Predicted)
        } else {
            (1.0, Priority::Pending)
        };
        (count > 0.0).then(|| Group {
            template: Arc::clone(&waiting.template),
            owner: owner.map(|id| Arc::clone(&self.owners[id].name)),
            count,
            chance,
            reason: Reason::PendingPod(first.unwrap_or_default()),
            priority,
            since: waiting.since(),
        })
    }

    fn lacking_group(
        &self,
        id: OwnerId,
        count: u32,
        chance: f64,
        reason: fn(Arc<str>) -> Reason,
    ) -> Option<Group> {
        let owner = &self.owners[id];
        let state = owner.state.as_ref().filter(|_| count > 0)?;
        Some(Group {
            template: Arc::clone(&state.template),
            owner: Some(Arc::clone(&owner.name)),
            count: f64::from(count),
            chance,
            reason: reason(Arc::clone(&state.name)),
            priority: Priority::Predicted,
            since: None,
        })
    }

    fn announced_group(&mut self, name: &str, now: Timestamp) -> Option<Group> {
        let announcement = self.announcements.get(name)?;
        let capacity = &announcement.capacity;
        if let Some(at) = capacity.at {
            let seconds = |s: f64| Duration::from_secs_f64(s.max(0.0));
            let (from, until) = (
                at - seconds(self.model.times.window_s),
                at + seconds(self.model.times.request_s),
            );
            if now < from {
                self.marks.wake(from, Wake::Groups);
                return None;
            }
            if now > until {
                return None;
            }
            self.marks
                .wake(until + Duration::from_secs(1), Wake::Groups);
        }
        let announcement = self.announcements.get(name)?;
        let of_workload = announcement.capacity.workload.as_ref();
        let template = announcement.template.as_ref().or_else(|| {
            of_workload
                .and_then(|workload| self.owners.state(workload))
                .map(|state| &state.template)
        })?;
        let filled = announcement.filled.len() as u32;
        let count = announcement.capacity.count.saturating_sub(filled);
        // Spare room says how large a pod it is for, not that one will come.
        let spare = name.starts_with("CapacityBuffer/");
        let chances = &self.model.chances;
        let (chance, priority) = if spare {
            (chances.spare, Priority::Background)
        } else {
            (chances.announced, Priority::Predicted)
        };
        (count > 0).then(|| Group {
            template: Arc::clone(template),
            owner: of_workload.map(|workload| self.owner(workload)),
            count: f64::from(count),
            chance,
            reason: Reason::Announced(name.into()),
            priority,
            since: None,
        })
    }

    /// Pods that a calendar starts within the window.
    fn scheduled_group(&self, id: OwnerId, now: Timestamp) -> Option<Group> {
        let until = now + Duration::from_secs_f64(self.model.times.window_s.max(0.0));
        let owner = &self.owners[*self.calendars.get(&id)?];
        let state = owner.state.as_ref()?;
        let firings = state.calendar.as_ref().map_or(0, |c| c.firings(now, until));
        (firings > 0).then(|| Group {
            template: Arc::clone(&state.template),
            owner: Some(Arc::clone(&owner.name)),
            count: f64::from(firings) * f64::from(state.replicas.max(1)),
            chance: self.model.chances.scheduled,
            reason: Reason::Schedule(Arc::clone(&state.name)),
            priority: Priority::Predicted,
            since: None,
        })
    }

    /// Pods of nodes that go away and that no named node replaces.
    fn renew_drained(&mut self, turned: &mut Turned) {
        let known = self.groups.sources.iter().filter(|s| s.is_drained());
        let mut found: BTreeMap<Source, Option<Group>> =
            known.map(|source| (source.clone(), None)).collect();
        let leaving = self.leaving.iter().filter(|_| self.model.uses.pods);
        for node in leaving.filter(|node| !self.is_replaced(node)) {
            for (owner, template, count) in self.movable(node) {
                let source = Source::Drained(Arc::clone(node), owner.clone(), template.print);
                let group = Group {
                    template,
                    owner,
                    count,
                    chance: self.model.chances.drained,
                    reason: Reason::Replacement(Arc::clone(node)),
                    priority: Priority::Predicted,
                    since: None,
                };
                found.insert(source, Some(group));
            }
        }
        for (source, group) in found {
            self.groups.set((source, None), group, turned);
        }
    }

    fn is_replaced(&self, node: &str) -> bool {
        let requests = self.requests.values().map(|request| &request.replaces);
        let fresh = self
            .pools
            .values()
            .flat_map(|pool| &pool.fresh)
            .filter_map(|name| self.nodes.get(name))
            .map(|node| &node.replaces);
        requests
            .chain(fresh)
            .any(|replaces| replaces.as_deref() == Some(node))
    }
}
