//! Why each candidate is in a plan or not, as data.

use serde::Serialize;

use crate::domain::image::ImageRef;
use crate::domain::plan::{LetGo, Priority, Reason, Staging, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Outlook;

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "at")]
pub enum Fate {
    /// In the plan, at this place (0 is fetched first).
    Planned(usize),
    /// On the node already.
    Present,
    /// Its probability does not reach the threshold.
    Unlikely,
    /// Nobody has said yet what the reference means.
    Unresolved,
    /// There is no manifest for the target's platform.
    Platform,
    /// The policy forbids it.
    Policy,
    /// It did not fit in what is left of the disk budget.
    Budget,
    /// A guess that the node's link could not bring while the node is new.
    Link,
    /// A guess beyond the bytes that may be on their way into the zone.
    Zone,
    /// A guess beyond the requests that its registry may be sent.
    Registry,
}

/// One candidate of one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Which image.
    pub image: ImageRef,
    /// Probability that the target needs it within the window.
    pub chance: f64,
    /// The same before it was corrected.
    #[serde(skip)]
    pub stated: f64,
    /// Kind of the strongest reason, where corrections are learned of it.
    #[serde(skip)]
    pub class: Option<&'static str>,
    /// Probability from which it would be sent; missing where that was not asked.
    pub threshold: Option<f64>,
    /// Class.
    pub priority: Priority,
    /// Expected number of pods that wait for it here.
    pub pods: f64,
    /// Everything that speaks for it, strongest first.
    pub reasons: Vec<(Reason, f64)>,
    /// In or out.
    pub fate: Fate,
}

/// All candidates of one target at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Whose plan.
    pub target: Target,
    /// When it was asked.
    pub made: Timestamp,
    /// How long nodes take to come; a pool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Outlook>,
    /// Planned ones first, in their order; then the others, most probable first.
    pub verdicts: Vec<Verdict>,
    /// Budgets that did not hold everything that was worth its bytes.
    pub fills: Vec<Fill>,
    /// What earlier plans brought and is to go first.
    pub let_go: Vec<LetGo>,
    /// New nodes to be ready for (a pool's plan).
    pub nodes: Option<Staging>,
}

/// A budget that did not hold everything, and what was made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fill {
    /// Which: the word under which what it left out is counted.
    pub budget: &'static str,
    /// What it holds.
    pub bytes: ByteSize,
    /// Images that were taken.
    pub taken: usize,
    /// Images that were worth their bytes.
    pub wanted: usize,
    /// Expected seconds that the taken ones save.
    pub value_s: f64,
    /// No choice within the budget saves more, who waits being first.
    pub bound_s: f64,
    /// `value_s / bound_s`, cut to a thousandth: the choice is at least so good.
    pub at_least: f64,
}

impl Fill {
    /// From (images taken, wanted) and (seconds, their bound).
    #[must_use]
    pub fn new(
        (budget, bytes): (&'static str, ByteSize),
        (taken, wanted): (usize, usize),
        (value_s, bound_s): (f64, f64),
    ) -> Self {
        let part = if bound_s > 0.0 {
            value_s / bound_s
        } else {
            1.0
        };
        Self {
            budget,
            bytes,
            taken,
            wanted,
            value_s,
            bound_s,
            // A proven choice is whole: its bound is above it by the rounding of the search alone.
            at_least: ((part + 1e-6).min(1.0) * 1e3).floor() / 1e3,
        }
    }
}

impl Fate {
    /// The word under which a plan counts what it left out; missing for what it did not want.
    #[must_use]
    pub const fn left_out(&self) -> Option<&'static str> {
        match self {
            Self::Planned(_) | Self::Present | Self::Unlikely => None,
            Self::Unresolved => Some("unresolved"),
            Self::Platform => Some("platform"),
            Self::Policy => Some("policy"),
            Self::Budget => Some("budget"),
            Self::Link => Some("link"),
            Self::Zone => Some("zone"),
            Self::Registry => Some("registry"),
        }
    }
}
