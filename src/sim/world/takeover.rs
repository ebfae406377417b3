//! A controller that dies, and the one that takes over with what was saved.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::engine::cluster::Cluster;
use crate::sim::perturb::Listing;
use crate::sim::world::{Event, Planner, World};

/// From a leader's death to its successor's first list: a Lease's duration (client-go's default, 15 s).
const LEASE: Duration = Duration::from_secs(15);

/// What stands between signals and the engine.
#[derive(Debug, Default)]
pub struct Ears<'a> {
    /// (`source`, `id`) of what was taken; `None` where no signal comes twice.
    taken: Option<HashSet<(&'a str, &'a str)>>,
    /// What there is to list; `None` where nobody ever lists.
    listing: Option<Listing>,
    /// Nobody listens; what the dead leader had saved.
    dead: Option<String>,
}

// === impl Ears ===

impl<'a> Ears<'a> {
    pub fn new(deduplicates: bool, restarts: bool) -> Self {
        Self {
            taken: deduplicates.then(HashSet::new),
            listing: restarts.then(Listing::default),
            dead: None,
        }
    }

    /// Whether the engine is to be told of a recorded signal: not the second time, and not while it is
    /// dead. In production `source::admission` refuses what comes twice.
    pub fn take(&mut self, signal: &'a Signal) -> bool {
        let identity = (signal.source.as_str(), signal.id.as_str());
        if self.is_deaf() {
            self.note(signal);
            return false;
        }
        if self
            .taken
            .as_mut()
            .is_some_and(|taken| !taken.insert(identity))
        {
            return false;
        }
        self.note(signal);
        true
    }

    /// The world changed, whoever heard of it.
    pub fn note(&mut self, signal: &Signal) {
        if let Some(listing) = &mut self.listing {
            listing.hear(signal);
        }
    }

    pub fn is_deaf(&self) -> bool {
        self.dead.is_some()
    }
}

impl World<'_> {
    /// The leader is gone, with all that it had not saved.
    pub(super) fn controller_dies(&mut self) {
        if let Planner::Engine(cluster) = &self.planner {
            self.ears.dead = Some(cluster.save(self.now));
            self.queue.push(self.now + LEASE, Event::TakesOver);
        }
    }

    /// Another one loads what was saved, lists what there is, and plans.
    pub(super) fn controller_takes_over(&mut self) {
        let Planner::Engine(cluster) = &mut self.planner else {
            return;
        };
        let mut heir = Cluster::new(cluster.model().clone());
        heir.set_policy(cluster.policy().clone());
        heir.set_epoch(1);
        let saved = self.ears.dead.take().unwrap_or_default();
        heir.load(&saved)
            .expect("a state that this very program saved");
        if let Some(taken) = &mut self.ears.taken {
            taken.clear();
        }
        let listed = self.ears.listing.iter();
        for signal in listed.flat_map(|listing| listing.list(self.now)) {
            heir.apply(&signal);
        }
        **cluster = heir;
        self.step_controller();
    }

    /// When the recording's time for a restart has come.
    pub(super) fn foresee_restart(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.queue.push(at, Event::Dies);
        }
    }
}
