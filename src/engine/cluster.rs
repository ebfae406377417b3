//! The controller's machine: signals in, plans out.

use crate::domain::image::ImageRef;
use crate::domain::plan::{Plan, Target};
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::forecast::model::Model;

/// Indexes of the cluster, what was learned, and the plans last made.
#[derive(Debug)]
pub struct Cluster {
    model: Model,
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Publish this plan (it differs from the last one, or its expiry needs renewal).
    Publish(Plan),
    /// The target is gone: forget its plan (a Node's plan is also collected by its owner).
    Retract(Target),
    /// Find out what a reference means; answer with `image.resolved`.
    Resolve(ImageRef),
}

/// What became of a signal that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed something.
    Changed,
    /// Known already, older than what is known, or without meaning for the prediction.
    Ignored(&'static str),
}

/// Kinds of objects that a relist replaces as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Nodes that joined.
    Nodes,
    /// Requests for nodes (`NodeClaim`s).
    Requests,
    /// Pods.
    Pods,
    /// Workloads of one kind (`Deployment`, ...).
    Workloads(&'static str),
    /// Scalers.
    Scalers,
    /// Announcements.
    Announcements,
}

impl Cluster {
    /// An empty cluster.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model }
    }

    /// The parameters in force.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes one signal into the indexes. Never plans: that is `step`'s.
    pub fn apply(&mut self, _signal: &Signal) -> Applied {
        Applied::Ignored("not built yet")
    }

    /// A relist of `family` begins: what is not applied again before `relisted` is gone.
    pub fn relisting(&mut self, _family: Family) {}

    /// The relist of `family` is complete.
    pub fn relisted(&mut self, _family: Family, _now: Timestamp) {}

    /// The leader's epoch, written into every plan.
    pub fn set_epoch(&mut self, _epoch: u64) {}

    /// Forecasts and plans for everything that changed; effects in a fixed order.
    pub fn step(&mut self, _now: Timestamp) -> Vec<Effect> {
        Vec::new()
    }

    /// When `step` has work even without a new signal (expiry, decay, schedules).
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// The plan now in force for a target.
    #[must_use]
    pub fn plan(&self, _target: &Target) -> Option<&Plan> {
        None
    }

    /// What was learned, as a compact versioned text (JSON), at most 512 KiB.
    #[must_use]
    pub fn save(&self, _now: Timestamp) -> String {
        String::new()
    }

    /// Takes over what was learned; refuses versions that it does not know.
    ///
    /// # Errors
    /// When the text is no state of a known version: what was found, and which versions are read.
    pub fn load(&mut self, _state: &str) -> Result<(), StateError> {
        Ok(())
    }
}

/// A saved state that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another version.
    #[error("learned state has version {found}; this program reads version {known}")]
    Version {
        /// in the text
        found: u32,
        /// readable here
        known: u32,
    },
    /// Not readable at all.
    #[error("learned state is not readable: {0}")]
    Form(String),
}
