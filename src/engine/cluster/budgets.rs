//! Budgets of guesses: what link, zone and registries have left, and what a plan takes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::image::{Digest, ImageRef};
use crate::domain::plan::{LetGo, Target};
use crate::domain::quantity::ByteSize;
use crate::domain::time::Timestamp;
use crate::plan::admit::Common;
use crate::plan::flights::Guess;
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

    /// A node's plan is in force from now on: its new guesses set out.
    pub(super) fn set_out(&mut self, name: &str, guesses: &[Guess], now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let rate = self.model.price.rate;
        self.flights.begin(zone(node), guesses, rate, now);
        let plan = self.plans.get(&Target::Node(name.to_owned()));
        for entry in plan.into_iter().flat_map(|plan| &plan.entries) {
            if node.sent.len() < SENT_MAX || node.sent.contains_key(&entry.image) {
                node.sent.insert(entry.image.clone(), entry.digest.clone());
            }
        }
    }

    /// What plans brought to a node, that no pod there uses and that is no candidate any more or fell
    /// below the threshold for what stays.
    pub(super) fn let_go(&self, node: &Node, selection: &Selection<'_>) -> Vec<LetGo> {
        let unwanted = node
            .sent
            .iter()
            .filter(|(image, _)| !selection.stays_wanted(image));
        let mut gone: BTreeMap<&ImageRef, &Digest> = unwanted.collect();
        if gone.is_empty() {
            return Vec::new();
        }
        for image in self
            .pods_on(node.site)
            .flat_map(|pod| &*pod.template.images)
        {
            gone.remove(image);
        }
        gone.into_iter()
            .map(|(image, digest)| LetGo {
                image: image.clone(),
                digest: digest.clone(),
            })
            .collect()
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
