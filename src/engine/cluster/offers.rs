//! What an autoscaler is about to decide: pools that may grow, and what their nodes would be.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::signal::{NodeOffered, Signal};
use crate::domain::time::Timestamp;

use super::pools::Offer;
use super::{Applied, Cluster, KNOWN, Reach, STALE, Wake};

/// How long an offer counts without its decision. cluster-autoscaler says what became of it within the second in
/// events, and after each loop (10 s) in its status; six loops are lost before it is believed to have thought better.
const OFFER: Duration = Duration::from_mins(1);

/// Pools beyond which offers make no new ones: whoever reaches the port may name any.
const POOLS_MAX: usize = 10_000;

impl Cluster {
    /// Choices teach what a node of each pool would be; only where there is one choice are nodes expected, for the
    /// others each wait for the decision, which is a second away.
    pub(super) fn node_offered(&mut self, fact: &NodeOffered, signal: &Signal) -> Applied {
        let at = signal.observedtime;
        let known = self.pools.contains_key(fact.pool.as_str());
        if !known && self.pools.len() >= POOLS_MAX {
            return Applied::Ignored("offer of a pool too many");
        }
        let name = self.pool_name(&fact.pool);
        let pool = self.pools.entry(Arc::clone(&name)).or_default();
        let decided = pool.target.as_ref().is_some_and(|known| at < known.seen);
        if decided || pool.offer.is_some_and(|known| at < known.at) {
            return STALE;
        }
        let news = pool.profile.tell(&fact.shape);
        let offer = (fact.among == 1 && fact.count > 0).then_some(Offer {
            count: fact.count,
            at,
        });
        let before = pool.offer.map(|known| known.count);
        pool.offer = offer;
        if offer.is_some() {
            self.marks.wake(at + OFFER, Wake::Pool(Arc::clone(&name)));
        }
        if !news && before == offer.map(|offer| offer.count) {
            return KNOWN;
        }
        self.mark_pool(&name, Reach::Coming);
        Applied::Changed
    }

    /// An offer that nothing came of is forgotten.
    pub(super) fn end_offer(&mut self, pool: &Arc<str>, now: Timestamp) {
        if let Some(pool) = self.pools.get_mut(pool)
            && pool.offer.is_some_and(|offer| offer.at + OFFER <= now)
        {
            pool.offer = None;
        }
    }
}
