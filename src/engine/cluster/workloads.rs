//! Workloads, their scalers, and what was announced: pods that do not exist yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::plan::{Plan, Target};
use crate::domain::signal::{Capacity, ImageResolved, ScaleLimit, Scaler, Workload};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::calendar::Calendar;
use crate::forecast::demand::Template;
use crate::forecast::scaler::ScalerTrack;

use super::ahead::track;
use super::groups::Mark;
use super::owners::{Owner, OwnerId};
use super::pods::Pod;
use super::{Applied, Cluster, Family, KNOWN, STALE};

/// A workload as last applied.
#[derive(Debug)]
pub struct WorkloadState {
    /// Its name as a text, shared by all reasons that tell it.
    pub name: Arc<str>,
    pub template: Arc<Template>,
    pub replicas: u32,
    pub updated: u32,
    pub idle: bool,
    /// When its pods start, where a calendar starts them.
    pub calendar: Option<Calendar>,
    schedule: (Option<String>, Option<String>),
    /// Pods that are wanted and do not exist.
    pub missing: u32,
    /// Pods of an older template that will be replaced.
    pub outdated: u32,
    /// Whether it runs pods of an older template.
    rolling: bool,
    seen: Timestamp,
    generation: u32,
}

/// A scaler as last seen.
#[derive(Debug)]
pub struct ScalerState {
    pub scaler: Scaler,
    /// What it scales.
    pub target: OwnerId,
    pub track: ScalerTrack,
    seen: Timestamp,
    generation: u32,
}

/// An announcement as last made.
#[derive(Debug)]
pub struct Announcement {
    pub capacity: Capacity,
    pub template: Option<Arc<Template>>,
    /// Pods that came for it.
    pub filled: BTreeSet<Arc<str>>,
    since: Timestamp,
    seen: Timestamp,
    generation: u32,
}

/// An HPA leaves a ratio within 10 % of 1 alone (Kubernetes documentation, "Algorithm details").
const TOLERANCE: f64 = 1.1;

impl ScalerState {
    /// Replicas that the scaler will want: what it asks for, or what its metric says already,
    /// whichever is more. `ceil(current x ratio)` is ahead of `desired` while a scale-up policy
    /// holds it back.
    pub fn wish(&self) -> u32 {
        let scaler = &self.scaler;
        let raw = match scaler.ratio {
            Some(ratio) if ratio.is_finite() && ratio > TOLERANCE => {
                (f64::from(scaler.current) * ratio).ceil().min(1e6) as u32
            }
            _ => 0,
        };
        let held_back = matches!(scaler.limited, Some(ScaleLimit::ScaleUpLimit));
        let ahead = if held_back {
            raw
        } else {
            raw.min(scaler.desired.max(scaler.current))
        };
        let most = if scaler.max > 0 { scaler.max } else { u32::MAX };
        scaler.desired.max(ahead).max(scaler.min).min(most)
    }
}

impl Cluster {
    pub(super) fn workload_applied(&mut self, fact: &Workload, at: Timestamp) -> Applied {
        if self.gone.workloads.after(&fact.workload.to_string(), at) {
            return STALE;
        }
        let generation = self.workload_generation(&fact.workload.kind);
        let id = self.owners.enter(&fact.workload);
        if let Some(known) = &mut self.owners[id].state {
            known.generation = generation;
            if at < known.seen {
                return STALE;
            }
            known.seen = at;
            if known.template.needs == fact.needs
                && (&known.schedule.0, &known.schedule.1) == (&fact.schedule, &fact.time_zone)
                && (known.replicas, known.updated, known.idle)
                    == (fact.replicas, fact.updated, fact.idle)
            {
                return KNOWN;
            }
        }
        let (template, new) = self.templates.acquire(&fact.needs);
        if new {
            self.images.add_template(&template, at);
        }
        // What was counted stays until it is counted anew, or nobody would see the difference.
        let counted = self.owners[id].state.as_ref();
        let (missing, outdated) = counted.map_or((0, 0), |old| (old.missing, old.outdated));
        let name = counted.map(|old| Arc::clone(&old.name));
        let state = WorkloadState {
            name: name.unwrap_or_else(|| fact.workload.to_string().into()),
            template: Arc::clone(&template),
            replicas: fact.replicas,
            updated: fact.updated,
            idle: fact.idle,
            // An expression that cannot be read is left to history.
            calendar: fact
                .schedule
                .as_deref()
                .and_then(|text| Calendar::parse(text, fact.time_zone.as_deref()).ok()),
            schedule: (fact.schedule.clone(), fact.time_zone.clone()),
            missing,
            outdated,
            rolling: counted.is_some_and(|old| old.rolling),
            seen: at,
            generation,
        };
        let old = self.owners.apply(id, state);
        if old
            .as_ref()
            .is_some_and(|old| (old.replicas == 0) != (fact.replicas == 0))
        {
            self.note_turn();
        }
        let turned = old
            .as_ref()
            .is_none_or(|old| old.template.print != template.print || old.idle != fact.idle);
        if let Some(old) = old {
            self.release(&old.template, at);
        }
        if turned {
            self.mark_template_change(id);
            self.mark_workload(id);
        }
        self.mark_calendar(id);
        self.refresh_wish(id);
        let owner = &mut self.owners[id];
        if self.model.uses.scalers && !owner.scalers.is_empty() {
            self.looks.look_at((id, owner), at);
        }
        Applied::Changed
    }

