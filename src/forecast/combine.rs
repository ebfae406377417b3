//! Several reasons for one image, made into one probability.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::domain::image::ImageRef;
use crate::domain::plan::{Priority, Reason};
use crate::domain::workload::WorkloadRef;
use crate::forecast::calibrate::Curves;

/// One reason to expect a pod on the target, with the images that the pod would need.
#[derive(Clone, Debug)]
pub struct Clue {
    /// What the pod needs, in the order the kubelet needs it.
    pub images: Arc<[ImageRef]>,
    /// Clues of one cause are views of the same pods.
    pub cause: Cause,
    /// Probability that at least one such pod lands here.
    pub chance: f64,
    /// Expected number of such pods here.
    pub pods: f64,
    /// Why.
    pub reason: Reason,
    /// Whether somebody waits.
    pub priority: Priority,
}

/// Whose pods a clue speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Pods of one owner. After a rollout the new template's pods replace the old one's.
    Workload(Arc<WorkloadRef>),
    /// Pods of nobody, by the fingerprint of their template.
    Template(u64),
    /// Pods of owners that come only once, by their image.
    Image(ImageRef),
}

/// One image with everything that speaks for it.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Which.
    pub image: &'a ImageRef,
    /// Probability that the target needs it.
    pub chance: f64,
    /// The same as the clues say it, before any correction.
    pub stated: f64,
    /// Expected number of pods that wait for it here.
    pub pods: f64,
    /// The strongest class among the clues that are more likely than not.
    pub priority: Priority,
    /// Whether pods wait that may come here.
    pub awaited: bool,
    clues: Vec<&'a Clue>,
}

/// Below this a waiting pod's clue does not make its image `Pending`: it is more likely that
/// nobody here waits.
const LIKELY: f64 = 0.5;

/// Kinds of clues whose statements are corrected. What is bound is certain; nominations and history
/// learn by themselves (`promise`, `history`), and learning them twice made both worse; so did learning
/// of pods that wait, whose waves stand or fall as one (docs/tuning.md).
fn class(clue: &Clue) -> Option<&'static str> {
    Some(match (&clue.reason, clue.priority) {
        (Reason::Bound(_) | Reason::Nominated(_) | Reason::PendingPod(_), _) => return None,
        (Reason::DaemonSet(_) | Reason::History(_), _) => return None,
        (Reason::Announced(_), Priority::Background) => "spare",
        (Reason::Announced(_), _) => "announced",
        (Reason::ScalerWish(_), Priority::Background) => "ahead",
        (Reason::ScalerWish(_), _) => "wished",
        (Reason::Rollout(_), _) => "rollout",
        (Reason::Replacement(_), _) => "replacement",
        (Reason::Schedule(_), _) => "scheduled",
    })
}

/// All clues in the order of their causes, as [`wishes`] takes them: a target's own, in any order, and
/// some that are in order already.
#[must_use]
pub fn by_cause<'a>(own: &'a [Clue], sorted: &[&'a Clue]) -> Vec<&'a Clue> {
    let mut all: Vec<&Clue> = Vec::with_capacity(own.len() + sorted.len());
    let mut own: Vec<&Clue> = own.iter().collect();
    own.sort_by(|a, b| a.cause.cmp(&b.cause));
    let mut sorted = sorted.iter().copied().peekable();
    for clue in own {
        while let Some(next) = sorted.next_if(|next| next.cause.cmp(&clue.cause).is_lt()) {
            all.push(next);
        }
        all.push(clue);
    }
    all.extend(sorted);
    all
}

/// Wishes in the order of their images, from clues [`by_cause`]. Within one cause the most probable
/// clue counts, for they are views of the same pods; different causes are taken as independent:
/// p = 1 - prod(1 - p_i).
#[must_use]
pub fn wishes<'a>(clues: &[&'a Clue]) -> Vec<Wish<'a>> {
    // Eighty clues speak of ten images.
    let mut places: HashMap<&ImageRef, usize> = HashMap::with_capacity(28);
    let mut by_image: Vec<(&ImageRef, Vec<&Clue>)> = Vec::new();
    for clue in clues.iter().filter(|clue| clue.chance > 0.0) {
        for image in clue.images.iter() {
            let place = *places.entry(image).or_insert(by_image.len());
            if place == by_image.len() {
                by_image.push((image, Vec::with_capacity(8)));
            }
            by_image[place].1.push(clue);
        }
    }
    by_image.sort_unstable_by_key(|(image, _)| *image);
    let by_image = by_image.into_iter();
    by_image.map(|(image, clues)| wish(image, clues)).collect()
}

