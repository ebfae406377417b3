//! What fits the budgets: in order while everything does, otherwise the best closures.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use foldhash::{HashSet, HashSetExt as _};

use crate::domain::image::{Digest, ImageManifest};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::forecast::model::Price;
use crate::plan::closure::{Candidate, Problem, choose};
use crate::plan::explain::{Fate, Fill};
use crate::plan::flights::Flights;
use crate::plan::value::saved;

/// An image that is worth its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What it is made of.
    pub manifest: &'a ImageManifest,
    /// Whether a pod waits for it here: those are never behind a guess.
    pub waits: bool,
    /// Whether the plan in force has it: it is on its way, or there.
    pub kept: bool,
    /// Host of its registry.
    pub registry: &'a str,
    /// Pods that its seconds are saved for, expected.
    pub pods: f64,
}

/// Within what is planned.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What a pull takes.
    pub price: &'a Price,
    /// Layers that are there.
    pub have: &'a Layers<'a>,
    /// Compressed bytes that the disk takes.
    pub disk: ByteSize,
    /// What new guesses may take beside; missing where nobody follows the plan while it stands (a pool's).
    pub guesses: Option<Common<'a>>,
}

/// Budgets of new guesses.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Bytes that the link brings in time.
    pub link: ByteSize,
    /// Bytes that may still set out for the zone.
    pub zone: ByteSize,
    /// Requests per minute and registry.
    pub requests: u64,
    /// What is under way.
    pub flights: &'a Flights,
    /// When.
    pub now: Timestamp,
}

/// What became of the wanted images.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Per wanted image the bytes that it adds to those before it, or why it is left out.
    pub outcomes: Vec<Result<Added, Fate>>,
    /// The budgets that did not hold everything.
    pub fills: Vec<Fill>,
}

/// What an image adds to those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Bytes.
    pub bytes: ByteSize,
    /// Layers.
    pub layers: u64,
}

/// Layers by digest.
pub type Layers<'a> = HashSet<&'a Digest>;

