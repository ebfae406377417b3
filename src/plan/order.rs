//! Which image first: by who waits, then by waiting pods per byte.

use foldhash::{HashMap, HashMapExt as _};

use crate::domain::image::ImageRef;
use crate::domain::plan::Priority;
use crate::forecast::combine::{Cause, Clue};

/// An image that is to be ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Bytes that it adds when nothing else of the plan is there.
    pub bytes: u64,
    /// Class.
    pub priority: Priority,
    /// Whether pods wait that may come here, even if it is more likely that none of them does.
    pub awaited: bool,
}

/// In which order classes are fetched: who waits here, who waits and may come, who is expected.
/// What is expected has the node's first minutes to arrive in; who waits is there when it is Ready.
const CLASSES: [(Priority, bool); 4] = [
    (Priority::Pending, true),
    (Priority::Predicted, true),
    (Priority::Predicted, false),
    (Priority::Background, false),
];

/// Orders the items by the clues that name them, which come by cause.
///
/// Within a class, pods are jobs that are done when all their images are there: the job with the
/// most waiting pods per remaining byte goes first, its images in the order the kubelet needs them
/// (Smith's rule on the remaining bytes; greedy for shared images, the Sidney decomposition being
/// the exact form). `fixed_bytes` is what a pull costs beside its bytes. Densities are compared in
/// steps of the square root of two, so that one pod more does not turn a plan around.
#[must_use]
pub(super) fn order<'a>(
    clues: &[&'a Clue],
    items: &HashMap<ImageRef, Item>,
    fixed_bytes: f64,
) -> Vec<&'a ImageRef> {
    // One image has an order already: no job needs to be weighed for it.
    if let (1, Some(only)) = (items.len(), items.keys().next()) {
        let mut images = clues.iter().flat_map(|clue| clue.images.iter());
        return images.find(|image| *image == only).into_iter().collect();
    }
    let jobs = merged_jobs(clues, items);
    let mut out = Vec::with_capacity(items.len());
    for class in CLASSES {
        let mut open: Vec<Open<'_>> = jobs
            .iter()
            .filter_map(|job| Open::new(job, class, fixed_bytes))
            .collect();
        // Densest first; of equals, the one whose images come first by name.
        while let Some(next) = (0..open.len()).max_by(|a, b| {
            let (a, b) = (&open[*a], &open[*b]);
            a.step.cmp(&b.step).then_with(|| b.names().cmp(a.names()))
        }) {
            let done = open.swap_remove(next);
            out.extend(done.names());
            open.retain_mut(|job| job.without(&done.images));
        }
    }
    out
}

/// Pods with the same images: those that are to be ordered, and the weight.
struct Job<'a> {
    items: Vec<(&'a ImageRef, Item)>,
    weight: f64,
    /// The cause that is being counted, and its largest weight so far.
    cause: &'a Cause,
    largest: f64,
}

/// A job's images that are not placed yet, and how dense it is with them.
struct Open<'a> {
    images: Vec<(&'a ImageRef, f64)>,
    weight: f64,
    step: i64,
}

impl<'a> Open<'a> {
    fn new(job: &Job<'a>, class: (Priority, bool), fixed_bytes: f64) -> Option<Self> {
        let items = job.items.iter();
        let mut open = Self {
            images: items
                .filter(|(_, item)| (item.priority, item.awaited) == class)
                .map(|(image, item)| (*image, item.bytes as f64 + fixed_bytes))
                .collect(),
            weight: job.weight + job.largest,
            step: 0,
        };
        open.weigh();
        (!open.images.is_empty()).then_some(open)
    }

    /// Takes out what was placed; false when nothing is left.
    fn without(&mut self, placed: &[(&ImageRef, f64)]) -> bool {
        let before = self.images.len();
        self.images
            .retain(|(image, _)| placed.iter().all(|(done, _)| done != image));
        if self.images.len() != before {
            self.weigh();
        }
        !self.images.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &'a ImageRef> {
        self.images.iter().map(|(image, _)| *image)
    }

