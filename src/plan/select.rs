//! A plan out of clues: what is worth its bytes, within the budget, in order.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashSetExt as _};

use crate::domain::image::{ImageManifest, ImageRef};
use crate::domain::plan::{Plan, PlanEntry, Priority, Reason, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::calibrate::Curves;
use crate::forecast::combine::{Clue, Wish, wishes};
use crate::forecast::model::{Disk, Model};
use crate::plan::admit::{Common, Layers, Terms, Wanted, admit};
use crate::plan::explain::{Fate, Fill, Verdict};
use crate::plan::flights::Guess;
use crate::plan::order::{Item, order};
use crate::plan::policy::{Mode, Policy};
use crate::plan::present::Present;
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
    pub present: Option<&'a Present>,
    /// The plan in force, for entries that stay a little longer than they would be taken.
    pub previous: Option<&'a Plan>,
    /// What new guesses may take beside the disk.
    pub guesses: Option<Common<'a>>,
    /// What became of earlier probabilities; missing where they are taken as stated.
    pub curves: Option<&'a Curves>,
}

/// A plan and what was thought on the way.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    model: &'a Model,
    brief: &'a Brief<'a>,
    /// In the order of the images.
    considered: Vec<Considered<'a>>,
    /// What the plan names, in its order: places in `considered`, and the bytes that each adds.
    admitted: Vec<(usize, ByteSize)>,
    fills: Vec<Fill>,
    guesses: Vec<Guess>,
}

#[derive(Clone, Debug)]
struct Considered<'a> {
    wish: Wish<'a>,
    manifest: Option<&'a ImageManifest>,
    threshold: Option<f64>,
    /// The plan in force has it.
    kept: bool,
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

