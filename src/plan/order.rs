//! Which image first: by who waits, then by waiting pods per byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::image::ImageRef;
use crate::domain::plan::Priority;
use crate::forecast::combine::Clue;

/// An image that is to be ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Bytes that it adds when nothing else of the plan is there.
    pub bytes: u64,
    /// Class.
    pub priority: Priority,
}

/// Orders the items.
///
/// Within a class, pods are jobs that are done when all their images are there: the job with the
/// most waiting pods per remaining byte goes first, its images in the order the kubelet needs them
/// (Smith's rule on the remaining bytes; greedy for shared images, the Sidney decomposition being
/// the exact form). `fixed_bytes` is what a pull costs beside its bytes. Densities are compared in
/// steps of the square root of two, so that one pod more does not turn a plan around.
#[must_use]
pub fn order(clues: &[Clue], items: &BTreeMap<ImageRef, Item>, fixed_bytes: f64) -> Vec<ImageRef> {
    let mut placed: BTreeSet<&ImageRef> = BTreeSet::new();
    let mut out = Vec::with_capacity(items.len());
    let jobs = merged_jobs(clues);
    for class in [Priority::Pending, Priority::Predicted, Priority::Background] {
        loop {
            let next = jobs
                .iter()
                .filter_map(|(images, weight)| {
                    let open: Vec<&ImageRef> = images
                        .iter()
                        .filter(|i| {
                            !placed.contains(i)
                                && items.get(*i).is_some_and(|x| x.priority == class)
                        })
                        .collect();
                    let bytes: f64 = open
                        .iter()
                        .map(|i| items[*i].bytes as f64 + fixed_bytes)
                        .sum();
                    (!open.is_empty()).then(|| (step(weight / bytes.max(1.0)), open))
                })
                .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
            let Some((_, open)) = next else { break };
            for image in open {
                if placed.insert(image) {
                    out.push(image.clone());
                }
            }
        }
    }
    out
}

/// Clues of pods with the same images are one job; within one cause the largest counts.
fn merged_jobs(clues: &[Clue]) -> Vec<(&[ImageRef], f64)> {
    let mut weights: BTreeMap<(&[ImageRef], &str), f64> = BTreeMap::new();
    for clue in clues {
        let weight = weights
            .entry((clue.images.as_slice(), clue.cause.as_str()))
            .or_default();
        *weight = weight.max(clue.pods.max(clue.chance));
    }
    let mut jobs: BTreeMap<&[ImageRef], f64> = BTreeMap::new();
    for ((images, _), weight) in weights {
        *jobs.entry(images).or_default() += weight;
    }
    jobs.into_iter().collect()
}

fn step(density: f64) -> i64 {
    (density.max(1e-18).log2() * 2.0).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Reason;

    fn clue(images: &[&str], pods: f64) -> Clue {
        Clue {
            images: images.iter().map(|i| i.parse().unwrap()).collect(),
            cause: images.join("+"),
            chance: 1.0,
            pods,
            reason: Reason::PendingPod(images.join("+")),
            priority: Priority::Pending,
        }
    }

    fn items(sizes: &[(&str, u64, Priority)]) -> BTreeMap<ImageRef, Item> {
        sizes
            .iter()
            .map(|(image, bytes, priority)| {
                let item = Item {
                    bytes: *bytes,
                    priority: *priority,
                };
                (image.parse().unwrap(), item)
            })
            .collect()
    }

    fn names(order: &[ImageRef]) -> Vec<&str> {
        order.iter().map(ImageRef::repository).collect()
    }

    #[test]
    fn a_small_image_that_many_wait_for_goes_before_a_large_one() {
        let clues = [clue(&["big"], 2.0), clue(&["small"], 8.0)];
        let items = items(&[
            ("big", 1_000_000_000, Priority::Pending),
            ("small", 50_000_000, Priority::Pending),
        ]);
        assert_eq!(
            names(&order(&clues, &items, 1e7)),
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
            names(&order(&clues, &items, 1e7)),
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
            names(&order(&clues, &items, 1e7)),
            ["library/waiting", "library/expected"]
        );
    }
}
