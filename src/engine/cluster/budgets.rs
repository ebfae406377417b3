//! Budgets of guesses: what link, zone and registries have left, and what a plan takes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::plan::admit::Common;
use crate::plan::flights::Guess;

use super::nodes::Node;
use super::{Cluster, Wake};

/// A node for which a guess is left out, because others are on their way, is looked at again after this.
const AGAIN: Duration = Duration::from_secs(10);

impl Cluster {
    /// What guesses for a node may take. It is new until its window ends, counted from `deadline` where
    /// it is not Ready; a node that is not new keeps a plan for as long as plans hold.
    pub(super) fn common(
        &self,
        node: &Node,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Common<'_> {
        let model = &self.model.guesses;
        let seconds = if self.is_fresh(&node.name) {
            let ready = node.ready.or(deadline).unwrap_or(now);
            (ready.secs_since(now) + self.model.times.window_s).max(0.0)
        } else {
            self.model.times.expiry_s
        };
        let under_way = self.flights.into_zone(zone(node), now);
        Common {
            link: ByteSize((model.link_rate * seconds) as u64),
            zone: ByteSize(model.zone_bytes) - under_way,
            requests: model.requests,
            flights: &self.flights,
            now,
        }
    }

    /// A node's plan was made anew: its new guesses set out.
    pub(super) fn set_out(&mut self, name: &str, guesses: &[Guess], now: Timestamp) {
        if let Some(node) = self.nodes.get(name) {
            let rate = self.model.price.rate;
            self.flights.begin(zone(node), guesses, rate, now);
        }
    }

    /// Looks again at a node whose guesses wait for those of others.
    pub(super) fn look_again(&mut self, name: &Arc<str>, now: Timestamp) {
        let at = (now + AGAIN).next_whole(AGAIN);
        self.marks.wake(at, Wake::Node(Arc::clone(name)));
    }
}

fn zone(node: &Node) -> &str {
    node.shape
        .label("topology.kubernetes.io/zone")
        .unwrap_or("")
}
