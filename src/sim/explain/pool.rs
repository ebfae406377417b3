//! One pool: what any coming node of it was to have, and what its nodes made of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::image::ImageRef;
use crate::domain::plan::{Staging, Target};
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Outlook;
use crate::plan::explain::{Explanation, Fate};
use crate::sim::explain::{Left, Played, Question, Short, Totals, Why, never_planned, shortages};

/// The answer for one pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolStory {
    /// Of the scenario.
    pub scenario: String,
    /// First instant of the scenario.
    pub start: Timestamp,
    /// The pool's name.
    pub pool: String,
    /// How often its plan was published.
    pub plans: usize,
    /// How long its nodes took to come, and whether the cloud refused them: as known at the asked
    /// instant, else when its plan was last published.
    pub arrival: Option<Outlook>,
    /// Images that its plan named, in the order of being named.
    pub named: Vec<Named>,
    /// Candidates that its plan never named.
    pub left_out: Vec<Left>,
    /// Budgets that did not hold everything that was worth its bytes.
    pub budgets: Vec<Short>,
    /// New nodes to be ready for, whenever that was published with another number.
    pub expected: Vec<Expected>,
    /// Its new nodes, in the order of joining.
    pub nodes: Vec<NodeLine>,
    /// How things stood at the instant that was asked for.
    pub at: Option<Explanation>,
}

/// An image in the pool's plan, from being named to being dropped.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// As pods name it.
    pub image: ImageRef,
    /// Why, when it was named.
    pub why: Why,
    /// When a later plan did not name it; missing while it stays.
    pub until: Option<Timestamp>,
}

/// Nodes to be ready for, as a plan of the pool told them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Expected {
    /// When.
    pub at: Timestamp,
    /// How many.
    #[serde(flatten)]
    pub nodes: Staging,
}

/// One node of the pool.
#[derive(Clone, Debug, Serialize)]
pub struct NodeLine {
    /// Its name.
    pub node: String,
    /// When it joined.
    pub joined: Timestamp,
    /// What it got.
    #[serde(flatten)]
    pub totals: Totals,
}

// === impl PoolStory ===

impl PoolStory {
    pub(super) fn new(question: &Question<'_>, played: &Played, pool: &str) -> Self {
        let target = Target::Pool(pool.to_owned());
        let nodes = played.facts.nodes.iter().enumerate();
        let nodes = nodes
            .filter(|(_, node)| node.pool == pool && node.new)
            .map(|(id, node)| NodeLine {
                node: node.name.clone(),
                joined: node.joined,
                totals: played.totals(id),
            });
        let left = never_planned(played.sights(&target)).into_iter();
        let left = left.map(|(at, verdict)| Left {
            image: verdict.image.clone(),
            used: false,
            why: Some(Why::of(verdict, at)),
            fate: Some(verdict.fate.clone()),
        });
        let at = played.asked(&target);
        let last = played.sights(&target).last();
        let arrival = at.as_ref().or(last).and_then(|seen| seen.arrival.clone());
        Self {
            arrival,
            scenario: question.header.name.clone(),
            start: question.header.start,
            pool: pool.to_owned(),
            plans: played.sights(&target).count(),
            named: named(played.sights(&target)),
            left_out: left.collect(),
            budgets: shortages(played.sights(&target)),
            expected: expected(played.sights(&target)),
            nodes: nodes.collect(),
            at,
        }
    }
}

fn expected<'a>(sights: impl Iterator<Item = &'a Explanation>) -> Vec<Expected> {
    let mut told: Vec<Expected> = Vec::new();
    for seen in sights {
        if let Some(nodes) = seen.nodes
            && told.last().is_none_or(|last| last.nodes != nodes)
        {
            let at = seen.made;
            told.push(Expected { at, nodes });
        }
    }
    told
}

fn named<'a>(sights: impl Iterator<Item = &'a Explanation>) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::new();
    let mut open: BTreeMap<ImageRef, usize> = BTreeMap::new();
    for seen in sights {
        let planned: BTreeMap<&ImageRef, Why> = seen
            .verdicts
            .iter()
            .filter(|verdict| matches!(verdict.fate, Fate::Planned(_)))
            .map(|verdict| (&verdict.image, Why::of(verdict, seen.made)))
            .collect();
        open.retain(|image, at| {
            let stays = planned.contains_key(image);
            if !stays {
                all[*at].until = Some(seen.made);
            }
            stays
        });
        for (image, why) in planned {
            open.entry(image.clone()).or_insert_with(|| {
                all.push(Named {
                    image: image.clone(),
                    why,
                    until: None,
                });
                all.len() - 1
            });
        }
    }
    all
}
