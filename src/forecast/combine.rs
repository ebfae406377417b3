//! Several reasons for one image, made into one probability.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Pods of one owner. After a rollout the new template's pods replace the old one's.
    Workload(Arc<WorkloadRef>),
    /// Pods of nobody, by the fingerprint of their template.
    Template(u64),
    /// Pods of owners that come only once, by their image.
    Image(ImageRef),
}

/// One image with everything that speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Which.
    pub image: ImageRef,
    /// Probability that the target needs it.
    pub chance: f64,
    /// The same as the clues say it, before any correction.
    pub stated: f64,
    /// Kind of the strongest clue, where it is learned how often such clues are right.
    pub class: Option<&'static str>,
    /// Expected number of pods that wait for it here.
    pub pods: f64,
    /// The strongest class among the clues that are more likely than not.
    pub priority: Priority,
    /// Whether pods wait that may come here.
    pub awaited: bool,
    /// Reasons with their probabilities, strongest first.
    pub reasons: Vec<(Reason, f64)>,
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

/// Within one cause the most probable clue counts, for they are views of the same pods; different
/// causes are taken as independent: p = 1 - prod(1 - p_i).
#[must_use]
pub fn wishes(clues: &[Clue]) -> BTreeMap<ImageRef, Wish> {
    let mut by_image: BTreeMap<&ImageRef, Vec<&Clue>> = BTreeMap::new();
    for clue in clues.iter().filter(|clue| clue.chance > 0.0) {
        for image in clue.images.iter() {
            by_image.entry(image).or_default().push(clue);
        }
    }
    by_image
        .into_iter()
        .map(|(image, clues)| (image.clone(), wish(image, &clues)))
        .collect()
}

fn wish(image: &ImageRef, clues: &[&Clue]) -> Wish {
    let mut causes: BTreeMap<&Cause, (f64, f64)> = BTreeMap::new();
    for clue in clues {
        let (chance, pods) = causes.entry(&clue.cause).or_default();
        *chance = chance.max(clue.chance);
        *pods = pods.max(clue.pods);
    }
    let missed: f64 = causes.values().map(|(chance, _)| 1.0 - chance).product();
    let mut strongest: Vec<&Clue> = clues.to_vec();
    strongest.sort_by(|a, b| {
        let waits = |clue: &Clue| clue.priority == Priority::Pending && clue.chance >= LIKELY;
        waits(b)
            .cmp(&waits(a))
            .then(b.chance.total_cmp(&a.chance))
            .then_with(|| a.reason.cmp(&b.reason))
    });
    let class = strongest.first().and_then(|clue| class(clue));
    let mut told: BTreeSet<&Reason> = BTreeSet::new();
    let reasons = strongest
        .into_iter()
        .filter(|clue| told.insert(&clue.reason))
        .map(|clue| (clue.reason.clone(), clue.chance))
        .collect();
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
        image: image.clone(),
        chance: stated,
        stated,
        class,
        awaited: clues.iter().any(|clue| clue.priority == Priority::Pending)
            && priority != Priority::Background,
        pods: causes.values().map(|(_, pods)| pods).sum(),
        priority,
        reasons,
    }
}

impl Wish {
    /// Corrects the probability by what became of earlier ones of its kind, so far of the way
    /// (0 to 1).
    pub fn correct(&mut self, curves: &Curves, strength: f64) {
        if let Some(class) = self.class {
            let corrected = curves.calibrated(class, self.stated);
            self.chance = self.stated + strength * (corrected - self.stated);
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
        let one = |clues: &[Clue]| wishes(clues).into_values().next().unwrap();
        let same = [
            clue("a", 0.5, Priority::Predicted),
            clue("a", 0.5, Priority::Predicted),
        ];
        let two = [
            clue("a", 0.5, Priority::Predicted),
            clue("b", 0.5, Priority::Predicted),
        ];
        assert_eq!(one(&same).chance, 0.5);
        assert_eq!(one(&two).chance, 0.75);
    }

    #[test]
    fn a_pod_that_probably_waits_elsewhere_does_not_make_an_image_pending() {
        let clues = [
            clue("a", 0.1, Priority::Pending),
            clue("b", 0.9, Priority::Predicted),
        ];
        let wish = wishes(&clues).into_values().next().unwrap();
        assert_eq!(wish.priority, Priority::Predicted);
    }
}