/// Takes the wanted images, given in the order of transfer, within the budgets; layers are counted
/// once.
#[must_use]
pub fn admit(wanted: &[Wanted<'_>], terms: Terms<'_>) -> Admission {
    let mut left_out: BTreeMap<usize, Fate> = BTreeMap::new();
    let mut fills = Vec::new();
    let mut outcomes = laid_out(wanted, &left_out, terms);
    if total(&outcomes) > terms.disk {
        let all: Vec<usize> = (0..wanted.len()).collect();
        let budget = ("budget", terms.disk, Fate::Budget);
        fills.push(within(wanted, &all, terms, budget, &mut left_out));
        outcomes = laid_out(wanted, &left_out, terms);
    }
    if let Some(common) = terms.guesses {
        let before = left_out.len();
        let fill = hold_back(wanted, &outcomes, terms, &common, &mut left_out);
        fills.extend(fill);
        ask_less(wanted, terms, &common, &mut left_out);
        if left_out.len() > before {
            outcomes = laid_out(wanted, &left_out, terms);
        }
    }
    Admission { outcomes, fills }
}

/// Leaves out new guesses that the link cannot bring in time beside what pods wait for, or that are too
/// much for the zone: the tighter of the two decides.
fn hold_back(
    wanted: &[Wanted<'_>],
    outcomes: &[Result<Added, Fate>],
    terms: Terms<'_>,
    common: &Common<'_>,
    left_out: &mut BTreeMap<usize, Fate>,
) -> Option<Fill> {
    let bytes = |of_new_guesses: bool| -> ByteSize {
        let pairs = wanted.iter().zip(outcomes);
        let some = pairs.filter(|(one, _)| one.is_new_guess() == of_new_guesses);
        let added = some.filter_map(|(_, outcome)| outcome.as_ref().ok());
        added.map(|added| added.bytes).sum()
    };
    // What is kept is not there yet: it is on the link, too.
    let link = common.link - bytes(false);
    let budget = if link <= common.zone {
        ("link", link, Fate::Link)
    } else {
        ("zone", common.zone, Fate::Zone)
    };
    if bytes(true) <= budget.1 {
        return None;
    }
    let guesses: Vec<usize> = (0..wanted.len())
        .filter(|at| outcomes[*at].is_ok() && wanted[*at].is_new_guess())
        .collect();
    Some(within(wanted, &guesses, terms, budget, left_out))
}

/// Leaves out new guesses, in order, whose manifest and layers are more requests than their registry may
/// still be sent.
fn ask_less(
    wanted: &[Wanted<'_>],
    terms: Terms<'_>,
    common: &Common<'_>,
    left_out: &mut BTreeMap<usize, Fate>,
) {
    let mut added = Layers::new();
    let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, one) in wanted.iter().enumerate() {
        if left_out.contains_key(&at) {
            continue;
        }
        let layers = add(one.manifest, terms.have, &mut added).layers;
        if !one.is_new_guess() {
            continue;
        }
        let open = || common.flights.asked(one.registry, common.now);
        let asked = asked.entry(one.registry).or_insert_with(open);
        if *asked + 1 + layers > common.requests {
            // Its layers stay counted as there: whoever shares them is judged no stricter.
            left_out.insert(at, Fate::Registry);
        } else {
            *asked += 1 + layers;
        }
    }
}

/// What each image adds that is not left out.
fn laid_out<'a>(
    wanted: &[Wanted<'a>],
    left_out: &BTreeMap<usize, Fate>,
    terms: Terms<'_>,
) -> Vec<Result<Added, Fate>> {
    let mut added = Layers::new();
    let outcome = |(at, one): (usize, &Wanted<'a>)| match left_out.get(&at) {
        Some(fate) => Err(fate.clone()),
        None => Ok(add(one.manifest, terms.have, &mut added)),
    };
    wanted.iter().enumerate().map(outcome).collect()
}

fn total(outcomes: &[Result<Added, Fate>]) -> ByteSize {
    outcomes.iter().flatten().map(|added| added.bytes).sum()
}

/// Leaves out of some images what is not among the best within a budget that does not hold them all:
/// first of who waits, then of the others with what that leaves. Layers of the images that are neither
/// in question nor left out are there already.
fn within(
    wanted: &[Wanted<'_>],
    some: &[usize],
    terms: Terms<'_>,
    (word, budget, fate): (&'static str, ByteSize, Fate),
    left_out: &mut BTreeMap<usize, Fate>,
) -> Fill {
    let mut added = Layers::new();
    for (at, one) in wanted.iter().enumerate() {
        if !left_out.contains_key(&at) && some.binary_search(&at).is_err() {
            add(one.manifest, terms.have, &mut added);
        }
    }
    let mut left = budget;
    let mut taken = 0;
    let (mut value, mut bound) = (0.0, 0.0);
    for waits in [true, false] {
        let of_class = some.iter().copied().filter(|at| wanted[*at].waits == waits);
        let of_class: Vec<usize> = of_class.collect();
        let (candidates, sizes) = candidates(wanted, &of_class, terms, &added);
        let choice = choose(Problem {
            candidates: &candidates,
            sizes: &sizes,
            budget: left.0,
        });
        value += choice.value;
        bound += choice.bound;
        for (at, is_taken) in of_class.into_iter().zip(choice.taken) {
            if is_taken {
                taken += 1;
                left = left - add(wanted[at].manifest, terms.have, &mut added).bytes;
            } else {
                left_out.insert(at, fate.clone());
            }
        }
    }
    Fill::new((word, budget), (taken, some.len()), (value, bound))
}

/// Some images as the closures see them. An image is worth what its pods would wait for all of it that
/// is not there, whoever else brings a part.
fn candidates<'a>(
    wanted: &[Wanted<'a>],
    some: &[usize],
    terms: Terms<'_>,
    added: &Layers<'a>,
) -> (Vec<Candidate>, Vec<u64>) {
    let mut numbers: BTreeMap<&Digest, usize> = BTreeMap::new();
    let mut sizes: Vec<u64> = Vec::new();
    let mut candidates = Vec::with_capacity(some.len());
    for at in some {
        let mut own = Layers::new();
        let whole = add(wanted[*at].manifest, terms.have, &mut own).bytes;
        let missing = wanted[*at].manifest.layers.iter();
        let missing = missing.filter(|l| !added.contains(&l.digest) && own.remove(&l.digest));
        let layers = missing.map(|layer| {
            *numbers.entry(&layer.digest).or_insert_with(|| {
                sizes.push(layer.size.0);
                sizes.len() - 1
            })
        });
        candidates.push(Candidate {
            layers: layers.collect(),
            value: wanted[*at].pods * saved(terms.price, whole),
        });
    }
    (candidates, sizes)
}

/// Adds an image: what of it was not there.
fn add<'a>(manifest: &'a ImageManifest, have: &Layers<'_>, added: &mut Layers<'a>) -> Added {
    let layers = manifest.layers.iter();
    let fresh = layers.filter(|l| !have.contains(&l.digest) && added.insert(&l.digest));
    fresh.fold(Added::default(), |sum, layer| Added {
        bytes: sum.bytes + layer.size,
        layers: sum.layers + 1,
    })
}

// === impl Wanted ===

impl Wanted<'_> {
    /// Neither waited for nor on its way.
    pub(super) fn is_new_guess(&self) -> bool {
        !self.waits && !self.kept
    }
}
