//! Everything that is known of one workload, found by its name once per signal.
//!
//! A workload has pods, a template, scalers, load: as many maps by its name were a third of the engine's
//! work on the benchmark's large day, in hashing and comparing texts. Its number is good until nothing is
//! known of it any more and a step is over: what was marked under it is done by then.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::HashMap;
use slab::Slab;

use crate::domain::workload::WorkloadRef;

use super::ahead::{Look, Series};
use super::pods::Crowd;
use super::workloads::{ScalerState, WorkloadState};

/// Number of a workload, or of a scaler: its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(usize);

/// What makes pods, or scales what makes them.
#[derive(Debug)]
pub struct Owner {
    pub name: Arc<WorkloadRef>,
    /// A DaemonSet: its pods wait for the one node that they were made for.
    pub daemon: bool,
    /// Whether replicas say something of pods to come: not of those that are counted by nodes, or
    /// started by a calendar.
    pub counted: bool,
    /// Its pods.
    pub crowd: Crowd,
    /// What it was last applied as.
    pub state: Option<WorkloadState>,
    /// What it last said, where it is a scaler.
    pub scaler: Option<ScalerState>,
    /// Scalers that scale it.
    pub scalers: Vec<OwnerId>,
    /// Its load.
    pub series: Option<Box<Series>>,
    /// What its scalers will ask for, as last looked at.
    pub look: Option<Look>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Owners {
    ids: HashMap<Arc<WorkloadRef>, OwnerId>,
    places: Slab<Owner>,
    /// Those of which nothing may be known any more.
    left: Vec<OwnerId>,
    /// How many have pods, were applied, are scalers.
    pub crowds: usize,
    pub applied: usize,
    pub scalers: usize,
}

// === impl Owner ===

impl Owner {
    fn new(name: Arc<WorkloadRef>) -> Self {
        let kind = name.kind.as_str();
        Self {
            daemon: kind == "DaemonSet",
            counted: !matches!(kind, "DaemonSet" | "CronJob" | "Job"),
            name,
            crowd: Crowd::default(),
            state: None,
            scaler: None,
            scalers: Vec::new(),
            series: None,
            look: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.crowd.is_empty()
            && self.state.is_none()
            && self.scaler.is_none()
            && self.scalers.is_empty()
            && self.series.is_none()
            && self.look.is_none()
    }
}

// === impl Owners ===

impl Owners {
    /// The number of a workload of which something is known.
    pub fn id(&self, name: &WorkloadRef) -> Option<OwnerId> {
        self.ids.get(name).copied()
    }

    /// The number of a workload of which something will be known.
    pub fn enter(&mut self, name: &WorkloadRef) -> OwnerId {
        if let Some(id) = self.id(name) {
            return id;
        }
        let name = Arc::new(name.clone());
        let id = OwnerId(self.places.insert(Owner::new(Arc::clone(&name))));
        self.ids.insert(name, id);
        id
    }

    /// What is known of a workload.
    pub fn get(&self, name: &WorkloadRef) -> Option<&Owner> {
        self.id(name).map(|id| &self[id])
    }

    /// What a workload was last applied as.
    pub fn state(&self, name: &WorkloadRef) -> Option<&WorkloadState> {
        self.get(name)?.state.as_ref()
    }

    /// Something of a workload is gone, and that may have been all.
    pub fn note_left(&mut self, id: OwnerId) {
        self.left.push(id);
    }

    /// Forgets those of which nothing is known any more: their numbers will be others'.
    pub fn forget_idle(&mut self) {
        for id in std::mem::take(&mut self.left) {
            if self.places.get(id.0).is_some_and(Owner::is_idle) {
                self.ids.remove(&self.places.remove(id.0).name);
            }
        }
    }

    /// How many names have a number.
    #[cfg(test)]
    pub fn named(&self) -> usize {
        self.ids.len()
    }

    /// All of which something is known, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (OwnerId, &Owner)> {
        let places = self.places.iter();
        places.map(|(id, owner)| (OwnerId(id), owner))
    }

    /// Puts what a workload is applied as; what it was before.
    pub fn apply(&mut self, id: OwnerId, state: WorkloadState) -> Option<WorkloadState> {
        let old = self[id].state.replace(state);
        self.applied += usize::from(old.is_none());
        old
    }

    /// Puts what a scaler says, of which nothing is known yet.
    pub fn put_scaler(&mut self, id: OwnerId, scaler: ScalerState) {
        let target = scaler.target;
        self[id].scaler = Some(scaler);
        self.scalers += 1;
        let mut scalers = std::mem::take(&mut self[target].scalers);
        scalers.push(id);
        scalers.sort_by(|a, b| self[*a].name.cmp(&self[*b].name));
        self[target].scalers = scalers;
    }

    /// Takes out what a scaler said; it scales nothing from now on.
    pub fn drop_scaler(&mut self, id: OwnerId) -> Option<ScalerState> {
        let old = self[id].scaler.take()?;
        self.scalers -= 1;
        self[old.target].scalers.retain(|scaler| *scaler != id);
        self.note_left(id);
        Some(old)
    }

    /// Takes out what a workload was applied as.
    pub fn withdraw(&mut self, id: OwnerId) -> Option<WorkloadState> {
        let old = self[id].state.take()?;
        self.applied -= 1;
        self.note_left(id);
        Some(old)
    }
}

impl Index<OwnerId> for Owners {
    type Output = Owner;

    fn index(&self, id: OwnerId) -> &Owner {
        &self.places[id.0]
    }
}

impl IndexMut<OwnerId> for Owners {
    fn index_mut(&mut self, id: OwnerId) -> &mut Owner {
        &mut self.places[id.0]
    }
}