fn wish<'a>(image: &'a ImageRef, clues: Vec<&'a Clue>) -> Wish<'a> {
    let (mut missed, mut pods) = (1.0, 0.0);
    for views in clues.chunk_by(|a, b| a.cause == b.cause) {
        let most = |value: fn(&Clue) -> f64| {
            let values = views.iter().map(|clue| value(clue));
            values.fold(0.0, f64::max)
        };
        missed *= 1.0 - most(|clue| clue.chance);
        pods += most(|clue| clue.pods);
    }
    let priority = clues
        .iter()
        .map(|clue| match clue.priority {
            Priority::Pending if clue.chance < LIKELY => Priority::Predicted,
            other => other,
        })
        .min()
        .unwrap_or(Priority::Background);
    let stated = (1.0 - missed).clamp(0.0, 1.0);
    Wish {
        image,
        chance: stated,
        stated,
        awaited: clues.iter().any(|clue| clue.priority == Priority::Pending)
            && priority != Priority::Background,
        pods,
        priority,
        clues,
    }
}

/// Who waits first, then what is more probable, then by name.
fn strength(a: &Clue, b: &Clue) -> Ordering {
    let waits = |clue: &Clue| clue.priority == Priority::Pending && clue.chance >= LIKELY;
    waits(b)
        .cmp(&waits(a))
        .then(b.chance.total_cmp(&a.chance))
        .then_with(|| a.reason.cmp(&b.reason))
}

// === impl Wish ===

impl<'a> Wish<'a> {
    /// The strongest reason.
    #[must_use]
    pub fn reason(&self) -> Option<&'a Reason> {
        let strongest = self.clues.iter().min_by(|a, b| strength(a, b))?;
        Some(&strongest.reason)
    }

    /// Kind of the strongest clue, where it is learned how often such clues are right.
    #[must_use]
    pub fn class(&self) -> Option<&'static str> {
        class(self.clues.iter().min_by(|a, b| strength(a, b))?)
    }

    /// Corrects the probability by what became of earlier ones of its kind, so far of the way
    /// (0 to 1).
    pub fn correct(&mut self, curves: &Curves, strength: f64) {
        if let Some(class) = self.class() {
            let corrected = curves.calibrated(class, self.stated);
            self.chance = self.stated + strength * (corrected - self.stated);
        }
    }

    /// Reasons with their probabilities, strongest first.
    #[must_use]
    pub fn reasons(&self) -> Vec<(Reason, f64)> {
        let mut strongest = self.clues.clone();
        strongest.sort_by(|a, b| strength(a, b));
        let mut told: BTreeSet<&Reason> = BTreeSet::new();
        strongest
            .into_iter()
            .filter(|clue| told.insert(&clue.reason))
            .map(|clue| (clue.reason.clone(), clue.chance))
            .collect()
    }
}

// === impl Cause ===

impl PartialOrd for Cause {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cause {
    /// Owners by name, then templates, then images. Most owners that meet are one shared copy, which
    /// saves three comparisons of texts.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Workload(a), Self::Workload(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Self::Workload(a), Self::Workload(b)) => a.cmp(b),
            (Self::Template(a), Self::Template(b)) => a.cmp(b),
            (Self::Image(a), Self::Image(b)) => a.cmp(b),
            (Self::Workload(_), _) | (Self::Template(_), Self::Image(_)) => Ordering::Less,
            (_, Self::Workload(_)) | (Self::Image(_), Self::Template(_)) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clue(cause: &str, chance: f64, priority: Priority) -> Clue {
        Clue {
            images: vec!["nginx".parse().unwrap()].into(),
            cause: Cause::Image(cause.parse().unwrap()),
            chance,
            pods: 1.0,
            reason: Reason::History(cause.into()),
            priority,
        }
    }

    #[test]
    fn independent_causes_add_up_and_views_of_one_cause_do_not() {
        let one = |clues: &[Clue]| wishes(&clues.iter().collect::<Vec<_>>()).remove(0).chance;
        let same = [
            clue("a", 0.5, Priority::Predicted),
            clue("a", 0.5, Priority::Predicted),
        ];
        let two = [
            clue("a", 0.5, Priority::Predicted),
            clue("b", 0.5, Priority::Predicted),
        ];
        assert_eq!(one(&same), 0.5);
        assert_eq!(one(&two), 0.75);
    }

    #[test]
    fn a_pod_that_probably_waits_elsewhere_does_not_make_an_image_pending() {
        let clues = [
            clue("a", 0.1, Priority::Pending),
            clue("b", 0.9, Priority::Predicted),
        ];
        let wish = wishes(&clues.iter().collect::<Vec<_>>()).remove(0);
        assert_eq!(wish.priority, Priority::Predicted);
    }
}
