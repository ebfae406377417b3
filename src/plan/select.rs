//! A plan out of clues: what is worth its bytes, within the budget, in order.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::{HashMap, HashSet, HashSetExt as _};

use crate::domain::image::{Digest, ImageManifest, ImageRef};
use crate::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::combine::{Clue, Wish, by_cause, wishes};
use crate::forecast::model::{Disk, Model};
use crate::plan::explain::{Fate, Verdict};
use crate::plan::order::{Item, order};
use crate::plan::policy::{Mode, Policy};
use crate::plan::value::threshold;

/// What a reference means on the target.
#[derive(Clone, Copy, Debug)]
pub enum Meaning<'a> {
    /// The manifest for the target's platform.
    Known(&'a ImageManifest),
    /// There is none for this platform.
    OtherPlatform,
    /// Nobody has said yet.
    Unknown,
}

/// For whom a plan is made.
#[derive(Clone, Debug)]
pub struct Brief<'a> {
    /// Whose.
    pub target: Target,
    /// Pool that the policy is looked up for.
    pub pool: &'a str,
    /// When.
    pub now: Timestamp,
    /// Leader's epoch.
    pub epoch: u64,
    /// Compressed bytes that the plan may name.
    pub budget: ByteSize,
    /// Factor on the price of a byte.
    pub dearer: f64,
    /// At least this probability, whatever the price says (a pool's plan).
    pub at_least: f64,
    /// When a pod is expected to need the images.
    pub deadline: Option<Timestamp>,
    /// Images that are there already.
    pub present: Option<&'a BTreeSet<ImageRef>>,
    /// The plan in force, for entries that stay a little longer than they would be taken.
    pub previous: Option<&'a Plan>,
}

/// A plan and what was thought on the way.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    plan: Plan,
    /// In the order of the images.
    considered: Vec<Considered<'a>>,
}

#[derive(Clone, Debug)]
struct Considered<'a> {
    wish: Wish<'a>,
    manifest: Option<&'a ImageManifest>,
    threshold: Option<f64>,
    fate: Fate,
}

/// Compressed bytes that a plan may name on a node with this much ephemeral storage.
#[must_use]
pub fn budget(disk: &Disk, ephemeral: Option<ByteSize>) -> ByteSize {
    match ephemeral {
        Some(size) if size.0 > 0 => {
            ByteSize((size.0 as f64 * disk.fraction / disk.expansion.max(1.0)) as u64)
        }
        _ => ByteSize(disk.unknown_bytes),
    }
}

/// Makes a plan of everything that the clues speak for.
pub fn select<'a>(
    model: &Model,
    policy: &Policy,
    brief: &Brief<'_>,
    mut clues: Vec<&'a Clue>,
    meaning: impl Fn(&ImageRef) -> Meaning<'a>,
) -> Selection<'a> {
    let off = policy.mode(brief.pool) == Mode::Off;
    by_cause(&mut clues);
    let mut considered: Vec<Considered<'a>> = wishes(&clues)
        .into_iter()
        .map(|wish| {
            let image = wish.image;
            if off || !policy.allows(image) {
                considered_as(wish, Fate::Policy)
            } else if brief.present.is_some_and(|there| there.contains(image)) {
                considered_as(wish, Fate::Present)
            } else {
                weigh(model, brief, wish, meaning(image))
            }
        })
        .collect();
    let items: HashMap<ImageRef, Item> = considered
        .iter()
        .filter(|one| matches!(one.fate, Fate::Planned(_)))
        .filter_map(|one| {
            let item = Item {
                bytes: one.manifest?.size().0,
                priority: one.wish.priority,
                awaited: one.wish.awaited,
            };
            Some((one.wish.image.clone(), item))
        })
        .collect();
    // Most looks at a node find that it has everything: they end here.
    if items.is_empty() {
        return finish(brief, Vec::new(), considered);
    }
    let in_order = order(&clues, &items, model.price.overhead_s * model.price.rate);
    let present_layers =
        brief
            .present
            .into_iter()
            .flatten()
            .filter_map(|image| match meaning(image) {
                Meaning::Known(manifest) => Some(manifest),
                _ => None,
            });
    let entries = admit(model, brief, &in_order, &mut considered, present_layers);
    finish(brief, entries, considered)
}

fn considered_as<'a>(wish: Wish<'a>, fate: Fate) -> Considered<'a> {
    Considered {
        wish,
        manifest: None,
        threshold: None,
        fate,
    }
}

