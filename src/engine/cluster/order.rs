//! Who is bound first of those that wait, as it is seen.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::domain::workload::PodNeeds;
use crate::forecast::demand::{AS_OLD, asked, capacity_in_pods};
use crate::forecast::order::Order;

use super::pods::Phase;
use super::pools::Pool;
use super::roster::PodId;
use super::sites::SiteId;
use super::{Cluster, Reach};

/// Who is bound sooner than this found room at once and was never in a queue with those that wait.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Kinds that a bound pod is compared with, at most, and those that are looked at for them: thousands of
/// Jobs may wait, each a kind of its own.
const KINDS_MAX: usize = 32;
const LOOKS_MAX: usize = 128;

impl Cluster {
    /// Takes over what was learned of the scheduler's order.
    pub(crate) fn take_order(&mut self, order: Order) {
        self.order = order;
        self.mark_growing();
    }

    /// A pod is bound: whether those that could have taken its place are older or younger says how the
    /// scheduler takes them.
    pub(super) fn note_order(&mut self, id: PodId, node: SiteId, at: Timestamp) {
        if !self.model.uses.history {
            return;
        }
        let Some(younger_left) = self.younger_left(id, node, at) else {
            return;
        };
        let before = self.order.lean();
        self.order.note(younger_left);
        if self.order.lean().to_bits() != before.to_bits() {
            self.mark_growing();
        }
    }

    /// Of the kinds that still wait and would have fitted in the pod's place, the part that is younger; none
    /// where there are none, or the pod was not waiting.
    fn younger_left(&self, id: PodId, node: SiteId, at: Timestamp) -> Option<f64> {
        let (pod, there) = (&self.pods[id], self.nodes[node].node.as_ref()?);
        if pod.phase != (Phase::Waiting { gated: false }) {
            return None;
        }
        let key = (pod.owned, pod.template.print, false);
        let since = self.waiting.get(&key)?.since()?;
        if at < pod.waits + AT_ONCE {
            return None;
        }
        let place = asked(&pod.template.needs, 1.0);
        let (mut older, mut younger) = (0.0, 0.0);
        // Who waits for longer than a node takes waits for something that no signal tells.
        let stuck = self.request_timeout();
        let fits = |needs: &PodNeeds| {
            capacity_in_pods(needs, &place) >= 1.0 && there.shape.admits(needs, false)
        };
        let looked_at = self.waiting.iter().take(LOOKS_MAX);
        let others = looked_at.filter_map(|(other, waiting)| {
            let its = waiting.since()?;
            let could = !other.2 && *other != key && its + stuck > at;
            (could && fits(&waiting.template.needs)).then_some(its)
        });
        for its in others.take(KINDS_MAX) {
            if its > since + AS_OLD {
                younger += 1.0;
            } else if its + AS_OLD < since {
                older += 1.0;
            }
        }
        (older + younger > 0.0).then(|| younger / (older + younger))
    }

    /// What lands on coming nodes is another.
    fn mark_growing(&mut self) {
        let growing = self.pools.iter().filter(|(_, pool)| Pool::grows(pool));
        let names: Vec<Arc<str>> = growing.map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.mark_pool(&name, Reach::Coming);
        }
    }
}