    pub(super) fn workload_removed(&mut self, workload: &WorkloadRef, at: Timestamp) -> Applied {
        self.gone.workloads.note(workload.to_string(), at);
        let known = self.owners.id(workload);
        let known = known.and_then(|id| Some((id, self.owners[id].state.as_ref()?.seen)));
        match known {
            Some((_, seen)) if seen > at => STALE,
            Some((id, _)) => {
                self.drop_workload(id, at);
                Applied::Changed
            }
            None => Applied::Ignored("removal of an unknown workload"),
        }
    }

    pub(super) fn scaler_observed(&mut self, fact: &Scaler, at: Timestamp) -> Applied {
        let generation = self.generation(Family::Scalers);
        let id = self.owners.enter(&fact.scaler);
        let mut known = self.owners[id].scaler.as_mut();
        if let Some(known) = &mut known {
            known.generation = generation;
            if at < known.seen {
                return STALE;
            }
            known.seen = at;
        }
        let target = if let Some(known) = known.filter(|known| known.scaler.target == fact.target) {
            if numbers(&known.scaler) == numbers(fact) {
                return KNOWN;
            }
            // It says so every 15 s: its names are the ones that are there.
            take_numbers(&mut known.scaler, fact);
            track(&mut known.track, fact, at);
            known.target
        } else {
            self.put_scaler(id, fact, at)
        };
        // The others are looked at when they are told of.
        if self.refresh_wish(target) && self.model.uses.scalers {
            self.looks.look_at((target, &mut self.owners[target]), at);
        }
        Applied::Changed
    }

    /// A scaler that is new, or that scales something else than before; what it scales.
    fn put_scaler(&mut self, id: OwnerId, fact: &Scaler, at: Timestamp) -> OwnerId {
        let target = self.owners.enter(&fact.target);
        let old = self.owners.drop_scaler(id);
        let (left, mut known) = old.map_or((None, ScalerTrack::default()), |old| {
            (Some(old.target), old.track)
        });
        track(&mut known, fact, at);
        let state = ScalerState {
            scaler: fact.clone(),
            target,
            track: known,
            seen: at,
            generation: self.generation(Family::Scalers),
        };
        self.owners.put_scaler(id, state);
        if let Some(left) = left {
            self.leave_target(left);
        }
        target
    }

    pub(super) fn capacity_announced(&mut self, fact: &Capacity, at: Timestamp) -> Applied {
        let generation = self.generation(Family::Announcements);
        if self.gone.capacities.after(&fact.name, at) {
            return STALE;
        }
        if let Some(known) = self.announcements.get_mut(&fact.name) {
            known.generation = generation;
            if at < known.seen {
                return STALE;
            }
            known.seen = at;
            if known.capacity == *fact {
                return KNOWN;
            }
        }
        if fact.count == 0 {
            self.gone.capacities.note(fact.name.as_str(), at);
            if !self.announcements.contains_key(&fact.name) {
                return Applied::Ignored("withdrawal of an unknown announcement");
            }
            self.drop_announcement(&fact.name, at);
            return Applied::Changed;
        }
        let template = fact.needs.as_ref().map(|needs| {
            let (template, new) = self.templates.acquire(needs);
            if new {
                self.images.add_template(&template, at);
            }
            template
        });
        let announcement = Announcement {
            capacity: fact.clone(),
            template,
            filled: BTreeSet::new(),
            since: at,
            seen: at,
            generation,
        };
        let old = self.announcements.insert(fact.name.clone(), announcement);
        if let Some(old) = old {
            if let Some(new) = self.announcements.get_mut(&fact.name) {
                (new.filled, new.since) = (old.filled, old.since);
            }
            if let Some(template) = old.template {
                self.release(&template, at);
            }
        }
        let source = Mark::Announced(fact.name.clone());
        self.marks.groups.insert(source);
        Applied::Changed
    }

