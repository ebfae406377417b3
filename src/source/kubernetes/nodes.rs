//! Node objects: joined, ready, interrupted, removed.

use std::collections::HashSet;
use std::time::Duration;

use crate::domain::node::NodeShape;
use crate::domain::signal::{Fact, NodeInterrupted, NodeJoined, NodeNamed, NodeRemoved};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::node::{Node, RawTaint};
use crate::source::kubernetes::objects::{condition, instant};
use crate::source::kubernetes::shape::{node_images, node_shape};
use crate::source::kubernetes::{Change, Out, Translator, fingerprint, name_of, uid_of};

/// What is remembered of a node.
pub(super) struct NodeState {
    uid: String,
    pub(super) pool: String,
    joined: u64,
    ready: bool,
    interrupted: bool,
    /// When what its agent told last was listed.
    pub(super) listed: Option<Timestamp>,
}

/// Taints that mean that the node goes away soon, with the notice that the cloud gives.
///
/// Spot: AWS gives two minutes (EC2 user guide, "Spot Instance interruption notices"), Google Cloud
/// and Azure 30 seconds (their spot VM documentation); autoscalers give none.
const LEAVING_TAINTS: [(&str, Option<u64>); 8] = [
    ("ToBeDeletedByClusterAutoscaler", None),
    ("karpenter.sh/disrupted", None),
    ("karpenter.sh/disruption", None),
    ("aws-node-termination-handler/spot-itn", Some(120)),
    (
        "aws-node-termination-handler/asg-lifecycle-termination",
        None,
    ),
    ("cloud.google.com/impending-node-termination", Some(30)),
    ("node.cloudprovider.kubernetes.io/shutdown", None),
    ("node.kubernetes.io/out-of-service", None),
];

/// How long device plugins may take before a node is believed to have no more devices than it says:
/// as long as Karpenter waits for a node to register.
const PLUGINS_MAX: Duration = Duration::from_mins(15);

impl Translator {
    pub(super) fn node(&mut self, change: Change, node: &Node, out: &mut Out<'_>) {
        let name = name_of(&node.metadata).to_owned();
        let known = self.nodes.get(&name).map(|state| state.uid.clone());
        if known.is_some_and(|uid| uid != uid_of(&node.metadata)) {
            self.node_removed(&name, out); // deleted and made again while nobody looked
        }
        if change == Change::Deleted {
            self.node_removed(&name, out);
            return;
        }
        self.node_joined(&name, node, out);
        self.node_readiness(&name, node, out);
        let leaving = leaving(node, out.observed);
        if let Some((reason, deadline)) = leaving {
            self.node_interrupted(&name, &reason, deadline, out);
        } else if let Some(state) = self.nodes.get_mut(&name) {
            state.interrupted = false; // a disruption may be called off
        }
    }

    /// Says `joined` when the object appears, and again when its pool, request or shape have become
    /// known better: labels come with the registration, devices with their plugins.
    fn node_joined(&mut self, name: &str, node: &Node, out: &mut Out<'_>) {
        let mut shape = node_shape(node);
        let (pool, request) = self.pool_and_request(node, &shape);
        self.expect_devices(&pool, request.as_deref(), &mut shape, out);
        let mut joined = NodeJoined {
            node: name.to_owned(),
            uid: uid_of(&node.metadata).to_owned(),
            pool,
            request,
            shape,
            images: Vec::new(), // grows with every pull: no reason to say it again
        };
        let seen = fingerprint(&joined);
        joined.images = node_images(node);
        if !joined.pool.is_empty() {
            self.pools.insert(joined.pool.clone());
        }
        let (pool, uid) = (joined.pool.clone(), joined.uid.clone());
        match self.nodes.get_mut(name) {
            Some(state) if state.joined == seen => {}
            Some(state) => {
                state.joined = seen;
                state.pool = pool;
                out.push("joined", None, Fact::NodeJoined(joined));
            }
            None => {
                out.push("joined", out.created(), Fact::NodeJoined(joined));
                let state = NodeState {
                    uid,
                    pool,
                    joined: seen,
                    ready: false,
                    interrupted: false,
                    listed: None,
                };
                self.nodes.insert(name.to_owned(), state);
            }
        }
    }

