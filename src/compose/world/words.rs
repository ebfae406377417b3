//! The model's facts in the words of signals, as the Kubernetes source says them.

use crate::compose::cast::{PoolId, WorkId};
use crate::compose::spec::{AutoscalerKind, Kind};
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::World;
use crate::compose::world::state::{ClaimId, JobId, NodeId, PodId};
use crate::domain::image::ImageRef;
use crate::domain::node::NodeShape;
use crate::domain::quantity::ByteSize;
use crate::domain::signal::{
    Fact, ImagePulled, LoadSample, NodeInterrupted, NodeJoined, NodeLaunched, NodeNamed,
    NodeRemoved, NodeRequested, PodBound, PodGone, PodNominated, PodOnNode, PodWanted,
    Workload as WorkloadFact, WorkloadGone,
};
use crate::domain::time::Timestamp;
use crate::domain::workload::{Operator, PodNeeds, PodRef, Requirement, WorkloadRef};

pub(super) const PODS: &str = "/kubernetes/pods";
pub(super) const NODES: &str = "/kubernetes/nodes";
pub(super) const EVENTS: &str = "/kubernetes/events";
pub(super) const CLAIMS: &str = "/kubernetes/nodeclaims";
pub(super) const STATUS: &str = "/kubernetes/configmaps";
pub(super) const SCALERS: &str = "/kubernetes/horizontalpodautoscalers";

/// Images that a Node's status lists at most (`nodeStatusMaxImages`).
const STATUS_IMAGES: usize = 50;

/// Uid of the autoscaler's status ConfigMap.
pub(super) const STATUS_UID: &str = "7cea56dc-7efd-457a-83cb-cad7ec08da04";

/// An object's fact.
pub(super) fn object<'n>(
    source: &'n str,
    uid: &'n str,
    what: &'n str,
    subject: &'n str,
) -> Note<'n> {
    Note {
        source,
        uid,
        what,
        subject,
        stamp: Stamp::Second,
        truth: false,
    }
}

