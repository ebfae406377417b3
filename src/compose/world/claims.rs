//! Karpenter: pending pods are batched, NodeClaims made for them, nodes consolidated.

use std::time::Duration;

use crate::compose::cast::PoolId;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::pack::{self, Wanted};
use crate::compose::world::state::ClaimId;
use crate::compose::world::words::{CLAIMS, EVENTS, object};
use crate::compose::world::{Due, World};

/// Time between two looks for nodes that could go, in seconds.
const LOOK_S: f64 = 10.0;

/// Share of a pool's nodes that may be disrupted at once (the default disruption budget).
const BUDGET: f64 = 0.1;

impl World<'_> {
    /// A pod that fits nowhere opens a batch, or keeps it open.
    pub(super) fn wake_batch(&mut self) {
        self.batch_last = self.now;
        if self.batch_began.is_none() {
            self.batch_began = Some(self.now);
            self.after(self.cast.autoscaler.batch_idle.0.as_secs_f64(), Due::Batch);
        }
    }

    /// Ends the batch when nothing more came for a while, or when it has been open long enough.
    pub(super) fn batch(&mut self) {
        let Some(began) = self.batch_began else {
            return;
        };
        let idle = self.cast.autoscaler.batch_idle.0;
        let longest = self.cast.autoscaler.batch_max.0;
        let close = (self.batch_last + idle).min(began + longest);
        if self.now < close {
            self.at(close, Due::Batch);
            return;
        }
        self.batch_began = None;
        let mut wanted = self.unplaced();
        while !wanted.is_empty() {
            let Some(pool) = self.best_pool(&wanted) else {
                wanted.remove(0); // nothing can be had for the largest: the others may have luck
                continue;
            };
            wanted = self.claim_for(pool, wanted);
        }
    }

    /// Of the pools that take the first of what is wanted: the heaviest, then the cheapest.
    fn best_pool(&self, wanted: &[Wanted]) -> Option<PoolId> {
        let class = &self.cast.classes[wanted[0].class];
        let pools = (0..self.pools.len()).filter(|pool| {
            let fits = class.ask.fits(&self.cast.pools[*pool].room_for_pods);
            fits && self.may_grow(*pool) && class.admits[*pool].iter().any(|place| *place)
        });
        pools.min_by(|a, b| {
            let spec = |pool: &PoolId| &self.cast.pools[*pool].spec;
            let heavier = spec(b).priority.cmp(&spec(a).priority);
            heavier
                .then(spec(a).price.total_cmp(&spec(b).price))
                .then(a.cmp(b))
        })
    }

    /// NodeClaims of a pool for all that it takes; the rest is returned.
    fn claim_for(&mut self, pool: PoolId, wanted: Vec<Wanted>) -> Vec<Wanted> {
        let (taken, places) = self.for_pool(pool, &wanted);
        let cast = &self.cast.pools[pool];
        let most = cast.spec.max - self.pools[pool].size();
        let estimate = pack::estimate(&cast.room_for_pods, &taken, most);
        let claims: Vec<ClaimId> = (0..estimate.nodes)
            .map(|_| self.ask(pool, &places))
            .collect();
        for claim in &claims {
            if self.tape.is_live() {
                let fact = self.requested(*claim);
                let found = &self.claims[*claim];
                let note = object(CLAIMS, &found.uid, "requested", &found.name);
                self.tape.note(self.now, &note, fact);
            }
        }
        self.nominate(&claims, &taken, &estimate.placed);
        let mut left = Vec::new();
        for mut one in wanted {
            if let Some(index) = taken.iter().position(|t| t.class == one.class) {
                if estimate.placed[index] == 0 {
                    continue; // not even one fits: asking again would not end
                }
                one.count -= estimate.placed[index];
            }
            if one.count > 0 {
                left.push(one);
            }
        }
        left
    }

    /// Events that tell pods their NodeClaims, as far as the rate limit lets them through.
    fn nominate(&mut self, claims: &[ClaimId], taken: &[Wanted], placed: &[u32]) {
        if claims.is_empty() || !self.tape.is_live() {
            return;
        }
        let total: u32 = placed.iter().sum();
        let mut number = 0;
        for (one, placed) in taken.iter().zip(placed) {
            for pod in self.first_waiting(one.class, *placed) {
                let claim = claims[number * claims.len() / (total.max(1) as usize)];
                number += 1;
                if !self.may_say(1.0) {
                    return;
                }
                let request = self.claims[claim].name.clone();
                let fact = self.nominated(pod, None, Some(request));
                let uid = self.draws.names.uid();
                let note = object(EVENTS, &uid, "nominated", &self.pods[pod].name);
                let stamp = Stamp::Event;
                self.tape.note(self.now, &Note { stamp, ..note }, fact);
            }
        }
    }

    /// A look for nodes that could go; pods that still wait are batched again.
    pub(super) fn consolidate(&mut self) {
        let mut budgets: Vec<usize> = self
            .pools
            .iter()
            .map(|pool| ((pool.nodes.len() as f64 * BUDGET).ceil() as usize).max(1))
            .collect();
        let mut drained = false;
        for (node, empty) in self.goers() {
            let pool = self.nodes[node].pool;
            let floor = self.pools[pool].nodes.len() as u32 <= self.cast.pools[pool].spec.min;
            if floor || budgets[pool] == 0 || (!empty && drained) {
                continue;
            }
            budgets[pool] -= 1;
            drained |= !empty;
            self.interrupt(node, "karpenter.sh/disrupted", None);
            self.drain(node, None);
        }
        if self.batch_began.is_none() && !(self.waiting.is_empty() && self.buffers.is_empty()) {
            self.batch_began = Some(self.now);
            self.batch_last = self.now - Duration::from_mins(1);
            self.after(0.0, Due::Batch);
        }
        self.after(LOOK_S, Due::Consolidate);
    }
}