/// Makes a plan of everything that the clues speak for; they come by cause.
pub fn select<'a>(
    model: &'a Model,
    policy: &Policy,
    brief: &'a Brief<'a>,
    clues: &[&'a Clue],
    meaning: impl Fn(&ImageRef) -> Meaning<'a>,
) -> Selection<'a> {
    let off = policy.mode(brief.pool) == Mode::Off;
    let considered: Vec<Considered<'a>> = wishes(clues)
        .into_iter()
        .map(|mut wish| {
            if let Some(curves) = brief.curves {
                wish.correct(curves, model.history.calibration);
            }
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
    let mut selection = Selection {
        model,
        brief,
        considered,
        admitted: Vec::new(),
        fills: Vec::new(),
        guesses: Vec::new(),
    };
    // Most looks at a node find that it has everything: they end here.
    if items.is_empty() {
        return selection;
    }
    let in_order = order(clues, &items, model.price.overhead_s * model.price.rate);
    let present = brief.present.into_iter().flat_map(Present::images);
    let present = present.filter_map(|image| match meaning(image) {
        Meaning::Known(manifest) => Some(manifest),
        _ => None,
    });
    let mut have = Layers::new();
    for manifest in present {
        have.extend(manifest.layers.iter().map(|layer| &layer.digest));
    }
    selection.admit(&in_order, &have);
    selection
}

fn considered_as(wish: Wish<'_>, fate: Fate) -> Considered<'_> {
    Considered {
        wish,
        manifest: None,
        threshold: None,
        kept: false,
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
        kept,
        fate,
    }
}

// === impl Selection ===

impl<'a> Selection<'a> {
    /// Takes what fits the budgets, in the given order.
    fn admit(&mut self, in_order: &[&ImageRef], have: &Layers<'a>) {
        let places = in_order.iter().filter_map(|image| {
            let found = self
                .considered
                .binary_search_by_key(image, |one| one.wish.image);
            let place = found.ok()?;
            Some((place, self.wanted(place)?))
        });
        let (places, wanted): (Vec<usize>, Vec<Wanted<'a>>) = places.unzip();
        let terms = Terms {
            price: &self.model.price,
            have,
            disk: self.brief.budget,
            guesses: self.brief.guesses,
        };
        let admission = admit(&wanted, terms);
        self.fills = admission.fills;
        let outcomes = wanted.iter().zip(admission.outcomes);
        for (place, (wanted, outcome)) in places.into_iter().zip(outcomes) {
            let fate = match outcome {
                Ok(added) => {
                    if wanted.is_new_guess() {
                        self.guesses.push(Guess {
                            registry: wanted.registry.to_owned(),
                            bytes: added.bytes,
                            requests: 1 + added.layers,
                        });
                    }
                    self.admitted.push((place, added.bytes));
                    Fate::Planned(self.admitted.len() - 1)
                }
                Err(fate) => fate,
            };
            if let Some(one) = self.considered.get_mut(place) {
                one.fate = fate;
            }
        }
    }

    fn wanted(&self, place: usize) -> Option<Wanted<'a>> {
        let (price, one) = (&self.model.price, self.considered.get(place)?);
        // A wish that is being fulfilled is given up only for one that is worth more by as much.
        let keep = if one.kept { price.keep } else { 1.0 };
        let pods = one.wish.chance * counted(price, one.wish.pods);
        Some(Wanted {
            manifest: one.manifest?,
            waits: one.wish.priority == Priority::Pending,
            kept: one.kept,
            registry: one.wish.image.registry(),
            pods: pods / keep.max(0.01),
        })
    }

    /// Guesses that the plan in force did not name, in order.
    #[must_use]
    pub fn guesses(&self) -> &[Guess] {
        &self.guesses
    }

    /// Budgets that did not hold everything.
    #[must_use]
    pub fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// Whether guesses are left out because others are on their way.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        let mut fates = self.considered.iter().map(|one| &one.fate);
        fates.any(|fate| matches!(fate, Fate::Zone | Fate::Registry))
    }

    /// Whether something speaks for an image, enough for what is there to stay.
    #[must_use]
    pub fn stays_wanted(&self, image: &ImageRef) -> bool {
        let found = self
            .considered
            .binary_search_by_key(&image, |one| one.wish.image);
        let one = found.ok().and_then(|place| self.considered.get(place));
        one.is_some_and(|one| !matches!(one.fate, Fate::Unlikely | Fate::Policy))
    }

    /// What is said of images that are not there: image, kind where it is learned, probability before
    /// any correction.
    pub fn statements(&self) -> impl Iterator<Item = (&'a ImageRef, Option<&'static str>, f64)> {
        let said = self
            .considered
            .iter()
            .filter(|one| !matches!(one.fate, Fate::Present | Fate::Platform));
        said.map(|one| (one.wish.image, one.wish.class(), one.wish.stated))
    }

    /// For whom.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.brief.target
    }

    /// Whether the plan would name no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admitted.is_empty()
    }

    /// [`Plan::same_wishes`] of a plan for the same target, before ours is written out: two of three
    /// looks at a new node end with it.
    #[must_use]
    pub fn same_wishes(&self, plan: &Plan) -> bool {
        let same = |(entry, (place, _)): (&PlanEntry, &(usize, ByteSize))| {
            let one = &self.considered[*place];
            let digest = one.manifest.map(|manifest| &manifest.digest);
            digest == Some(&entry.digest)
                && *one.wish.image == entry.image
                && one.wish.priority == entry.priority
        };
        self.admitted.len() == plan.entries.len()
            && plan.entries.iter().zip(&self.admitted).all(same)
    }

    /// Images that the plan would need the meaning of.
    pub fn unresolved(&self) -> impl Iterator<Item = &ImageRef> {
        let considered = self.considered.iter();
        let unresolved = considered.filter(|one| one.fate == Fate::Unresolved);
        unresolved.map(|one| one.wish.image)
    }

    /// The plan; it may be empty.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut left_out: BTreeMap<String, u32> = BTreeMap::new();
        let considered = self.considered.iter();
        for word in considered.filter_map(|one| one.fate.left_out()) {
            *left_out.entry(word.to_owned()).or_default() += 1;
        }
        let admitted = self.admitted.iter();
        let entries = admitted.filter_map(|(place, bytes)| self.entry(*place, *bytes));
        let brief = self.brief;
        Plan {
            entries: entries.collect(),
            left_out,
            ..Plan::empty(brief.target.clone(), brief.epoch, brief.now)
        }
    }

    fn entry(&self, place: usize, bytes: ByteSize) -> Option<PlanEntry> {
        let (brief, one) = (self.brief, self.considered.get(place)?);
        let (wish, manifest) = (&one.wish, one.manifest?);
        let reason = wish.reason().cloned();
        let reason = reason.unwrap_or_else(|| Reason::History(brief.pool.into()));
        let waits_here = matches!(reason, Reason::Bound(_));
        Some(PlanEntry {
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
            expires: brief.now + self.model.times.expiry(),
        })
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
                stated: one.wish.stated,
                class: one.wish.class(),
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
