//! One node: what was sent, why, when, and what it saved; what was not sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::image::ImageRef;
use crate::domain::plan::Target;
use crate::domain::time::Timestamp;
use crate::plan::explain::{Explanation, Fate, Verdict};
use crate::sim::explain::{Played, Question, Short, Totals, Why, never_planned, shortages};
use crate::sim::facts::{ImageId, LayerId, NodeId, PodId};
use crate::sim::score::used_layers;
use crate::sim::world::Mover;

/// The answer for one node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStory {
    /// Of the scenario.
    pub scenario: String,
    /// First instant of the scenario.
    pub start: Timestamp,
    /// The node's name.
    pub node: String,
    /// Its pool.
    pub pool: String,
    /// The Node object exists.
    pub joined: Timestamp,
    /// It takes pods.
    pub ready: Option<Timestamp>,
    /// It is gone.
    pub removed: Option<Timestamp>,
    /// Whether it joined after the start: waits of other nodes are not scored.
    pub new: bool,
    /// Sums over everything below.
    pub totals: Totals,
    /// Images that a plan named for it, in the order of being named.
    pub sent: Vec<Sent>,
    /// Images that no plan named for it.
    pub left_out: Vec<Left>,
    /// Budgets that did not hold everything that was worth its bytes.
    pub budgets: Vec<Short>,
    /// Brought by its plans, and let go by the last of them.
    pub let_go: Vec<ImageRef>,
    /// Pods that were bound to it.
    pub pods: Vec<PodStory>,
    /// How things stood at the instant that was asked for.
    pub at: Option<Explanation>,
}

/// An image that a plan named.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// As pods name it.
    pub image: ImageRef,
    /// Whose plan named it first: `pool` or `node`.
    pub by: &'static str,
    /// Since when that plan named it.
    pub since: Timestamp,
    /// Why it was named for this node: by the pool's plan as it stood when the node joined, or by the
    /// first of the node's own.
    pub first: Why,
    /// The strongest case for it, later on.
    pub strongest: Why,
    /// Seconds from being named to the node's Ready; negative when named later.
    pub lead_s: Option<f64>,
    /// First byte that the agent asked for.
    pub from: Option<Timestamp>,
    /// Last byte.
    pub to: Option<Timestamp>,
    /// Bytes that the agent brought for it; a layer counts for the first image that has it.
    pub bytes: u64,
    /// Of these, bytes that no pod used.
    pub wasted_bytes: u64,
    /// Pods that used it.
    pub used_by: Vec<String>,
}

/// An image that no plan named.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    /// As pods name it.
    pub image: ImageRef,
    /// Whether a pod on the node used it.
    pub used: bool,
    /// What was last thought of it; missing where it was never a candidate.
    pub why: Option<Why>,
    /// What became of it then.
    pub fate: Option<Fate>,
}

/// A pod on the node.
#[derive(Clone, Debug, Serialize)]
pub struct PodStory {
    /// `namespace/name`
    pub pod: String,
    /// When it was bound.
    pub bound: Timestamp,
    /// Whether its wait counts.
    pub scored: bool,
    /// Image wait without Forelay, seconds.
    pub reactive_wait_s: Option<f64>,
    /// With Forelay.
    pub wait_s: Option<f64>,
    /// Images that it uses.
    pub images: Vec<ImageRef>,
}

// === impl NodeStory ===

impl NodeStory {
    pub(super) fn new(question: &Question<'_>, played: &Played, node: NodeId) -> Self {
        let fact = &played.facts.nodes[node];
        let sights = Sights::of(played, node);
        let used = images_used(played, node);
        let target = Target::Node(fact.name.clone());
        Self {
            scenario: question.header.name.clone(),
            start: question.header.start,
            node: fact.name.clone(),
            pool: fact.pool.clone(),
            joined: fact.joined,
            ready: fact.ready,
            removed: fact.removed,
            new: fact.new,
            totals: played.totals(node),
            sent: sent(played, node, &sights, &used),
            left_out: left_out(&sights, &used),
            budgets: shortages(sights.pool.iter().chain(&sights.own).copied()),
            let_go: let_go(&sights),
            pods: fact
                .pods
                .iter()
                .map(|pod| pod_story(played, *pod))
                .collect(),
            at: played.asked(&target),
        }
    }
}

