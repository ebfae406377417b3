//! What there is: nodes, pods, workloads, Jobs, requests for nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::compose::amount::Amount;
use crate::compose::cast::{ClassId, PoolId, Work, WorkId, ZoneId};
use crate::compose::hpa::Scaler;
use crate::compose::images::{ImageId, LayerId};
use crate::compose::random::Random;
use crate::domain::signal::Scaler as ScalerFact;
use crate::domain::time::Timestamp;

pub(crate) type NodeId = usize;
pub(crate) type PodId = usize;
pub(crate) type JobId = usize;
pub(crate) type ClaimId = usize;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub name: String,
    pub uid: String,
    pub pool: PoolId,
    /// Place in the pool's zones.
    pub place: usize,
    pub zone: ZoneId,
    pub free: Amount,
    pub pods: BTreeSet<PodId>,
    /// Pods of each workload.
    pub by_work: BTreeMap<WorkId, u32>,
    pub joined: Timestamp,
    pub ready: Option<Timestamp>,
    /// Takes no more pods.
    pub closed: bool,
    pub gone: bool,
    /// Joined after the start.
    pub new: bool,
    /// The NodeClaim that it fulfils.
    pub request: Option<String>,
    /// Since when it could go.
    pub unneeded: Option<Timestamp>,
    pub layers: BTreeSet<LayerId>,
    /// Images that are whole, with their last use.
    pub images: BTreeMap<ImageId, Timestamp>,
    /// Compressed bytes of its layers.
    pub bytes: u64,
    /// Pods that wait for a pull, in order.
    pub pulls: VecDeque<PodId>,
    pub pulling: u32,
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub name: String,
    pub uid: String,
    pub class: ClassId,
    pub node: Option<NodeId>,
    pub job: Option<JobId>,
    /// Its number in a StatefulSet.
    pub number: u32,
    pub created: Timestamp,
    pub bound: Timestamp,
    /// From when it can wait for images.
    pub waits_from: Timestamp,
    /// The scheduler has said so.
    pub unschedulable: bool,
    /// Next of its images.
    pub image: usize,
    /// When it asked for that one, and when its pull began.
    pub asked: Timestamp,
    pub began: Timestamp,
    pub started: Option<Timestamp>,
    pub ready: Option<Timestamp>,
    /// Deleted, or finished, or without its node.
    pub ending: bool,
    pub gone: bool,
}

/// A workload's state.
#[derive(Clone, Debug)]
pub(crate) struct WorkState {
    pub uid: String,
    pub replicas: u32,
    /// Place of its template in the cast's list.
    pub template: usize,
    /// Name of the ReplicaSet of each template.
    pub hashes: Vec<String>,
    /// Pods that are not ending.
    pub pods: BTreeSet<PodId>,
    /// How many of them are ready: an HPA of a thousand pods asks every 15 s.
    pub ready: u32,
    /// Load over what one replica carries, newest last.
    pub samples: VecDeque<(Timestamp, f64)>,
    pub scaler: Scaler,
    pub scaler_uid: String,
    pub told_scaler: Option<ScalerFact>,
    pub told: Option<(u32, u32, u32, usize)>,
    pub reconciling: bool,
    pub since: Timestamp,
    /// Jobs that run, and those that wait for them.
    pub jobs: u32,
    pub suspended: VecDeque<JobId>,
}

/// A Job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub work: WorkId,
    pub class: ClassId,
    pub name: String,
    pub uid: String,
    /// Pods that have not finished.
    pub left: u32,
}

/// A node that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub name: String,
    pub uid: String,
    pub pool: PoolId,
    pub place: usize,
    pub asked: Timestamp,
    pub launched: bool,
    /// Fulfilled or withdrawn.
    pub over: bool,
}

/// A pool's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolState {
    /// Nodes that are there, ready or not.
    pub nodes: BTreeSet<NodeId>,
    /// Requests without a node.
    pub claims: BTreeSet<ClaimId>,
    /// No more requests before this.
    pub back_off: Option<Timestamp>,
    /// How long the next back-off is, in seconds.
    pub back_off_s: f64,
    /// Stock-outs by event: until when, and in which zone.
    pub stock_outs: Vec<(Timestamp, Option<ZoneId>)>,
}

// === impl WorkState ===

impl WorkState {
    pub(crate) fn new(work: &Work, names: &mut Random) -> Self {
        let least = work.spec.hpa.as_ref().map_or(1, |hpa| hpa.min);
        let most = work.spec.hpa.as_ref().map_or(u32::MAX, |hpa| hpa.max);
        let replicas = work.spec.replicas.unwrap_or(least);
        Self {
            uid: names.uid(),
            replicas: replicas.clamp(least.min(replicas), most),
            template: 0,
            hashes: work.classes.iter().map(|_| names.name(10)).collect(),
            pods: BTreeSet::new(),
            ready: 0,
            samples: VecDeque::new(),
            scaler: Scaler::default(),
            scaler_uid: names.uid(),
            told_scaler: None,
            told: None,
            reconciling: false,
            since: work.classes[0].0,
            jobs: 0,
            suspended: VecDeque::new(),
        }
    }
}

// === impl Node ===

impl Node {
    /// Whether pods can be bound to it.
    pub(crate) fn is_open(&self) -> bool {
        self.ready.is_some() && !self.closed && !self.gone
    }
}

// === impl PoolState ===

impl PoolState {
    /// Nodes that are there or will be.
    pub(crate) fn size(&self) -> u32 {
        (self.nodes.len() + self.claims.len()) as u32
    }
}
