//! Pools: how many nodes are on their way, what they look like, what was learned of earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::node::{NodeShape, Resources};
use crate::domain::plan::Staging;
use crate::domain::time::Timestamp;
use crate::forecast::arrival::Arrivals;
use crate::forecast::history::History;
use crate::forecast::profile::Profile;

use super::recall::Recall;

/// A node group or node pool.
#[derive(Debug, Default)]
pub struct Pool {
    /// Nodes that joined.
    pub nodes: BTreeSet<Arc<str>>,
    /// Of those, the ones that are not Ready or are younger than the window.
    pub fresh: BTreeSet<Arc<str>>,
    /// Of those, the ones that are not Ready: a few where a wave of hundreds is new.
    pub booting: BTreeSet<Arc<str>>,
    /// Requests by name that are no node yet.
    pub requests: BTreeSet<String>,
    /// Size that the autoscaler last asked for.
    pub target: Option<SizeTarget>,
    /// When each node that the target is ahead by was asked for, oldest first.
    pub asked: Vec<Timestamp>,
    /// Requests without a name or a target, by (source, id) of the signal.
    pub plain: BTreeMap<(String, String), PlainRequest>,
    /// What the autoscaler was about to decide when it last said so.
    pub offer: Option<Offer>,
    /// What all joined nodes offer.
    pub capacity: Resources,
    /// What the pods on them take.
    pub used: Resources,
    /// When all its targets were last planned for.
    pub planned: Option<Timestamp>,
    /// New nodes to be ready for, and when they were counted.
    pub staged: Option<(Timestamp, Staging)>,
    /// Whether a node was on its way when this was last looked at.
    pub awaited: bool,
    /// Typical shape.
    pub profile: Profile,
    /// What ran on the last nodes.
    pub history: History,
    /// The same as clues.
    pub recall: Recall,
    /// How long nodes took.
    pub arrivals: Arrivals,
}

/// An absolute size.
#[derive(Clone, Debug)]
pub struct SizeTarget {
    pub size: u32,
    /// When it was said, and by which signals of that instant.
    pub seen: Timestamp,
    pub words: BTreeSet<(String, String)>,
    pub shape: NodeShape,
}

/// A number of nodes.
#[derive(Clone, Debug)]
pub struct PlainRequest {
    pub count: u32,
    pub at: Timestamp,
    pub shape: NodeShape,
}

/// A decision that was about to fall on this pool alone: what comes of it is told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub count: u32,
    pub at: Timestamp,
}

/// One node that is on its way and has no name: when it was asked for, what is told of it.
pub type Anonymous<'a> = (Timestamp, Option<&'a NodeShape>);

impl Pool {
    /// Nothing of the cluster is in it; what was learned may be.
    pub fn is_vacant(&self) -> bool {
        self.nodes.is_empty()
            && self.requests.is_empty()
            && self.asked.is_empty()
            && self.plain.is_empty()
            && self.offer.is_none()
    }

    /// Whether a node is on its way or new: only then does the demand change what is planned here.
    pub fn grows(&self) -> bool {
        !(self.fresh.is_empty()
            && self.requests.is_empty()
            && self.asked.is_empty()
            && self.plain.is_empty()
            && self.offer.is_none())
    }

    /// How many nodes are Ready.
    pub fn ready(&self) -> usize {
        self.nodes.len() - self.booting.len()
    }

    /// A new absolute size was said; true when more or fewer nodes are on their way than before.
    pub fn set_target(&mut self, target: SizeTarget, at: Timestamp) -> bool {
        let before = self.asked.len();
        // The decision: it says what the offer became.
        let offered = self.offer.take().is_some();
        self.target = Some(target);
        let ahead = self.ahead();
        while self.asked.len() < ahead {
            self.asked.push(at);
        }
        self.asked.truncate(ahead);
        offered || self.asked.len() != before
    }

    /// A node joined: the oldest wish is fulfilled. Returns when it was asked for.
    pub fn fulfil(&mut self, by_name: bool) -> Option<Timestamp> {
        self.offer = self.offer.and_then(|offer| {
            let count = offer.count.checked_sub(1).filter(|left| *left > 0)?;
            Some(Offer { count, ..offer })
        });
        let excess = self.asked.len().saturating_sub(self.ahead());
        let oldest = self.asked.drain(..excess).next();
        if by_name {
            return oldest;
        }
        let plain = self
            .plain
            .iter()
            .min_by_key(|(key, request)| (request.at, (*key).clone()))
            .map(|(key, request)| (key.clone(), request.at));
        let Some((key, at)) = plain else {
            return oldest;
        };
        if let Some(request) = self.plain.get_mut(&key) {
            request.count = request.count.saturating_sub(1);
            if request.count == 0 {
                self.plain.remove(&key);
            }
        }
        oldest.or(Some(at))
    }

