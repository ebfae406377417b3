//! Requests that end without a node, and what those that still wait say of the next ones.

use std::time::Duration;

use crate::domain::signal::NodeRemoved;
use crate::domain::time::Timestamp;
use crate::forecast::arrival::{Leg, Outlook};

use super::nodes::Node;
use super::pools::Pool;
use super::step::EARLY;
use super::{Cluster, Reach};

/// What ends sooner than one in twenty nodes comes says nothing of how long they take, and refusals
/// at once would push what does out of a bounded memory.
const TOO_SOON: f64 = 0.05;

impl Cluster {
    /// Requests of a pool that were made at these instants will not be fulfilled; with a reason, the
    /// cloud refused them. True when that is news.
    pub(super) fn given_up(
        &mut self,
        pool: &str,
        made: &[Timestamp],
        fact: &NodeRemoved,
        at: Timestamp,
    ) -> bool {
        let most = self.model.history.arrivals;
        let Some((name, pool)) = self
            .pools
            .get_key_value(pool)
            .map(|(name, _)| name.clone())
            .and_then(|name| self.pools.get_mut(&name).map(|pool| (name, pool)))
        else {
            return false;
        };
        let soon = pool.arrivals.quantile(Leg::Request, TOO_SOON);
        let waits = made.iter().map(|made| at.secs_since(*made));
        let mut news = false;
        for waited in waits.filter(|waited| *waited > soon) {
            pool.arrivals.give_up(Leg::Request, at, waited, most);
            news = true;
        }
        if !fact.reason.is_empty() {
            news |= pool.arrivals.fail(at);
        }
        if news {
            self.mark_pool(&name, Reach::Coming);
        }
        news
    }

    /// When the first node of those that are asked for may be there, were it early; none where nobody
    /// is waited for. Where some are late, the others' lateness counts as well.
    pub(super) fn first_due(&self, pool: &Pool, now: Timestamp) -> Option<Timestamp> {
        let mut waits = self.open_waits(pool, now);
        if waits.is_empty() {
            waits.extend(pool.offer.map(|offer| now.secs_since(offer.at).max(0.0)));
        }
        let oldest = waits.iter().copied().reduce(f64::max)?;
        let left = if oldest > pool.arrivals.quantile(Leg::Request, 0.5) {
            let arrivals = pool.arrivals.with_open(Leg::Request, &waits);
            arrivals.remaining(Leg::Request, oldest, EARLY)
        } else {
            pool.arrivals.remaining(Leg::Request, oldest, EARLY)
        };
        Some(now + Duration::from_secs_f64(left))
    }

    /// When a node that joined may be Ready, were it early.
    pub(super) fn boot_due(&self, node: &Node, now: Timestamp) -> Timestamp {
        let waited = now.secs_since(node.joined).max(0.0);
        let left = self.pools.get(&node.pool).map_or(0.0, |pool| {
            pool.arrivals.remaining(Leg::Boot, waited, EARLY)
        });
        now + Duration::from_secs_f64(left)
    }

    /// How long nodes of a pool take, and whether its cloud refuses them.
    pub(super) fn outlook(&self, pool: &Pool, now: Timestamp) -> Outlook {
        pool.arrivals.outlook(&self.open_waits(pool, now))
    }

    /// Seconds that each request has waited which is not forgotten yet.
    fn open_waits(&self, pool: &Pool, now: Timestamp) -> Vec<f64> {
        let named = pool
            .requests
            .iter()
            .filter_map(|name| self.requests.get(name));
        let named = named.map(|request| request.at).chain(Self::unnamed(pool));
        let timeout = self.request_timeout();
        let alive = named.filter(|at| *at + timeout > now);
        alive.map(|at| now.secs_since(at).max(0.0)).collect()
    }

    /// When nodes without a name were asked for: by the more talkative of the two voices, for they
    /// speak of the same machines; by neither, where requests have names.
    pub(super) fn unnamed(pool: &Pool) -> impl Iterator<Item = Timestamp> + '_ {
        let counts = pool.plain.values();
        let counted: usize = counts.map(|request| request.count.min(1000) as usize).sum();
        let of_target = pool.requests.is_empty() && counted <= pool.asked.len();
        let of_count = pool.requests.is_empty() && !of_target;
        let asked = pool.asked.iter().copied().filter(move |_| of_target);
        let counts = pool.plain.values().filter(move |_| of_count);
        let counts =
            counts.flat_map(|one| std::iter::repeat_n(one.at, one.count.min(1000) as usize));
        asked.chain(counts)
    }
}
