//! A plan out of clues: what is worth its bytes, within the budget, in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::combine::{Clue, Wish, wishes};
use crate::forecast::model::{Disk, Model};
use crate::plan::admit::{Common, Layers, Terms, Wanted, admit};
use crate::plan::explain::{Fate, Fill, Verdict};
use crate::plan::flights::Guess;
use crate::plan::order::{Item, order};
use crate::plan::policy::{Mode, Policy};
use crate::plan::value::{counted, threshold};

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
    /// What new guesses may take beside the disk.
    pub guesses: Option<Common<'a>>,
}

/// A plan and what was thought on the way.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The plan; it may be empty.
    pub plan: Plan,
    /// One per candidate.
    pub verdicts: Vec<Verdict>,
    /// Budgets that did not hold everything.
    pub fills: Vec<Fill>,
    /// Guesses that the plan in force did not name, in order.
    pub guesses: Vec<Guess>,
}

struct Considered<'a> {
    wish: Wish,
    manifest: Option<&'a ImageManifest>,
    threshold: Option<f64>,
    /// The plan in force has it.
    kept: bool,
    fate: Fate,
}

/// What fits the budgets.
#[derive(Default)]
struct Filled {
    entries: Vec<PlanEntry>,
    fills: Vec<Fill>,
    guesses: Vec<Guess>,
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
    clues: &[Clue],
    meaning: impl Fn(&ImageRef) -> Meaning<'a>,
) -> Selection {
    let off = policy.mode(brief.pool) == Mode::Off;
    let mut considered: BTreeMap<ImageRef, Considered<'a>> = wishes(clues)
        .into_iter()
        .map(|(image, wish)| {
            let one = if off || !policy.allows(&image) {
                considered_as(wish, Fate::Policy)
            } else if brief.present.is_some_and(|there| there.contains(&image)) {
                considered_as(wish, Fate::Present)
            } else {
                weigh(model, brief, wish, meaning(&image))
            };
            (image, one)
        })
        .collect();
    let items: BTreeMap<ImageRef, Item> = considered
        .iter()
        .filter(|(_, one)| matches!(one.fate, Fate::Planned(_)))
        .filter_map(|(image, one)| {
            let item = Item {
                bytes: one.manifest?.size().0,
                priority: one.wish.priority,
                awaited: one.wish.awaited,
            };
            Some((image.clone(), item))
        })
        .collect();
    // Most looks at a node find that it has everything: they end here.
    if items.is_empty() {
        return finish(brief, Filled::default(), considered);
    }
    let in_order = order(clues, &items, model.price.overhead_s * model.price.rate);
    let present_layers =
        brief
            .present
            .into_iter()
            .flatten()
            .filter_map(|image| match meaning(image) {
                Meaning::Known(manifest) => Some(manifest),
                _ => None,
            });
    let have: Layers<'_> = present_layers
        .flat_map(|manifest| manifest.layers.iter().map(|layer| &layer.digest))
        .collect();
    let filled = fill(model, brief, &in_order, &mut considered, &have);
    finish(brief, filled, considered)
}

fn considered_as<'a>(wish: Wish, fate: Fate) -> Considered<'a> {
    Considered {
        wish,
        manifest: None,
        threshold: None,
        kept: false,
        fate,
    }
}

fn weigh<'a>(model: &Model, brief: &Brief<'_>, wish: Wish, meaning: Meaning<'a>) -> Considered<'a> {
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
        .is_some_and(|plan| plan.entries.iter().any(|e| e.image == wish.image));
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
        kept,
        fate,
    }
}

/// Puts what fits the budgets into entries, in the given order.
fn fill<'o, 'a: 'o>(
    model: &Model,
    brief: &Brief<'_>,
    in_order: &'o [ImageRef],
    considered: &mut BTreeMap<ImageRef, Considered<'a>>,
    have: &Layers<'a>,
) -> Filled {
    let wanted: Vec<(&ImageRef, Wanted<'o>)> = in_order
        .iter()
        .filter_map(|image| {
            let one = considered.get(image)?;
            let manifest = one.manifest?;
            // A wish that is being fulfilled is given up only for one that is worth more by as much.
            let keep = if one.kept { model.price.keep } else { 1.0 };
            let pods = one.wish.chance * counted(&model.price, one.wish.pods);
            let wanted = Wanted {
                manifest,
                waits: one.wish.priority == Priority::Pending,
                kept: one.kept,
                registry: image.registry(),
                pods: pods / keep.max(0.01),
            };
            Some((image, wanted))
        })
        .collect();
    let only: Vec<Wanted<'o>> = wanted.iter().map(|(_, wanted)| *wanted).collect();
    let terms = Terms {
        price: &model.price,
        have,
        disk: brief.budget,
        guesses: brief.guesses,
    };
    let admission = admit(&only, terms);
    let mut filled = Filled {
        fills: admission.fills,
        ..Filled::default()
    };
    for ((image, wanted), outcome) in wanted.into_iter().zip(admission.outcomes) {
        let Some(one) = considered.get_mut(image) else {
            continue;
        };
        match outcome {
            Ok(added) => {
                one.fate = Fate::Planned(filled.entries.len());
                if wanted.is_new_guess() {
                    filled.guesses.push(Guess {
                        registry: wanted.registry.to_owned(),
                        bytes: added.bytes,
                        requests: 1 + added.layers,
                    });
                }
                let entry = entry(model, brief, &one.wish, wanted.manifest, added.bytes);
                filled.entries.push(entry);
            }
            Err(fate) => one.fate = fate,
        }
    }
    filled
}

fn entry(
    model: &Model,
    brief: &Brief<'_>,
    wish: &Wish,
    manifest: &ImageManifest,
    bytes: ByteSize,
) -> PlanEntry {
    let reason = wish.reasons.first().map_or_else(
        || Reason::History(brief.pool.into()),
        |(reason, _)| reason.clone(),
    );
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

fn finish(
    brief: &Brief<'_>,
    filled: Filled,
    considered: BTreeMap<ImageRef, Considered<'_>>,
) -> Selection {
    let mut left_out: BTreeMap<String, u32> = BTreeMap::new();
    let mut verdicts: Vec<Verdict> = considered
        .into_values()
        .map(|one| {
            if let Some(word) = one.fate.left_out() {
                *left_out.entry(word.to_owned()).or_default() += 1;
            }
            Verdict {
                image: one.wish.image,
                chance: one.wish.chance,
                threshold: one.threshold,
                priority: one.wish.priority,
                pods: one.wish.pods,
                reasons: one.wish.reasons,
                fate: one.fate,
            }
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
    Selection {
        plan: Plan {
            entries: filled.entries,
            left_out,
            ..Plan::empty(brief.target.clone(), brief.epoch, brief.now)
        },
        verdicts,
        fills: filled.fills,
        guesses: filled.guesses,
    }
}