    fn weigh(&mut self) {
        let bytes: f64 = self.images.iter().map(|(_, bytes)| bytes).sum();
        let density = (self.weight / bytes.max(1.0)).max(1e-18);
        self.step = (density.log2() * 2.0).floor() as i64;
    }
}

/// Clues of pods with the same images are one job; within one cause the largest counts. Jobs without
/// an item are left out: where ten images of eighty clues are missing, most are.
fn merged_jobs<'a>(clues: &[&'a Clue], items: &HashMap<ImageRef, Item>) -> Vec<Job<'a>> {
    let mut places: HashMap<&[ImageRef], Option<usize>> = HashMap::with_capacity(14);
    let mut jobs: Vec<Job<'a>> = Vec::new();
    for clue in clues {
        let place = places.entry(&clue.images).or_insert_with(|| {
            let images = clue.images.iter();
            let items = images.filter_map(|image| Some((image, *items.get(image)?)));
            let items: Vec<_> = items.collect();
            (!items.is_empty()).then(|| {
                jobs.push(Job {
                    items,
                    weight: 0.0,
                    cause: &clue.cause,
                    largest: 0.0,
                });
                jobs.len() - 1
            })
        });
        let Some(job) = place.and_then(|place| jobs.get_mut(place)) else {
            continue;
        };
        if *job.cause != clue.cause {
            job.weight += job.largest;
            (job.cause, job.largest) = (&clue.cause, 0.0);
        }
        job.largest = job.largest.max(clue.pods.max(clue.chance));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Reason;

    fn clue(images: &[&str], pods: f64) -> Clue {
        Clue {
            images: images.iter().map(|i| i.parse().unwrap()).collect(),
            cause: Cause::Image(images.join("-").parse().unwrap()),
            chance: 1.0,
            pods,
            reason: Reason::PendingPod(images.join("+").into()),
            priority: Priority::Pending,
        }
    }

    fn items(sizes: &[(&str, u64, Priority)]) -> HashMap<ImageRef, Item> {
        sizes
            .iter()
            .map(|(image, bytes, priority)| {
                let item = Item {
                    bytes: *bytes,
                    priority: *priority,
                    awaited: *priority == Priority::Pending,
                };
                (image.parse().unwrap(), item)
            })
            .collect()
    }

    fn names<'a>(order: &[&'a ImageRef]) -> Vec<&'a str> {
        order.iter().map(|image| image.repository()).collect()
    }

    #[test]
    fn a_small_image_that_many_wait_for_goes_before_a_large_one() {
        let clues = [clue(&["big"], 2.0), clue(&["small"], 8.0)];
        let items = items(&[
            ("big", 1_000_000_000, Priority::Pending),
            ("small", 50_000_000, Priority::Pending),
        ]);
        assert_eq!(
            names(&order(&clues.iter().collect::<Vec<_>>(), &items, 1e7)),
            ["library/small", "library/big"]
        );
    }

    #[test]
    fn images_of_one_pod_stay_together_in_the_kubelets_order() {
        let clues = [clue(&["z-init", "main"], 4.0), clue(&["other"], 3.0)];
        let items = items(&[
            ("z-init", 1_000_000, Priority::Pending),
            ("main", 40_000_000, Priority::Pending),
            ("other", 300_000_000, Priority::Pending),
        ]);
        assert_eq!(
            names(&order(&clues.iter().collect::<Vec<_>>(), &items, 1e7)),
            ["library/z-init", "library/main", "library/other"]
        );
    }

    #[test]
    fn whoever_waits_comes_before_whoever_is_only_expected() {
        let clues = [clue(&["expected"], 100.0), clue(&["waiting"], 1.0)];
        let items = items(&[
            ("expected", 1, Priority::Predicted),
            ("waiting", 1_000_000_000, Priority::Pending),
        ]);
        assert_eq!(
            names(&order(&clues.iter().collect::<Vec<_>>(), &items, 1e7)),
            ["library/waiting", "library/expected"]
        );
    }
}