    pub(super) fn image_resolved(&mut self, fact: &ImageResolved, at: Timestamp) -> Applied {
        let model = &self.model.resolve;
        if !self
            .images
            .resolved(&fact.image, &fact.manifests, at, model)
        {
            return KNOWN;
        }
        let waiting = self.unresolved.remove(&fact.image).unwrap_or_default();
        let names_it = |plan: &&Plan| plan.entries.iter().any(|entry| entry.image == fact.image);
        let planned = self.plans.values().filter(names_it);
        let planned: Vec<Target> = planned.map(|plan| plan.target.clone()).collect();
        for target in waiting.iter().chain(&planned) {
            self.mark_target(target);
        }
        Applied::Changed
    }

    /// A pod with the images, or of the workload, that was announced: one less is to come.
    pub(super) fn fill_announcements(&mut self, pod: &Pod) {
        for (name, announcement) in &mut self.announcements {
            let of_workload = announcement.capacity.workload.as_ref();
            let meant = match (&announcement.template, of_workload) {
                (Some(template), _) => template.images == pod.template.images,
                (None, workload) => workload.is_some() && workload == pod.owner.as_deref(),
            };
            if meant
                && pod.first_seen >= announcement.since
                && announcement.filled.insert(Arc::clone(&pod.uid))
            {
                self.marks.groups.insert(Mark::Announced(name.clone()));
            }
        }
    }

    /// Works out what a workload lacks; marks the demand when that changed. Most pods and scalers
    /// change nothing of it: no set is looked into then.
    /// False where nobody told of the workload.
    pub(super) fn refresh_wish(&mut self, id: OwnerId) -> bool {
        let uses = &self.model.uses;
        let owner = &self.owners[id];
        let Some(state) = &owner.state else {
            return false;
        };
        let (mut missing, mut outdated) = (0, 0);
        if owner.counted && !state.idle {
            let there = owner.crowd.size();
            if uses.scalers {
                let scalers = owner.scalers.iter();
                let wishes = scalers.filter_map(|scaler| self.owners[*scaler].scaler.as_ref());
                let by_scaler = wishes.map(ScalerState::wish).max().unwrap_or(0);
                missing = by_scaler.max(state.replicas).saturating_sub(there);
            }
            if uses.rollouts {
                outdated = state.replicas.saturating_sub(state.updated).min(there);
            }
        }
        let rolling = outdated > 0 || (owner.daemon && state.updated < state.replicas);
        let counted = (missing, outdated);
        if (state.missing, state.outdated) == counted && state.rolling == rolling {
            return true;
        }
        let owner = &mut self.owners[id];
        let Some(state) = &mut owner.state else {
            return false;
        };
        if (state.missing, state.outdated) != counted {
            (state.missing, state.outdated) = counted;
            let groups = &mut self.marks.groups;
            groups.insert(Mark::Missing(id));
            groups.insert(Mark::Outdated(id));
            if counted == (0, 0) {
                self.wanting.remove(&id);
            } else {
                self.wanting.insert(id);
            }
        }
        if state.rolling != rolling {
            state.rolling = rolling;
            if rolling {
                self.rolling.insert(Arc::clone(&owner.name), id);
            } else {
                self.rolling.remove(&owner.name);
            }
        }
        true
    }

    pub(super) fn sweep_workloads(&mut self, kind: &str, current: u32, now: Timestamp) {
        let old = |owner: &Owner| {
            let state = owner.state.as_ref();
            owner.name.kind == kind && state.is_some_and(|state| state.generation != current)
        };
        let gone = self.owners.iter().filter(|(_, owner)| old(owner));
        let mut gone: Vec<_> = gone
            .map(|(id, owner)| (Arc::clone(&owner.name), id))
            .collect();
        gone.sort();
        for (name, id) in gone {
            self.gone.workloads.note(name.to_string(), now);
            self.drop_workload(id, now);
        }
    }