impl World<'_> {
    /// What the status ConfigMap says of a pool: its target, and how many nodes more that is.
    pub(super) fn target_fact(&self, pool: PoolId, count: u32) -> Fact {
        Fact::NodeRequested(NodeRequested {
            pool: self.cast.pools[pool].name.clone(),
            count,
            target: Some(self.pools[pool].size()),
            ..NodeRequested::default()
        })
    }

    /// Name and uid.
    pub(super) fn pod_ref(&self, pod: PodId) -> PodRef {
        let pod = &self.pods[pod];
        PodRef {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        }
    }

    /// What a pod needs: a DaemonSet's is tied to its node by name.
    pub(super) fn needs_of(&self, pod: PodId) -> PodNeeds {
        let class = &self.cast.classes[self.pods[pod].class];
        let mut needs = class.needs.clone();
        if self.cast.works[class.work].spec.kind == Kind::DaemonSet
            && let Some(node) = self.pods[pod].node
        {
            needs.affinity = vec![vec![Requirement {
                key: "metadata.name".to_owned(),
                operator: Operator::In,
                values: vec![self.nodes[node].name.clone()],
            }]];
        }
        needs
    }

    /// The top owner.
    pub(super) fn owner_of(&self, pod: PodId) -> WorkloadRef {
        let work = self.cast.classes[self.pods[pod].class].work;
        match self.pods[pod].job {
            Some(job) if self.cast.works[work].spec.kind == Kind::Jobs => self.job_ref(job),
            _ => self.cast.works[work].reference.clone(),
        }
    }

    /// A Job's own reference.
    pub(super) fn job_ref(&self, job: JobId) -> WorkloadRef {
        let job = &self.jobs[job];
        WorkloadRef {
            kind: "Job".to_owned(),
            namespace: self.cast.works[job.work].reference.namespace.clone(),
            name: job.name.clone(),
        }
    }

    /// A pod's fact, now.
    pub(super) fn say_pod(&mut self, pod: PodId, what: &'static str, stamp: Stamp, fact: Fact) {
        if !self.tape.is_live() {
            return;
        }
        let truth = what == "started";
        let found = &self.pods[pod];
        let note = object(PODS, &found.uid, what, &found.name);
        self.tape.note(
            self.now,
            &Note {
                stamp,
                truth,
                ..note
            },
            fact,
        );
    }

    pub(super) fn pending(&self, pod: PodId) -> Fact {
        Fact::PodPending(PodWanted {
            pod: self.pod_ref(pod),
            owner: Some(self.owner_of(pod)),
            needs: self.needs_of(pod),
            unschedulable: self.pods[pod].unschedulable,
        })
    }

    pub(super) fn bound(&self, pod: PodId, node: NodeId) -> Fact {
        Fact::PodBound(PodBound {
            pod: self.pod_ref(pod),
            node: self.nodes[node].name.clone(),
            owner: Some(self.owner_of(pod)),
            needs: self.needs_of(pod),
        })
    }

    pub(super) fn on_node(&self, pod: PodId, node: NodeId) -> Fact {
        Fact::PodStarted(PodOnNode {
            pod: self.pod_ref(pod),
            node: self.nodes[node].name.clone(),
        })
    }

    pub(super) fn gone(&self, pod: PodId) -> Fact {
        Fact::PodRemoved(PodGone {
            pod: self.pod_ref(pod),
        })
    }

    pub(super) fn nominated(
        &self,
        pod: PodId,
        node: Option<String>,
        request: Option<String>,
    ) -> Fact {
        Fact::PodNominated(PodNominated {
            pod: self.pod_ref(pod),
            node,
            request,
        })
    }

    /// The kubelet's words on one image of a pod; times of 0 mean that it was there.
    pub(super) fn pull_fact(
        &self,
        pod: PodId,
        index: usize,
        pull_s: f64,
        waiting_s: f64,
    ) -> Option<Fact> {
        let node = &self.nodes[self.pods[pod].node?];
        let class = &self.cast.classes[self.pods[pod].class];
        let arch = &self.cast.pools[node.pool].spec.arch;
        let size = self.cast.images.size(class.images[index], arch);
        let present = pull_s == 0.0;
        let milli = |seconds: f64| (seconds * 1e3).round() / 1e3;
        Some(Fact::ImagePulled(ImagePulled {
            node: node.name.clone(),
            pod: self.pod_ref(pod),
            container: Some(class.needs.images[index].container.clone()),
            image: class.needs.images[index].image.clone(),
            size: (!present).then_some(ByteSize(size)),
            pull_s: milli(pull_s),
            waiting_s: milli(waiting_s),
            present,
        }))
    }

    /// A node's shape with its own name.
    pub(super) fn shape(&self, node: NodeId) -> NodeShape {
        let node = &self.nodes[node];
        let mut shape = self.cast.pools[node.pool].shapes[node.place].clone();
        shape
            .labels
            .insert("kubernetes.io/hostname".to_owned(), node.name.clone());
        shape
    }

    pub(super) fn joined(&self, node: NodeId) -> Fact {
        let found = &self.nodes[node];
        let arch = &self.cast.pools[found.pool].spec.arch;
        let mut images: Vec<(u64, &ImageRef)> = found
            .images
            .keys()
            .map(|image| {
                (
                    self.cast.images.size(*image, arch),
                    &self.cast.images.list[*image].name,
                )
            })
            .collect();
        images.sort_by(|a, b| b.cmp(a));
        images.truncate(STATUS_IMAGES);
        Fact::NodeJoined(NodeJoined {
            node: found.name.clone(),
            uid: found.uid.clone(),
            pool: self.cast.pools[found.pool].name.clone(),
            request: found.request.clone(),
            shape: self.shape(node),
            images: images.into_iter().map(|(_, name)| name.clone()).collect(),
        })
    }

    /// A node's fact, now.
    pub(super) fn say_node(&mut self, node: NodeId, what: &'static str, stamp: Stamp, fact: Fact) {
        if !self.tape.is_live() {
            return;
        }
        let found = &self.nodes[node];
        let note = object(NODES, &found.uid, what, &found.name);
        self.tape.note(self.now, &Note { stamp, ..note }, fact);
    }

    pub(super) fn ready_fact(&self, node: NodeId) -> Fact {
        Fact::NodeReady(NodeNamed {
            node: self.nodes[node].name.clone(),
        })
    }

    /// The node will go.
    pub(super) fn interrupt(&mut self, node: NodeId, reason: &str, deadline: Option<Timestamp>) {
        let fact = Fact::NodeInterrupted(NodeInterrupted {
            node: self.nodes[node].name.clone(),
            reason: reason.to_owned(),
            deadline,
        });
        self.say_node(node, "interrupted", Stamp::Seen, fact);
    }

    /// The node is gone.
    pub(super) fn say_removed(&mut self, node: NodeId) {
        let fact = Fact::NodeRemoved(NodeRemoved {
            node: Some(self.nodes[node].name.clone()),
            ..NodeRemoved::default()
        });
        self.say_node(node, "removed", Stamp::Seen, fact);
    }

    /// A NodeClaim as it is asked for: what its pool says of it.
    pub(super) fn requested(&self, claim: ClaimId) -> Fact {
        let claim = &self.claims[claim];
        let pool = &self.cast.pools[claim.pool];
        let mut shape = pool.shapes[claim.place].clone();
        shape.zone = None;
        shape.capacity = None;
        let known_late = [
            "topology.",
            "node.kubernetes.io/instance-type",
            "karpenter.sh/capacity",
        ];
        shape
            .labels
            .retain(|key, _| !known_late.iter().any(|late| key.starts_with(late)));
        Fact::NodeRequested(NodeRequested {
            pool: pool.name.clone(),
            request: Some(claim.name.clone()),
            count: 1,
            shape,
            ..NodeRequested::default()
        })
    }

    pub(super) fn launched_fact(&self, claim: ClaimId) -> Fact {
        let claim = &self.claims[claim];
        let pool = &self.cast.pools[claim.pool];
        Fact::NodeLaunched(NodeLaunched {
            pool: pool.name.clone(),
            request: Some(claim.name.clone()),
            shape: pool.shapes[claim.place].clone(),
        })
    }

    /// A workload as it is wanted now.
    pub(super) fn applied(&self, work: WorkId) -> Fact {
        let cast = &self.cast.works[work];
        let state = &self.works[work];
        let class = cast.classes[state.template].1;
        let current = |pod: &&PodId| self.pods[**pod].class == class;
        let updated = state.pods.iter().filter(current).count() as u32;
        let scaled = matches!(cast.spec.kind, Kind::Deployment | Kind::StatefulSet);
        let (replicas, updated) = match cast.spec.kind {
            Kind::DaemonSet => (state.pods.len() as u32, updated),
            Kind::CronJob | Kind::Jobs => (cast.spec.parallelism, cast.spec.parallelism),
            _ => (state.replicas, updated.min(state.replicas)),
        };
        let rolls = scaled && state.pods.iter().any(|pod| self.pods[*pod].class != class);
        Fact::WorkloadApplied(WorkloadFact {
            workload: cast.reference.clone(),
            needs: self.cast.classes[class].needs.clone(),
            replicas,
            updated: if rolls || !scaled { updated } else { replicas },
            surge: match cast.spec.kind {
                Kind::Deployment => cast.spec.surge.up(state.replicas),
                _ => 0,
            },
            schedule: cast.spec.schedule.clone(),
            time_zone: cast.spec.time_zone.clone(),
            idle: false,
        })
    }

    /// A Job as it is wanted now.
    pub(super) fn job_applied(&self, job: JobId, idle: bool) -> Fact {
        let found = &self.jobs[job];
        let parallelism = self.cast.works[found.work].spec.parallelism;
        Fact::WorkloadApplied(WorkloadFact {
            workload: self.job_ref(job),
            needs: self.cast.classes[found.class].needs.clone(),
            replicas: parallelism,
            updated: parallelism,
            surge: 0,
            schedule: None,
            time_zone: None,
            idle,
        })
    }

    pub(super) fn job_gone(&self, job: JobId) -> Fact {
        Fact::WorkloadRemoved(WorkloadGone {
            workload: self.job_ref(job),
        })
    }

    /// The collection of a workload.
    pub(super) fn collection(&self, work: WorkId) -> &'static str {
        match self.cast.works[work].spec.kind {
            Kind::Deployment => "/kubernetes/deployments",
            Kind::StatefulSet => "/kubernetes/statefulsets",
            Kind::DaemonSet => "/kubernetes/daemonsets",
            Kind::CronJob => "/kubernetes/cronjobs",
            Kind::Jobs => "/kubernetes/jobs",
        }
    }

    /// `namespace/name`
    pub(super) fn work_subject(&self, work: WorkId) -> String {
        let reference = &self.cast.works[work].reference;
        format!("{}/{}", reference.namespace, reference.name)
    }

    /// Name of the series of a workload's load.
    pub(super) fn series_name(&self, work: WorkId) -> String {
        let load = self.cast.works[work].spec.load.as_ref();
        let named = load.and_then(|load| load.series.clone());
        let file = load.and_then(|load| load.file.as_ref()).and_then(|file| {
            let name = file.file_name()?.to_str()?;
            Some(name.split('.').next()?.to_owned())
        });
        named
            .or(file)
            .unwrap_or_else(|| self.cast.works[work].reference.name.clone())
    }

    pub(super) fn sample_fact(&self, work: WorkId, series: &str, value: f64) -> Fact {
        Fact::LoadSampled(LoadSample {
            series: series.to_owned(),
            workload: Some(self.cast.works[work].reference.clone()),
            value,
        })
    }

    /// Whether nodes come as NodeClaims.
    pub(super) fn has_claims(&self) -> bool {
        self.cast.autoscaler.kind == AutoscalerKind::Karpenter
    }
}