    /// A node went. Autoscalers lower the target before, with or after the removal: nodes that
    /// were on their way stay so, and none is expected in place of the one that went.
    pub fn node_went(&mut self) {
        let joined = self.nodes.len() as u32;
        let coming = self.asked.len() as u32;
        if let Some(target) = &mut self.target {
            target.size = target.size.min(joined + coming);
        }
    }

    /// The group cannot grow: nothing that was asked for without a name will come.
    pub fn withdraw(&mut self) {
        self.asked.clear();
        self.plain.clear();
        self.offer = None;
        let joined = self.nodes.len() as u32;
        if let Some(target) = &mut self.target {
            target.size = target.size.min(joined);
        }
    }

    /// Nodes on their way beside the `named` ones: never the sum of what the different voices say,
    /// but the largest, for they speak of the same machines.
    pub fn anonymous(&self, named: usize, now: Timestamp, timeout: Duration) -> Vec<Anonymous<'_>> {
        let alive = |at: &Timestamp| *at + timeout > now;
        let shape = self.target.as_ref().map(|target| &target.shape);
        let asked = self.asked.iter().filter(|at| alive(at));
        let by_target: Vec<Anonymous<'_>> = asked.map(|at| (*at, shape)).collect();
        let mut by_count: Vec<Anonymous<'_>> = self
            .plain
            .values()
            .filter(|request| alive(&request.at))
            .flat_map(|request| {
                let one = (request.at, Some(&request.shape));
                std::iter::repeat_n(one, request.count.min(1000) as usize)
            })
            .collect();
        by_count.sort_by_key(|(at, _)| *at);
        let by_offer: Vec<Anonymous<'_>> = self.offer.map_or_else(Vec::new, |offer| {
            vec![(offer.at, None); offer.count.min(1000) as usize]
        });
        // Of equal voices the one that tells most: a target is a decision, an offer is none.
        let voices = [by_offer, by_count, by_target].into_iter();
        let most = voices.max_by_key(Vec::len).unwrap_or_default();
        most.into_iter().skip(named).collect()
    }

    fn ahead(&self) -> usize {
        let size = self.target.as_ref().map_or(0, |target| target.size) as usize;
        size.saturating_sub(self.nodes.len()).min(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    fn target(size: u32) -> SizeTarget {
        SizeTarget {
            size,
            seen: Timestamp::ZERO,
            words: BTreeSet::new(),
            shape: NodeShape::default(),
        }
    }

    fn coming(pool: &Pool, now: u64) -> usize {
        pool.anonymous(0, at(now), Duration::from_mins(15)).len()
    }

    #[test]
    fn decision_confirmation_and_status_of_one_size_count_once() {
        let mut pool = Pool::default();
        for _ in 0..3 {
            pool.set_target(target(2), at(10));
        }
        let request = PlainRequest {
            count: 2,
            at: at(9),
            shape: NodeShape::default(),
        };
        pool.plain.insert(("expander".into(), "1".into()), request);
        assert_eq!(coming(&pool, 11), 2);
        pool.nodes.insert("a".into());
        assert_eq!(pool.fulfil(false), Some(at(10)));
        assert_eq!(coming(&pool, 11), 1);
    }

    #[test]
    fn an_offer_adds_nothing_to_what_is_on_its_way_and_ends_with_the_decision() {
        let mut pool = Pool::default();
        let offer = |count| {
            let at = at(9);
            Some(Offer { count, at })
        };
        pool.offer = offer(2);
        assert_eq!(coming(&pool, 10), 2);
        assert!(!pool.is_vacant() && pool.grows());
        pool.nodes.insert("a".into());
        pool.fulfil(false);
        assert_eq!(coming(&pool, 11), 1);
        assert!(pool.set_target(target(1), at(12)));
        assert_eq!(coming(&pool, 13), 0);
        pool.set_target(target(3), at(14));
        pool.offer = offer(1);
        assert_eq!(coming(&pool, 15), 2);
        pool.withdraw();
        assert_eq!(coming(&pool, 16), 0);
    }

    #[test]
    fn a_removed_node_is_not_expected_again() {
        let mut pool = Pool::default();
        for name in ["a", "b"] {
            pool.nodes.insert(name.into());
        }
        pool.set_target(target(3), at(10));
        pool.nodes.remove("a");
        pool.node_went();
        assert_eq!(coming(&pool, 11), 1);
        pool.set_target(target(2), at(12));
        assert_eq!(coming(&pool, 13), 1);
    }

    #[test]
    fn a_wish_that_is_not_fulfilled_in_time_is_forgotten() {
        let mut pool = Pool::default();
        pool.set_target(target(1), at(0));
        pool.set_target(target(1), at(890));
        assert_eq!(coming(&pool, 899), 1);
        assert_eq!(coming(&pool, 900), 0);
    }
}