    /// Adds the devices that a young node will offer once its plugins run: those of its claim, and
    /// those that other nodes of its pool and machine type offer. Without them no pod that needs one
    /// would seem to fit until long after the node is Ready (7 to 28 s in the recordings).
    fn expect_devices(
        &mut self,
        pool: &str,
        request: Option<&str>,
        shape: &mut NodeShape,
        out: &Out<'_>,
    ) {
        let machine = shape.labels.get("node.kubernetes.io/instance-type");
        let key = (pool.to_owned(), machine.cloned().unwrap_or_default());
        let Some(room) = &mut shape.capacity else {
            return;
        };
        let known = self.devices.entry(key).or_default();
        for (name, amount) in &room.extended {
            let most = known.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
        let age = out.created().map(|made| out.observed.since(made));
        if age.is_none_or(|age| age > PLUGINS_MAX) {
            return;
        }
        let claimed = request.and_then(|request| self.claims.get(request)?.devices());
        for (name, amount) in claimed.into_iter().flatten().chain(known.iter()) {
            room.extended.entry(name.clone()).or_insert(*amount);
        }
    }

    fn node_readiness(&mut self, name: &str, node: &Node, out: &mut Out<'_>) {
        let Some(state) = self.nodes.get_mut(name) else {
            return;
        };
        let ready = condition(&node.status.conditions, "Ready");
        let is_ready = ready.is_some_and(|c| c.status == "True");
        if is_ready && !state.ready {
            let time = ready.and_then(|c| instant(c.last_transition_time.as_ref()));
            let named = NodeNamed { node: name.into() };
            out.push("ready", time, Fact::NodeReady(named));
        }
        state.ready = is_ready;
    }

    /// Says `interrupted` once, whoever tells it first: the taint or the event.
    pub(super) fn node_interrupted(
        &mut self,
        name: &str,
        reason: &str,
        deadline: Option<Timestamp>,
        out: &mut Out<'_>,
    ) {
        let Some(state) = self.nodes.get_mut(name) else {
            return;
        };
        if std::mem::replace(&mut state.interrupted, true) {
            return;
        }
        let pool = state.pool.clone();
        let interrupted = NodeInterrupted {
            node: name.to_owned(),
            reason: reason.to_owned(),
            deadline,
        };
        out.push("interrupted", None, Fact::NodeInterrupted(interrupted));
        self.pair_disrupted_node(&pool, name, out);
    }

    fn node_removed(&mut self, name: &str, out: &mut Out<'_>) {
        if self.nodes.remove(name).is_none() {
            return;
        }
        out.push("removed", None, removed(name));
    }

    pub(super) fn forget_nodes(&mut self, kept: &HashSet<String>, out: &mut Out<'_>) {
        let lost = self.nodes.iter().filter(|(_, s)| !kept.contains(&s.uid));
        let lost: Vec<_> = lost.map(|(n, s)| (n.clone(), s.uid.clone())).collect();
        for (name, uid) in lost {
            self.nodes.remove(&name);
            out.push_lost(&uid, removed(&name));
        }
    }

    /// Pool by label, else by the claim that the node fulfils, else by the claims that it might.
    fn pool_and_request(&self, node: &Node, shape: &NodeShape) -> (String, Option<String>) {
        let label = self.pool_of_labels(&shape.labels);
        let (claimed, request) = self.claim_of_node(node, shape);
        (label.or(claimed).unwrap_or_default(), request)
    }
}

fn removed(name: &str) -> Fact {
    Fact::NodeRemoved(NodeRemoved {
        node: Some(name.to_owned()),
        ..NodeRemoved::default()
    })
}

/// Why and when the node goes, where it does.
fn leaving(node: &Node, observed: Timestamp) -> Option<(String, Option<Timestamp>)> {
    let notice = |taint: &RawTaint| {
        let (key, notice) = LEAVING_TAINTS.iter().find(|(key, _)| *key == taint.key)?;
        let deadline = notice.map(|seconds| observed + Duration::from_secs(seconds));
        Some(((*key).to_owned(), deadline))
    };
    if let Some(found) = node.spec.taints.iter().find_map(notice) {
        Some(found)
    } else if node.metadata.deletion_timestamp.is_some() {
        Some(("deleting".into(), None))
    } else if node.spec.unschedulable {
        Some(("unschedulable".into(), None)) // `kubectl drain` begins with it
    } else {
        None
    }
}
