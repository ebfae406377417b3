//! Budgets of guesses: what link, zone and registries have left, and what a plan takes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::plan::LetGo;
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::plan::admit::Common;
use crate::plan::explain::{Fate, Verdict};
use crate::plan::select::Selection;

use super::nodes::Node;
use super::{Cluster, Wake};

/// A node for which a guess is left out, because others are on their way, is looked at again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// Images of one node that are remembered as brought: as many as a plan's object holds.
const SENT_MAX: usize = 256;

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
    pub(super) fn set_out(&mut self, name: &str, selection: &Selection, now: Timestamp) {
        if let Some(node) = self.nodes.get_mut(name) {
            let rate = self.model.price.rate;
            self.flights
                .begin(zone(node), &selection.guesses, rate, now);
            for entry in &selection.plan.entries {
                if node.sent.len() < SENT_MAX || node.sent.contains_key(&entry.image) {
                    node.sent.insert(entry.image.clone(), entry.digest.clone());
                }
            }
        }
    }

    /// What plans brought to a node, that no pod there uses and that is no candidate any more or fell
    /// below the threshold for what stays.
    pub(super) fn let_go(&self, node: &Node, verdicts: &[Verdict]) -> Vec<LetGo> {
        let mut gone = node.sent.clone();
        for verdict in verdicts {
            if !matches!(verdict.fate, Fate::Unlikely | Fate::Policy) {
                gone.remove(&verdict.image);
            }
        }
        if gone.is_empty() {
            return Vec::new();
        }
        for image in self
            .pods_on(&node.name)
            .flat_map(|pod| &*pod.template.images)
        {
            gone.remove(image);
        }
        gone.into_iter()
            .map(|(image, digest)| LetGo { image, digest })
            .collect()
    }

    /// Looks again at a node whose guesses wait for those of others.
    pub(super) fn look_again(&mut self, name: &Arc<str>, selection: &Selection, now: Timestamp) {
        let left_out = &selection.plan.left_out;
        if left_out.contains_key("zone") || left_out.contains_key("registry") {
            self.marks.wake(
                (now + AGAIN).next_whole(AGAIN),
                Wake::Node(Arc::clone(name)),
            );
        }
    }
}

fn zone(node: &Node) -> &str {
    node.shape
        .label("topology.kubernetes.io/zone")
        .unwrap_or("")
}
