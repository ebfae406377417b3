//! How often a pod comes to the node that was asked for on its account.
//!
//! Karpenter nominates pods to its claims and tells so in Events, but the scheduler binds whichever pod
//! is next to whichever node is Ready: in the scenario pack between a tenth and four fifths of a
//! scenario's nominations held, in the recorded one 30 of 51. A pod of the same kind that comes instead
//! keeps the promise as well: it runs the same images.

use serde::{Deserialize, Serialize};

use crate::forecast::tally::Tally;

/// Nominations that were kept, and that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Promises(Tally);

// === impl Promises ===

impl Promises {
    /// To a node that was asked for came a pod of the kind that it was asked for (kept), or one that was
    /// nominated to a request came elsewhere.
    pub fn note(&mut self, kept: bool) {
        self.0.note(f64::from(u8::from(kept)));
    }

    /// Probability that the next one comes to the node that it is nominated to, given a prior.
    #[must_use]
    pub fn chance(&self, prior: f64) -> f64 {
        self.0.chance(prior)
    }
}
