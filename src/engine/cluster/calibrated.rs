//! What became of probabilities stated for new nodes, and how plans are corrected by it.
//!
//! A statement is what a new node's plans said of one image, before any correction. It came true when a
//! pod with the image was bound within the node's window. All plans share one observation of the
//! outcome: the last one alone knows more of it when it comes true than when it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::image::ImageRef;
use crate::domain::time::Timestamp;
use crate::forecast::calibrate::{Calibration, Curves, bin_of};

use super::sites::SiteId;
use super::{Cluster, Wake};

/// Corrections that plans use are renewed so often at most: outcomes of one wave come within it.
const PAUSE: Duration = Duration::from_mins(1);

/// Log-odds by which some correction has to move for all plans to be made anew: 0.50 and 0.55.
const FELT: f64 = 0.2;

/// What some plans of a new node said of an image, alike in kind and size: at most one for each kind
/// and bin.
#[derive(Debug)]
pub struct Statement {
    image: ImageRef,
    /// Missing where nothing is learned.
    class: Option<&'static str>,
    bin: usize,
    /// Sum over plans, and how many.
    chances: f64,
    plans: f64,
}

/// What one plan says of an image: kind where it is learned, probability before any correction.
pub(super) type Said = (ImageRef, Option<&'static str>, f64);

/// Corrections: as learned, and as plans use them.
#[derive(Debug, Default)]
pub struct Calibrated {
    learned: Calibration,
    in_force: Curves,
    /// Whether a renewal is due.
    awaited: bool,
}

impl Cluster {
    /// What plans are corrected by; none where nothing may be learned.
    pub(super) fn curves(&self) -> Option<&Curves> {
        let model = &self.model;
        (model.uses.history && model.history.calibration > 0.0).then_some(&self.calibrated.in_force)
    }

    /// Remembers what the plan of a new node says.
    pub(super) fn state_chances(&mut self, name: &str, said: Vec<Said>) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        for (image, class, chance) in said {
            let mut known = node.stated.iter_mut();
            let bin = bin_of(chance);
            match known.find(|one| (one.class, one.bin) == (class, bin) && one.image == image) {
                Some(one) => {
                    one.chances += chance;
                    one.plans += 1.0;
                }
                None => node.stated.push(Statement {
                    image,
                    class,
                    bin,
                    chances: chance,
                    plans: 1.0,
                }),
            }
        }
    }

    /// A pod came to a node within its window: what was said of its images is true.
    pub(super) fn settle_true(&mut self, site: SiteId, images: &[ImageRef], now: Timestamp) {
        let Some(node) = &mut self.nodes[site].node else {
            return;
        };
        if node.stated.is_empty() {
            return;
        }
        let settled = node
            .stated
            .extract_if(.., |one| images.contains(&one.image));
        let settled: Vec<Statement> = settled.collect();
        self.learn(&settled, true, now);
    }

    /// A node's window is over: what was said of the other images is not true.
    pub(super) fn settle_rest(&mut self, name: &str, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let rest = std::mem::take(&mut node.stated);
        self.learn(&rest, false, now);
    }

    /// The corrections that plans use are those learned by now, if that is felt.
    pub(super) fn renew_corrections(&mut self) {
        self.calibrated.awaited = false;
        let curves = self.calibrated.learned.curves();
        if curves.moved(&self.calibrated.in_force) >= FELT {
            self.calibrated.in_force = curves;
            self.mark_pools();
        }
    }

    /// What was learned, for the saved state.
    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibrated.learned
    }

    /// Takes over what another leader learned.
    pub(crate) fn take_calibration(&mut self, learned: Calibration) {
        self.calibrated = Calibrated {
            in_force: learned.curves(),
            learned,
            awaited: false,
        };
        self.mark_pools();
    }

    fn learn(&mut self, settled: &[Statement], came_true: bool, now: Timestamp) {
        let mut plans: BTreeMap<&ImageRef, f64> = BTreeMap::new();
        for one in settled {
            *plans.entry(&one.image).or_default() += one.plans;
        }
        for one in settled {
            let Some(class) = one.class else { continue };
            let (mean, part) = (one.chances / one.plans, one.plans / plans[&one.image]);
            let learned = &mut self.calibrated.learned;
            learned.observe_part(class, mean, came_true, part);
        }
        if !settled.is_empty() && !self.calibrated.awaited {
            self.calibrated.awaited = true;
            self.marks.wake(now.next_whole(PAUSE), Wake::Corrections);
        }
    }
}