fn weigh<'a>(
    model: &Model,
    brief: &Brief<'_>,
    wish: Wish<'a>,
    meaning: Meaning<'a>,
) -> Considered<'a> {
    let manifest = match meaning {
        Meaning::Known(manifest) => manifest,
        Meaning::OtherPlatform => return considered_as(wish, Fate::Platform),
        Meaning::Unknown => return considered_as(wish, Fate::Unresolved),
    };
    // Who waits on this very node waits for certain; the price of a busy node is for guesses.
    let dearer = if wish.priority == Priority::Pending {
        1.0
    } else {
        brief.dearer
    };
    let mut limit = threshold(&model.price, manifest.size(), wish.pods, dearer).max(brief.at_least);
    let kept = brief
        .previous
        .is_some_and(|plan| plan.entries.iter().any(|e| e.image == *wish.image));
    if kept {
        limit *= model.price.keep.clamp(0.0, 1.0);
    }
    let fate = if wish.chance >= limit {
        Fate::Planned(0)
    } else {
        Fate::Unlikely
    };
    Considered {
        wish,
        manifest: Some(manifest),
        threshold: Some(limit),
        fate,
    }
}

/// Takes images in order while the bytes that they add fit; layers are counted once.
fn admit<'a>(
    model: &Model,
    brief: &Brief<'_>,
    in_order: &[&ImageRef],
    considered: &mut [Considered<'a>],
    present: impl Iterator<Item = &'a ImageManifest>,
) -> Vec<PlanEntry> {
    let mut have: HashSet<&'a Digest> = present
        .flat_map(|manifest| manifest.layers.iter().map(|layer| &layer.digest))
        .collect();
    let mut left = brief.budget;
    let mut entries: Vec<PlanEntry> = Vec::new();
    for image in in_order {
        let place = considered.binary_search_by_key(image, |one| one.wish.image);
        let Some(one) = place.ok().and_then(|place| considered.get_mut(place)) else {
            continue;
        };
        let Some(manifest) = one.manifest else {
            continue;
        };
        let mut fresh: HashSet<&'a Digest> = HashSet::new();
        let bytes: ByteSize = manifest
            .layers
            .iter()
            .filter(|layer| !have.contains(&layer.digest) && fresh.insert(&layer.digest))
            .map(|layer| layer.size)
            .sum();
        if bytes > left {
            one.fate = Fate::Budget;
            continue;
        }
        left = left - bytes;
        have.extend(fresh);
        one.fate = Fate::Planned(entries.len());
        entries.push(entry(model, brief, &one.wish, manifest, bytes));
    }
    entries
}

fn entry(
    model: &Model,
    brief: &Brief<'_>,
    wish: &Wish<'_>,
    manifest: &ImageManifest,
    bytes: ByteSize,
) -> PlanEntry {
    let reason = wish.reason().cloned();
    let reason = reason.unwrap_or_else(|| Reason::History(brief.pool.into()));
    let waits_here = matches!(reason, Reason::Bound(_));
    PlanEntry {
        image: wish.image.clone(),
        digest: manifest.digest.clone(),
        platform: manifest.platform.clone(),
        priority: wish.priority,
        reason,
        probability: (wish.chance * 1e4).round() / 1e4,
        bytes,
        deadline: if waits_here {
            Some(brief.now)
        } else {
            brief.deadline
        },
        expires: brief.now + model.times.expiry(),
    }
}

fn finish<'a>(
    brief: &Brief<'_>,
    entries: Vec<PlanEntry>,
    considered: Vec<Considered<'a>>,
) -> Selection<'a> {
    let mut left_out: BTreeMap<String, u32> = BTreeMap::new();
    for word in considered.iter().filter_map(|one| one.fate.left_out()) {
        *left_out.entry(word.to_owned()).or_default() += 1;
    }
    Selection {
        plan: Plan {
            target: brief.target.clone(),
            epoch: brief.epoch,
            made: brief.now,
            entries,
            left_out,
        },
        considered,
    }
}

// === impl Selection ===

impl Selection<'_> {
    /// The plan, which may be empty, and the images that it would need the meaning of.
    #[must_use]
    pub fn decided(self) -> (Plan, Vec<ImageRef>) {
        let unresolved = self.considered.iter();
        let unresolved = unresolved.filter(|one| one.fate == Fate::Unresolved);
        let unresolved = unresolved.map(|one| one.wish.image.clone()).collect();
        (self.plan, unresolved)
    }

    /// What became of each candidate: planned ones first, in their order; then the others, most
    /// probable first.
    #[must_use]
    pub fn verdicts(self) -> Vec<Verdict> {
        let considered = self.considered.into_iter();
        let mut verdicts: Vec<Verdict> = considered
            .map(|one| Verdict {
                image: one.wish.image.clone(),
                chance: one.wish.chance,
                threshold: one.threshold,
                priority: one.wish.priority,
                pods: one.wish.pods,
                reasons: one.wish.reasons(),
                fate: one.fate,
            })
            .collect();
        let place = |verdict: &Verdict| match verdict.fate {
            Fate::Planned(at) => at,
            _ => usize::MAX,
        };
        verdicts.sort_by(|a, b| {
            place(a)
                .cmp(&place(b))
                .then(b.chance.total_cmp(&a.chance))
                .then_with(|| a.image.cmp(&b.image))
        });
        verdicts
    }
}
