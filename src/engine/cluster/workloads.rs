//! Workloads, their scalers, and what was announced: pods that do not exist yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::image::ImageRef;
use crate::domain::plan::{Plan, Target};
use crate::domain::signal::{Capacity, ImageResolved, ScaleLimit, Scaler, Workload};
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::forecast::calendar::Calendar;
use crate::forecast::demand::Template;
use crate::forecast::scaler::ScalerTrack;

use super::ahead::track;
use super::groups::Source;
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
        if let Some(known) = self.workloads.get_mut(&fact.workload) {
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
        let counted = self.workloads.get(&fact.workload);
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
        let old = self.workloads.insert(fact.workload.clone(), state);
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
            self.mark_template_change(&fact.workload);
            self.mark_workload(&fact.workload);
        }
        self.mark_calendar(&fact.workload);
        self.refresh_wish(&fact.workload);
        if self.model.uses.scalers && self.targets.contains_key(&fact.workload) {
            self.surpluses.look_at(&fact.workload, at);
        }
        Applied::Changed
    }

    pub(super) fn workload_removed(&mut self, workload: &WorkloadRef, at: Timestamp) -> Applied {
        self.gone.workloads.note(workload.to_string(), at);
        match self.workloads.get(workload) {
            Some(known) if known.seen > at => STALE,
            Some(_) => {
                self.drop_workload(workload, at);
                Applied::Changed
            }
            None => Applied::Ignored("removal of an unknown workload"),
        }
    }

    pub(super) fn scaler_observed(&mut self, fact: &Scaler, at: Timestamp) -> Applied {
        let generation = self.generation(Family::Scalers);
        if let Some(known) = self.scalers.get_mut(&fact.scaler) {
            known.generation = generation;
            if at < known.seen {
                return STALE;
            }
            known.seen = at;
            if known.scaler == *fact {
                return KNOWN;
            }
        }
        let known = self.scalers.get_mut(&fact.scaler);
        if let Some(known) = known.filter(|known| known.scaler.target == fact.target) {
            // It says so every 15 s: its names are the ones that are there.
            take_numbers(&mut known.scaler, fact);
            track(&mut known.track, fact, at);
        } else {
            self.put_scaler(fact, at, generation);
        }
        // The others are looked at when they are told of.
        if self.refresh_wish(&fact.target) && self.model.uses.scalers {
            self.surpluses.look_at(&fact.target, at);
        }
        Applied::Changed
    }

    /// A scaler that is new, or that scales something else than before.
    fn put_scaler(&mut self, fact: &Scaler, at: Timestamp, generation: u32) {
        let known = self.scalers.get_mut(&fact.scaler);
        let known = known.map(|known| std::mem::take(&mut known.track));
        let mut known = known.unwrap_or_default();
        track(&mut known, fact, at);
        let state = ScalerState {
            scaler: fact.clone(),
            track: known,
            seen: at,
            generation,
        };
        let old = self.scalers.insert(fact.scaler.clone(), state);
        let scalers = self.targets.entry(fact.target.clone()).or_default();
        scalers.insert(fact.scaler.clone());
        if let Some(old) = old {
            self.leave_target(&old.scaler.target, &fact.scaler);
        }
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
        let source = Source::Announced(fact.name.clone());
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

    pub(super) fn image_present(&mut self, node: &str, image: &ImageRef) -> Applied {
        let Some((name, there)) = self
            .nodes
            .get_key_value(node)
            .map(|(k, _)| Arc::clone(k))
            .and_then(|name| self.nodes.get_mut(node).map(|there| (name, there)))
        else {
            return Applied::Ignored("pull on an unknown node");
        };
        if !there.present.insert(image.clone()) {
            return KNOWN;
        }
        self.marks.nodes.insert(name);
        Applied::Changed
    }

    /// A pod with the images, or of the workload, that was announced: one less is to come.
    pub(super) fn fill_announcements(&mut self, uid: &str, pod: &Pod) {
        for (name, announcement) in &mut self.announcements {
            let of_workload = announcement.capacity.workload.as_ref();
            let meant = match (&announcement.template, of_workload) {
                (Some(template), _) => template.images == pod.template.images,
                (None, workload) => workload.is_some() && workload == pod.owner.as_deref(),
            };
            if meant
                && pod.first_seen >= announcement.since
                && announcement.filled.insert(uid.into())
            {
                self.marks.groups.insert(Source::Announced(name.clone()));
            }
        }
    }

    /// Works out what a workload lacks; marks the demand when that changed. Most pods and scalers
    /// change nothing of it: no set is looked into then.
    /// False where nobody told of the workload.
    pub(super) fn refresh_wish(&mut self, workload: &WorkloadRef) -> bool {
        let uses = &self.model.uses;
        let Some(state) = self.workloads.get_mut(workload) else {
            return false;
        };
        // Counted by nodes, or started by a calendar: replicas say nothing of pods to come.
        let daemon = workload.kind == "DaemonSet";
        let counted = !daemon && !matches!(workload.kind.as_str(), "CronJob" | "Job");
        let (mut missing, mut outdated) = (0, 0);
        if counted && !state.idle {
            let crowd = self.crowds.get(workload);
            let there = crowd.map_or(0, |crowd| crowd.waiting + crowd.bound);
            if uses.scalers {
                let scalers = self.targets.get(workload).into_iter().flatten();
                let by_scaler = scalers
                    .filter_map(|scaler| self.scalers.get(scaler))
                    .map(ScalerState::wish)
                    .max();
                missing = by_scaler
                    .unwrap_or(0)
                    .max(state.replicas)
                    .saturating_sub(there);
            }
            if uses.rollouts {
                outdated = state.replicas.saturating_sub(state.updated).min(there);
            }
        }
        if (state.missing, state.outdated) != (missing, outdated) {
            (state.missing, state.outdated) = (missing, outdated);
            let groups = &mut self.marks.groups;
            groups.insert(Source::Missing(workload.clone()));
            groups.insert(Source::Outdated(workload.clone()));
            keep(&mut self.wanting, workload, missing > 0 || outdated > 0);
        }
        let rolling = outdated > 0 || (daemon && state.updated < state.replicas);
        if state.rolling != rolling {
            state.rolling = rolling;
            keep(&mut self.rolling, workload, rolling);
        }
        true
    }

    pub(super) fn sweep_workloads(&mut self, kind: &str, current: u32, now: Timestamp) {
        let mut gone: Vec<WorkloadRef> = self
            .workloads
            .iter()
            .filter(|(name, state)| name.kind == kind && state.generation != current)
            .map(|(name, _)| name.clone())
            .collect();
        gone.sort();
        for name in gone {
            self.gone.workloads.note(name.to_string(), now);
            self.drop_workload(&name, now);
        }
    }

    pub(super) fn sweep_scalers(&mut self, current: u32) {
        let mut gone: Vec<(WorkloadRef, WorkloadRef)> = self
            .scalers
            .iter()
            .filter(|(_, state)| state.generation != current)
            .map(|(name, state)| (name.clone(), state.scaler.target.clone()))
            .collect();
        gone.sort();
        for (name, target) in gone {
            self.scalers.remove(&name);
            self.leave_target(&target, &name);
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

    fn drop_workload(&mut self, workload: &WorkloadRef, at: Timestamp) {
        if let Some(state) = self.workloads.remove(workload) {
            self.release(&state.template, at);
        }
        self.wanting.remove(workload);
        self.rolling.remove(workload);
        self.surpluses.forget(workload);
        self.series.remove(workload);
        self.mark_calendar(workload);
        self.mark_workload(workload);
        self.mark_template_change(workload);
    }

    fn drop_announcement(&mut self, name: &str, at: Timestamp) {
        if let Some(state) = self.announcements.remove(name)
            && let Some(template) = state.template
        {
            self.release(&template, at);
        }
        self.marks.groups.insert(Source::Announced(name.to_owned()));
    }

    fn leave_target(&mut self, target: &WorkloadRef, scaler: &WorkloadRef) {
        if let Some(scalers) = self.targets.get_mut(target) {
            scalers.remove(scaler);
            if scalers.is_empty() {
                self.targets.remove(target);
                self.surpluses.forget(target);
                self.marks.groups.insert(Source::Ahead(target.clone()));
            }
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
    fn mark_template_change(&mut self, workload: &WorkloadRef) {
        if workload.kind == "DaemonSet" {
            self.daemonsets.remove(workload);
            if self
                .workloads
                .get(workload)
                .is_some_and(|state| !state.idle)
            {
                self.daemonsets.insert(workload.clone());
            }
        }
        if let Some(crowd) = self.crowds.get(workload) {
            self.marks.nodes.extend(crowd.nodes.keys().cloned());
        }
        // A Job comes once: no history speaks of it, and its pods are counted by themselves.
        if workload.kind != "Job" {
            self.note_turn();
            self.mark_pools();
        }
    }

    fn mark_calendar(&mut self, workload: &WorkloadRef) {
        let starts = self
            .workloads
            .get(workload)
            .is_some_and(|state| state.calendar.is_some() && !state.idle);
        if starts {
            self.calendars.insert(workload.clone());
            self.marks.timed = true;
        } else if self.calendars.remove(workload) {
            self.marks
                .groups
                .insert(Source::Scheduled(workload.clone()));
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

fn take_numbers(known: &mut Scaler, fact: &Scaler) {
    (known.current, known.desired) = (fact.current, fact.desired);
    (known.min, known.max) = (fact.min, fact.max);
    (known.ratio, known.limited) = (fact.ratio, fact.limited);
}

/// Puts a name in or takes it out.
fn keep(set: &mut BTreeSet<WorkloadRef>, name: &WorkloadRef, wanted: bool) {
    if wanted {
        set.insert(name.clone());
    } else {
        set.remove(name);
    }
}
