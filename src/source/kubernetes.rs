//! Kubernetes objects into signals, only where something meaningful changed.
//!
//! The [`Translator`] is pure: an object, what happened to it and the time of receipt go in, signals
//! come out. The importer of recordings and the live watches are two drivers of the same one.

mod capacity;
mod claims;
mod discovery;
mod events;
mod groups;
pub mod guard;
mod inventory;
pub mod needs;
mod nodes;
pub mod objects;
pub mod offers;
mod out;
mod pods;
pub mod quantity;
mod scalers;
pub mod shape;
pub mod text;
pub mod watch;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::domain::workload::WorkloadRef;
use crate::source::kubernetes::objects::{Kind, Object};
use crate::source::kubernetes::out::{Out, fingerprint, full_name, name_of, uid_of};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, in this form (added, modified, listed).
    Applied,
    /// It is gone; the object is its last form.
    Deleted,
}

/// How objects are read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Labels of nodes and claims that carry the pool's name: the first that is there counts.
    pub pool_labels: Vec<String>,
    /// Events older than this at receipt say nothing any more: a list after a restart holds an hour
    /// of them, and what they asked for has been told by the objects.
    pub event_age_max: Duration,
}

/// Pool labels of the usual autoscalers and clouds. The last is the recordings' own.
const POOL_LABELS: [&str; 9] = [
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "alpha.eksctl.io/nodegroup-name",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "doks.digitalocean.com/node-pool",
    "k8s.scaleway.com/pool-name",
    "kops.k8s.io/instancegroup",
    "example.com/nodegroup",
];

/// Objects seen so far, in a few words each, and the signals that follow from the next one.
pub struct Translator {
    settings: Settings,
    nodes: BTreeMap<String, nodes::NodeState>,
    claims: BTreeMap<String, claims::ClaimState>,
    disruptions: Vec<claims::Disruption>,
    pools: BTreeSet<String>,
    devices: BTreeMap<(String, String), BTreeMap<String, u64>>,
    groups: BTreeMap<String, groups::GroupState>,
    /// Pools of the autoscaler's groups, as it told itself.
    group_pools: BTreeMap<String, String>,
    /// The newest version of a pod that a watch has told.
    newest_pod: u64,
    pods: HashMap<String, pods::PodState>,
    owners: HashMap<String, WorkloadRef>,
    workloads: BTreeMap<WorkloadRef, workloads::WorkloadState>,
    scalers: HashMap<String, u64>,
    capacity: capacity::Announcements,
    skipped: BTreeMap<&'static str, u64>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool_labels: POOL_LABELS.map(str::to_owned).into(),
            event_age_max: Duration::from_mins(2),
        }
    }
}

// === impl Translator ===

impl Translator {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            disruptions: Vec::new(),
            pools: BTreeSet::new(),
            devices: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_pools: BTreeMap::new(),
            newest_pod: 0,
            pods: HashMap::new(),
            owners: HashMap::new(),
            workloads: BTreeMap::new(),
            scalers: HashMap::new(),
            capacity: capacity::Announcements::default(),
            skipped: BTreeMap::new(),
        }
    }

    /// Takes one object and returns what it says that was not said before.
    ///
    /// `observed` is the time of receipt; a signal's `time` is the object's own where it has one.
    pub fn observe(&mut self, change: Change, object: &Object, observed: Timestamp) -> Vec<Signal> {
        let mut out = Out {
            meta: object.metadata(),
            plural: object.kind().plural(),
            observed,
            signals: Vec::new(),
        };
        match object {
            Object::Node(node) => self.node(change, node, &mut out),
            Object::NodePrefetch(object) => self.node_prefetch(change, object, &mut out),
            Object::NodeClaim(claim) => self.claim(change, claim, &mut out),
            Object::NodePool(pool) => self.node_pool(pool),
            Object::Pod(pod) => {
                let version = pod.metadata.resource_version.as_deref();
                let version = version.and_then(|text| text.parse().ok());
                self.newest_pod = self.newest_pod.max(version.unwrap_or(0));
                self.pod(change, pod, &mut out);
            }
            Object::ReplicaSet(set) => self.replica_set(change, set, &mut out),
            Object::Deployment(deployment) => self.deployment(change, deployment, &mut out),
            Object::StatefulSet(set) => self.stateful_set(change, set, &mut out),
            Object::DaemonSet(set) => self.daemon_set(change, set, &mut out),
            Object::Job(job) => self.job(change, job, &mut out),
            Object::CronJob(cron) => self.cron_job(change, cron, &mut out),
            Object::HorizontalPodAutoscaler(scaler) => self.scaler(change, scaler, &mut out),
            Object::Event(event) => self.event(change, event, &mut out),
            Object::ConfigMap(map) => self.config_map(change, map, &mut out),
            Object::CapacityBuffer(buffer) => self.buffer(change, buffer, &mut out),
            Object::ProvisioningRequest(request) => self.provisioning(change, request, &mut out),
            Object::PodTemplate(template) => self.pod_template(change, template, &mut out),
        }
        out.signals
    }

    /// After a list that replaces a broken watch: whatever of that kind is not in `kept` (uids) went
    /// away unseen. Returns the signals of its removal.
    pub fn relisted(
        &mut self,
        kind: Kind,
        kept: &HashSet<String>,
        observed: Timestamp,
    ) -> Vec<Signal> {
        let meta = ObjectMeta::default();
        let mut out = Out {
            meta: &meta,
            plural: kind.plural(),
            observed,
            signals: Vec::new(),
        };
        match kind {
            Kind::Pod => self.forget_pods(kept, &mut out),
            Kind::Node => self.forget_nodes(kept, &mut out),
            Kind::NodeClaim => self.forget_claims(kept, &mut out),
            Kind::Deployment
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Job
            | Kind::CronJob
            | Kind::ReplicaSet => self.forget_workloads(kind, kept, &mut out),
            Kind::CapacityBuffer | Kind::ProvisioningRequest => {
                self.forget_announcements(kind, kept, &mut out);
            }
            Kind::HorizontalPodAutoscaler => self.scalers.retain(|uid, _| kept.contains(uid)),
            Kind::PodTemplate
            | Kind::NodePool
            | Kind::NodePrefetch
            | Kind::ConfigMap
            | Kind::Event => {}
        }
        out.signals
    }

    /// What was seen and not turned into a signal, by reason.
    #[must_use]
    pub fn skipped(&self) -> &BTreeMap<&'static str, u64> {
        &self.skipped
    }

    fn skip(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    /// The pool of a set of labels.
    fn pool_of_labels(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let mut keys = self.settings.pool_labels.iter();
        keys.find_map(|key| labels.get(key)).cloned()
    }
}

#[cfg(test)]
mod tests;
