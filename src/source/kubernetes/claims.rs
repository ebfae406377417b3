//! Karpenter NodeClaims: requested, launched, replaced, withdrawn.

use std::collections::{BTreeMap, HashSet};

use crate::domain::node::NodeShape;
use crate::domain::signal::{Fact, NodeLaunched, NodeRemoved, NodeRequested};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::node::{Node, NodeClaim, NodePool};
use crate::source::kubernetes::objects::{condition, instant};
use crate::source::kubernetes::shape::claim_shape;
use crate::source::kubernetes::{Change, Out, Translator, name_of, uid_of};

/// What is remembered of a claim.
pub(super) struct ClaimState {
    uid: String,
    pool: String,
    shape: NodeShape,
    provider_id: String,
    node: Option<String>,
    launched: bool,
    failure: String,
}

/// One half of a replacement: the node that was disrupted or the claim that was launched for it.
/// Karpenter names both in separate places a few milliseconds apart, never in one.
pub(super) struct Disruption {
    pool: String,
    name: String,
    is_claim: bool,
    at: Timestamp,
}

/// Longest time between the two halves of one replacement. In the recording it is 10 ms; Karpenter
/// taints a candidate right before it launches the replacement.
const PAIR_S: f64 = 30.0;

impl Translator {
    pub(super) fn node_pool(&mut self, pool: &NodePool) {
        self.pools.insert(name_of(&pool.metadata).to_owned());
    }

    pub(super) fn claim(&mut self, change: Change, claim: &NodeClaim, out: &mut Out<'_>) {
        let name = name_of(&claim.metadata).to_owned();
        if change == Change::Deleted {
            self.claim_gone(&name, out);
            return;
        }
        let shape = claim_shape(claim);
        let pool = self.pool_of_labels(&shape.labels).unwrap_or_default();
        let is_new = !self.claims.contains_key(&name);
        let node = Some(&claim.status.node_name).filter(|node| !node.is_empty());
        if is_new && node.is_none() {
            let requested = requested_by(&name, &pool, &shape);
            out.push("requested", out.created(), Fact::NodeRequested(requested));
        }
        let state = self.claims.entry(name.clone()).or_insert(ClaimState {
            uid: uid_of(&claim.metadata).to_owned(),
            pool,
            shape: NodeShape::default(),
            provider_id: String::new(),
            node: None,
            launched: !is_new,
            failure: String::new(),
        });
        state.shape = shape;
        state.provider_id.clone_from(&claim.status.provider_id);
        state.node = node.cloned().or(state.node.take());
        let launched = condition(&claim.status.conditions, "Launched");
        let is_launched = launched.is_some_and(|c| c.status == "True");
        if is_launched && !state.launched && state.node.is_none() {
            let time = launched.and_then(|c| instant(c.last_transition_time.as_ref()));
            let fact = NodeLaunched {
                pool: state.pool.clone(),
                request: Some(name),
                shape: state.shape.clone(),
            };
            out.push("launched", time, Fact::NodeLaunched(fact));
        }
        state.launched = is_launched;
    }

    /// A claim whose node exists goes with its node; one without a node was never fulfilled.
    fn claim_gone(&mut self, name: &str, out: &mut Out<'_>) {
        let Some(state) = self.claims.remove(name) else {
            return;
        };
        if state.node.is_none() {
            out.push("removed", None, withdrawn(name, state));
        }
    }

    pub(super) fn forget_claims(&mut self, kept: &HashSet<String>, out: &mut Out<'_>) {
        let lost = self.claims.iter().filter(|(_, s)| !kept.contains(&s.uid));
        let lost: Vec<_> = lost.map(|(name, _)| name.clone()).collect();
        for name in lost {
            if let Some(state) = self.claims.remove(&name) {
                let uid = state.uid.clone();
                if state.node.is_none() {
                    out.push_lost(&uid, withdrawn(&name, state));
                }
            }
        }
    }

    /// Remembers why a claim will fail: its deletion follows and carries no reason.
    pub(super) fn claim_failed(&mut self, name: &str, reason: &str) {
        if let Some(state) = self.claims.get_mut(name) {
            reason.clone_into(&mut state.failure);
        }
    }

    /// The node of a claim, where it has one.
    pub(super) fn node_of_claim(&self, name: &str) -> Option<String> {
        self.claims.get(name)?.node.clone()
    }