    pub(super) fn sweep_scalers(&mut self, current: u32) {
        let old = |owner: &Owner| {
            let scaler = owner.scaler.as_ref();
            scaler.is_some_and(|scaler| scaler.generation != current)
        };
        let gone = self.owners.iter().filter(|(_, owner)| old(owner));
        let mut gone: Vec<_> = gone
            .map(|(id, owner)| (Arc::clone(&owner.name), id))
            .collect();
        gone.sort();
        for (_, id) in gone {
            if let Some(scaler) = self.owners.drop_scaler(id) {
                self.leave_target(scaler.target);
            }
        }
    }

    pub(super) fn sweep_announcements(&mut self, current: u32, now: Timestamp) {
        let gone: Vec<String> = self
            .announcements
            .iter()
            .filter(|(_, state)| state.generation != current)
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.drop_announcement(&name, now);
        }
    }

    fn drop_workload(&mut self, id: OwnerId, at: Timestamp) {
        if let Some(state) = self.owners.withdraw(id) {
            self.release(&state.template, at);
        }
        let owner = &mut self.owners[id];
        self.wanting.remove(&id);
        self.rolling.remove(&owner.name);
        self.looks.forget((id, owner));
        self.series -= usize::from(owner.series.take().is_some());
        self.mark_calendar(id);
        self.mark_workload(id);
        self.mark_template_change(id);
    }

    fn drop_announcement(&mut self, name: &str, at: Timestamp) {
        if let Some(state) = self.announcements.remove(name)
            && let Some(template) = state.template
        {
            self.release(&template, at);
        }
        self.marks.groups.insert(Mark::Announced(name.to_owned()));
    }

    fn leave_target(&mut self, target: OwnerId) {
        let owner = &self.owners[target];
        if owner.scalers.is_empty() {
            self.looks.forget((target, &mut self.owners[target]));
            self.marks.groups.insert(Mark::Ahead(target));
            self.owners.note_left(target);
        }
        self.refresh_wish(target);
    }

    fn release(&mut self, template: &Arc<Template>, at: Timestamp) {
        if self.templates.release(template) {
            self.images.drop_template(template, at);
        }
    }

    /// A template began or ended: nodes that run the workload, and every new node, want another
    /// image.
    fn mark_template_change(&mut self, id: OwnerId) {
        let owner = &self.owners[id];
        if owner.daemon {
            self.daemonsets.remove(&owner.name);
            if owner.state.as_ref().is_some_and(|state| !state.idle) {
                self.daemonsets.insert(Arc::clone(&owner.name), id);
            }
        }
        self.marks.nodes.extend(owner.crowd.nodes.keys().copied());
        // A Job comes once: no history speaks of it, and its pods are counted by themselves.
        if owner.name.kind != "Job" {
            self.note_turn();
            self.mark_pools();
        }
    }

    fn mark_calendar(&mut self, id: OwnerId) {
        let state = self.owners[id].state.as_ref();
        let starts = state.is_some_and(|state| state.calendar.is_some() && !state.idle);
        if starts {
            self.calendars.insert(id);
            self.marks.timed = true;
        } else if self.calendars.remove(&id) {
            self.marks.groups.insert(Mark::Scheduled(id));
        }
    }

    /// Relists name the kind by a static text; kinds that nobody relists are never swept.
    fn workload_generation(&self, kind: &str) -> u32 {
        self.generations
            .iter()
            .find_map(|(family, generation)| match family {
                Family::Workloads(of) if *of == kind => Some(*generation),
                _ => None,
            })
            .unwrap_or(0)
    }
}

/// All but its names.
fn numbers(scaler: &Scaler) -> (u32, u32, u32, u32, Option<f64>, Option<ScaleLimit>) {
    let (current, desired) = (scaler.current, scaler.desired);
    let (min, max) = (scaler.min, scaler.max);
    (current, desired, min, max, scaler.ratio, scaler.limited)
}

fn take_numbers(known: &mut Scaler, fact: &Scaler) {
    (known.current, known.desired) = (fact.current, fact.desired);
    (known.min, known.max) = (fact.min, fact.max);
    (known.ratio, known.limited) = (fact.ratio, fact.limited);
}
