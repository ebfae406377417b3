//! What fits the budgets: in order while everything does, otherwise the best closures.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::domain::image::{Digest, ImageManifest};
use crate::domain::quantity::ByteSize;
use crate::forecast::model::Price;
use crate::plan::closure::{Candidate, Problem, choose};
use crate::plan::explain::{Fate, Fill};
use crate::plan::value::saved;

/// An image that is worth its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What it is made of.
    pub manifest: &'a ImageManifest,
    /// Whether a pod waits for it here: those are never behind a guess.
    pub waits: bool,
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
}

/// What became of the wanted images.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Per wanted image the bytes that it adds to those before it, or why it is left out.
    pub outcomes: Vec<Result<ByteSize, Fate>>,
    /// The budgets that did not hold everything.
    pub fills: Vec<Fill>,
}

/// Layers by digest.
pub type Layers<'a> = HashSet<&'a Digest>;

/// Takes the wanted images, given in the order of transfer, within the budgets; layers are counted
/// once.
#[must_use]
pub fn admit(wanted: &[Wanted<'_>], terms: Terms<'_>) -> Admission {
    let mut left_out: BTreeMap<usize, Fate> = BTreeMap::new();
    let mut fills = Vec::new();
    let all: Vec<usize> = (0..wanted.len()).collect();
    let mut outcomes = laid_out(wanted, &left_out, terms);
    if total(&outcomes) > terms.disk {
        let (taken, fill) = within(wanted, &all, terms, ("budget", terms.disk));
        fills.push(fill);
        let out = all.iter().filter(|at| !taken.contains(at));
        left_out.extend(out.map(|at| (*at, Fate::Budget)));
        outcomes = laid_out(wanted, &left_out, terms);
    }
    Admission { outcomes, fills }
}

/// What each image adds that is not left out.
fn laid_out<'a>(
    wanted: &[Wanted<'a>],
    left_out: &BTreeMap<usize, Fate>,
    terms: Terms<'_>,
) -> Vec<Result<ByteSize, Fate>> {
    let mut added = Layers::new();
    let outcome = |(at, one): (usize, &Wanted<'a>)| match left_out.get(&at) {
        Some(fate) => Err(fate.clone()),
        None => Ok(add(one.manifest, terms.have, &mut added)),
    };
    wanted.iter().enumerate().map(outcome).collect()
}

fn total(outcomes: &[Result<ByteSize, Fate>]) -> ByteSize {
    outcomes.iter().flatten().copied().sum()
}

/// The best of some images within a budget that does not hold them all: first of who waits, then of the
/// others with what that leaves.
fn within(
    wanted: &[Wanted<'_>],
    some: &[usize],
    terms: Terms<'_>,
    (word, budget): (&'static str, ByteSize),
) -> (BTreeSet<usize>, Fill) {
    let mut added = Layers::new();
    let mut left = budget;
    let mut taken = BTreeSet::new();
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
        for (at, _) in of_class.iter().zip(&choice.taken).filter(|(_, t)| **t) {
            left = left - add(wanted[*at].manifest, terms.have, &mut added);
            taken.insert(*at);
        }
    }
    let fill = Fill::new((word, budget), (taken.len(), some.len()), (value, bound));
    (taken, fill)
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
        let whole = add(wanted[*at].manifest, terms.have, &mut own);
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

/// Adds an image; the bytes of its layers that were not there.
fn add<'a>(manifest: &'a ImageManifest, have: &Layers<'_>, added: &mut Layers<'a>) -> ByteSize {
    let layers = manifest.layers.iter();
    layers
        .filter(|layer| !have.contains(&layer.digest) && added.insert(&layer.digest))
        .map(|layer| layer.size)
        .sum()
}