    /// Pool and name of the claim that a node fulfils. Before the node is registered nothing on it
    /// names the claim: then every launched claim without a node that agrees with the node's labels
    /// is a candidate, and what they have in common is known.
    pub(super) fn claim_of_node(
        &self,
        node: &Node,
        shape: &NodeShape,
    ) -> (Option<String>, Option<String>) {
        let name = name_of(&node.metadata);
        let owners = node.metadata.owner_references.iter().flatten();
        let owner = owners
            .filter(|owner| owner.kind == "NodeClaim")
            .find_map(|owner| self.claims.get_key_value(&owner.name));
        let provider = &node.spec.provider_id;
        let named = owner.or_else(|| {
            self.claims.iter().find(|(_, claim)| {
                claim.node.as_deref() == Some(name)
                    || (!provider.is_empty() && claim.provider_id == *provider)
            })
        });
        if let Some((request, claim)) = named {
            return (Some(claim.pool.clone()), Some(request.clone()));
        }
        let unregistered = node.spec.taints.iter();
        if !{ unregistered }.any(|taint| taint.key == "karpenter.sh/unregistered") {
            return (None, None);
        }
        let candidates = self.claims.iter().filter(|(_, claim)| {
            claim.node.is_none() && claim.launched && agree(&claim.shape, shape)
        });
        let candidates: Vec<_> = candidates.collect();
        match candidates.as_slice() {
            [] => (None, None),
            [(request, claim)] => (Some(claim.pool.clone()), Some((*request).clone())),
            [(_, first), rest @ ..] => {
                let same = rest.iter().all(|(_, claim)| claim.pool == first.pool);
                (same.then(|| first.pool.clone()), None)
            }
        }
    }

    /// An event says that this claim was launched to replace a disrupted node.
    pub(super) fn pair_launched_claim(&mut self, claim: &str, out: &mut Out<'_>) {
        let Some(pool) = self.claims.get(claim).map(|state| state.pool.clone()) else {
            return;
        };
        self.pair(&pool, claim, true, out);
    }

    /// A node of a pool with claims is being disrupted.
    pub(super) fn pair_disrupted_node(&mut self, pool: &str, node: &str, out: &mut Out<'_>) {
        if self.claims.values().any(|claim| claim.pool == pool) {
            self.pair(pool, node, false, out);
        }
    }

    fn pair(&mut self, pool: &str, name: &str, is_claim: bool, out: &mut Out<'_>) {
        self.disruptions
            .retain(|half| out.observed.secs_since(half.at) < PAIR_S);
        let found = self
            .disruptions
            .iter()
            .rposition(|half| half.pool == pool && half.is_claim != is_claim);
        let Some(found) = found else {
            self.disruptions.push(Disruption {
                pool: pool.to_owned(),
                name: name.to_owned(),
                is_claim,
                at: out.observed,
            });
            return;
        };
        let other = self.disruptions.remove(found).name;
        let (claim, node) = if is_claim {
            (name.to_owned(), other)
        } else {
            (other, name.to_owned())
        };
        let shape = self.claims.get(&claim).map(|state| state.shape.clone());
        let mut requested = requested_by(&claim, pool, &shape.unwrap_or_default());
        requested.replaces = Some(node);
        out.push("replaces", None, Fact::NodeRequested(requested));
    }
}

impl ClaimState {
    /// Extended resources of the launched machine.
    pub(super) fn devices(&self) -> Option<&BTreeMap<String, u64>> {
        Some(&self.shape.capacity.as_ref()?.extended)
    }
}

fn requested_by(name: &str, pool: &str, shape: &NodeShape) -> NodeRequested {
    NodeRequested {
        pool: pool.to_owned(),
        request: Some(name.to_owned()),
        count: 1,
        shape: shape.clone(),
        ..NodeRequested::default()
    }
}

fn withdrawn(name: &str, state: ClaimState) -> Fact {
    Fact::NodeRemoved(NodeRemoved {
        node: None,
        request: Some(name.to_owned()),
        pool: Some(state.pool),
        reason: state.failure,
    })
}

/// Whether a node may be the claimed machine: every label that both know is equal.
fn agree(claim: &NodeShape, node: &NodeShape) -> bool {
    claim
        .labels
        .iter()
        .all(|(key, value)| node.labels.get(key).is_none_or(|found| found == value))
}