/// The looks that count for a node.
struct Sights<'a> {
    /// The Node object exists.
    joined: Timestamp,
    /// Its pool's, before it had a plan of its own.
    pool: Vec<&'a Explanation>,
    /// Its own.
    own: Vec<&'a Explanation>,
}

impl<'a> Sights<'a> {
    fn of(played: &'a Played, node: NodeId) -> Self {
        let fact = &played.facts.nodes[node];
        let looks = |target: &Target| -> Vec<&'a Explanation> {
            let sights = played.forelay.sights.iter().filter(|sight| sight.published);
            let seen = sights.map(|sight| &sight.explanation);
            seen.filter(|seen| seen.target == *target).collect()
        };
        let mut own = looks(&Target::Node(fact.name.clone()));
        own.retain(|seen| {
            seen.made >= fact.joined && fact.removed.is_none_or(|removed| seen.made < removed)
        });
        let first = own.first().map_or(Timestamp::MAX, |seen| seen.made);
        let until = fact.removed.unwrap_or(Timestamp::MAX).min(first);
        let mut pool = looks(&Target::Pool(fact.pool.clone()));
        pool.retain(|seen| seen.made < until);
        let joined = fact.joined;
        Self { joined, pool, own }
    }
}

fn let_go(sights: &Sights<'_>) -> Vec<ImageRef> {
    let last = sights.own.last().into_iter();
    let gone = last.flat_map(|seen| &seen.let_go);
    gone.map(|gone| gone.image.clone()).collect()
}

fn pod_story(played: &Played, pod: PodId) -> PodStory {
    let fact = &played.facts.pods[pod];
    let images = fact.images.iter().flatten();
    PodStory {
        pod: fact.name.clone(),
        bound: fact.bound,
        scored: played.facts.is_scored(pod),
        reactive_wait_s: played.wait_s(&played.reactive, pod),
        wait_s: played.wait_s(&played.forelay, pod),
        images: images
            .map(|image| played.facts.image(*image).name.clone())
            .collect(),
    }
}

/// Pods by image that they use on a node.
fn images_used(played: &Played, node: NodeId) -> BTreeMap<ImageRef, Vec<String>> {
    let mut used: BTreeMap<ImageRef, Vec<String>> = BTreeMap::new();
    for &pod in &played.facts.nodes[node].pods {
        let pod = &played.facts.pods[pod];
        for image in pod.images.iter().flatten() {
            let users = used.entry(played.facts.image(*image).name.clone());
            users.or_default().push(pod.name.clone());
        }
    }
    used
}

fn planned(seen: &Explanation) -> impl Iterator<Item = &Verdict> {
    let verdicts = seen.verdicts.iter();
    verdicts.filter(|verdict| matches!(verdict.fate, Fate::Planned(_)))
}

/// A naming: whose plan, since when, the case for this node, the strongest case.
struct Named<'a> {
    image: &'a ImageRef,
    by: &'static str,
    since: Timestamp,
    first: Why,
    strongest: Why,
}

/// Images that were named, in the order of being named.
fn named<'a>(sights: &Sights<'a>) -> Vec<Named<'a>> {
    let mut named: Vec<Named<'a>> = Vec::new();
    let looks = sights.pool.iter().map(|seen| ("pool", *seen));
    for (by, seen) in looks.chain(sights.own.iter().map(|seen| ("node", *seen))) {
        if by == "pool" {
            // What the pool's plan dropped before the node came was never the node's.
            let still: BTreeSet<&ImageRef> = planned(seen).map(|verdict| &verdict.image).collect();
            named.retain(|known| still.contains(known.image));
        }
        // What spoke for an image before the node came was another node's case.
        let early = by == "pool" && seen.made <= sights.joined;
        for verdict in planned(seen) {
            let why = Why::of(verdict, seen.made);
            match named.iter_mut().find(|known| *known.image == verdict.image) {
                Some(known) if early => (known.first, known.strongest) = (why.clone(), why),
                Some(known) if why.chance > known.strongest.chance => known.strongest = why,
                Some(_) => {}
                None => named.push(Named {
                    image: &verdict.image,
                    by,
                    since: seen.made,
                    first: why.clone(),
                    strongest: why,
                }),
            }
        }
    }
    named
}

fn sent(
    played: &Played,
    node: NodeId,
    sights: &Sights<'_>,
    used: &BTreeMap<ImageRef, Vec<String>>,
) -> Vec<Sent> {
    let facts = &played.facts;
    let useful = used_layers(facts, node);
    let mut credited: BTreeSet<LayerId> = BTreeSet::new();
    let stories = named(sights).into_iter().map(|named| {
        let layers: BTreeSet<LayerId> = layers(played, named.image)
            .into_iter()
            .filter(|layer| credited.insert(*layer))
            .collect();
        let spans = played.forelay.spans.iter().filter(|span| {
            span.node == node && span.mover == Mover::Agent && layers.contains(&span.layer)
        });
        let wasted = spans.clone().filter(|span| !useful.contains(&span.layer));
        let wasted: f64 = wasted.map(|span| span.bytes).sum();
        let bytes: f64 = spans.clone().map(|span| span.bytes).sum();
        Sent {
            image: named.image.clone(),
            by: named.by,
            since: named.since,
            lead_s: facts.nodes[node]
                .ready
                .map(|ready| ready.secs_since(named.since)),
            first: named.first,
            strongest: named.strongest,
            from: spans.clone().map(|span| span.from).min(),
            to: spans.map(|span| span.to).max(),
            bytes: bytes.round() as u64,
            wasted_bytes: wasted.round() as u64,
            used_by: used.get(named.image).cloned().unwrap_or_default(),
        }
    });
    stories.collect()
}

/// Layers of an image on any platform that nodes of the scenario have.
fn layers(played: &Played, image: &ImageRef) -> Vec<LayerId> {
    let catalogue = &played.facts.catalogue;
    let known = |id: ImageId| &catalogue.images[id as usize];
    (0..catalogue.images.len() as ImageId)
        .filter(|id| known(*id).name == *image)
        .flat_map(|id| known(id).layers.iter().copied())
        .collect()
}

fn left_out(sights: &Sights<'_>, used: &BTreeMap<ImageRef, Vec<String>>) -> Vec<Left> {
    let named: BTreeSet<&ImageRef> = named(sights).into_iter().map(|named| named.image).collect();
    let mut left: Vec<Left> = never_planned(sights.pool.iter().chain(&sights.own).copied())
        .into_iter()
        .filter(|(_, verdict)| !named.contains(&verdict.image))
        .map(|(at, verdict)| Left {
            image: verdict.image.clone(),
            used: used.contains_key(&verdict.image),
            why: Some(Why::of(verdict, at)),
            fate: Some(verdict.fate.clone()),
        })
        .collect();
    let known: BTreeSet<ImageRef> = left.iter().map(|one| one.image.clone()).collect();
    let unthought = used
        .keys()
        .filter(|image| !named.contains(image) && !known.contains(*image));
    left.extend(unthought.map(|image| Left {
        image: image.clone(),
        used: true,
        why: None,
        fate: None,
    }));
    let chance = |one: &Left| one.why.as_ref().map_or(0.0, |why| why.chance);
    left.sort_by(|a, b| {
        let order = b.used.cmp(&a.used).then(chance(b).total_cmp(&chance(a)));
        order.then_with(|| a.image.cmp(&b.image))
    });
    left
}
