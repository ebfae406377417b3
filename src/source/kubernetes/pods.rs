//! Pod objects: gated, pending, nominated, bound, started, removed.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::domain::signal::{Fact, PodBound, PodGone, PodNominated, PodOnNode, PodWanted};
use crate::domain::time::Timestamp;
use crate::domain::workload::{PodNeeds, PodRef, WorkloadRef};
use crate::source::kubernetes::needs::{pinned_node, pod_needs};
use crate::source::kubernetes::objects::pod::{ContainerStatus, Pod};
use crate::source::kubernetes::objects::{condition, instant};
use crate::source::kubernetes::{Change, Out, Translator, full_name, uid_of};

/// What is remembered of a pod: enough to say each thing once.
#[derive(Default)]
pub(super) struct PodState {
    name: String,
    stage: Stage,
    gated: bool,
    unschedulable: bool,
    nominated: Option<String>,
    started: bool,
}

/// How far it is; it never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    New,
    Gated,
    Pending,
    Bound,
    Over,
}

impl Translator {
    pub(super) fn pod(&mut self, change: Change, pod: &Pod, out: &mut Out<'_>) {
        let uid = uid_of(&pod.metadata).to_owned();
        if change == Change::Deleted {
            if let Some(state) = self.pods.remove(&uid) {
                pod_over(&state, &uid, None, out);
            }
            return;
        }
        let mut state = self.pods.remove(&uid).unwrap_or_else(|| PodState {
            name: full_name(&pod.metadata),
            ..PodState::default()
        });
        let over = is_over(pod);
        if over && state.stage == Stage::New {
            state.stage = Stage::Over; // it was over before anybody looked
        } else if state.stage < Stage::Over {
            self.pod_unbound(pod, &mut state, out);
            self.pod_bound(pod, &mut state, out);
            if over {
                pod_over(&state, &uid, finished_at(pod), out);
                state.stage = Stage::Over;
            }
        }
        self.pods.insert(uid, state);
    }

    fn pod_unbound(&mut self, pod: &Pod, state: &mut PodState, out: &mut Out<'_>) {
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if pod.spec.node_name.is_some() || state.stage >= Stage::Bound || deleting {
            return;
        }
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        let said = |reason| scheduled.is_some_and(|c| c.status == "False" && c.reason == reason);
        let since = scheduled.and_then(|c| instant(c.last_transition_time.as_ref()));
        if !pod.spec.scheduling_gates.is_empty() {
            if state.stage < Stage::Gated {
                state.stage = Stage::Gated;
                state.gated = true;
                let wanted = self.wanted(pod, false);
                out.push("gated", out.created(), Fact::PodGated(wanted));
            }
            return;
        }
        let unschedulable = said("Unschedulable");
        if state.stage < Stage::Pending || (unschedulable && !state.unschedulable) {
            let time = if unschedulable { since } else { out.created() };
            let time = if state.stage == Stage::Gated {
                None
            } else {
                time
            };
            state.stage = Stage::Pending;
            state.unschedulable = unschedulable;
            let wanted = self.wanted(pod, unschedulable);
            out.push("pending", time, Fact::PodPending(wanted));
        }
        let pinned = pinned_node(&pod.spec).map(str::to_owned);
        let nominated = pod.status.nominated_node_name.clone().or(pinned);
        if nominated.is_some() && nominated != state.nominated {
            state.nominated.clone_from(&nominated);
            let fact = PodNominated {
                pod: pod_ref(&pod.metadata),
                node: nominated,
                request: None,
            };
            out.push("nominated", None, Fact::PodNominated(fact));
        }
    }

    fn pod_bound(&mut self, pod: &Pod, state: &mut PodState, out: &mut Out<'_>) {
        let Some(node) = pod.spec.node_name.clone() else {
            return;
        };
        if state.stage < Stage::Bound {
            state.stage = Stage::Bound;
            // `False` is from before: whoever writes binding and condition apart is seen in between.
            let scheduled = condition(&pod.status.conditions, "PodScheduled");
            let scheduled = scheduled.filter(|c| c.status == "True");
            let time = scheduled.and_then(|c| instant(c.last_transition_time.as_ref()));
            let bound = PodBound {
                pod: pod_ref(&pod.metadata),
                node: node.clone(),
                owner: self.top_owner(&pod.metadata),
                needs: self.needs(pod),
            };
            out.push("bound", time, Fact::PodBound(bound));
        }
        if let (false, Some(at)) = (state.started, started_at(pod)) {
            state.started = true;
            let fact = PodOnNode {
                pod: pod_ref(&pod.metadata),
                node,
            };
            out.push_truth("started", Some(at), Fact::PodStarted(fact));
        }
    }

    fn wanted(&mut self, pod: &Pod, unschedulable: bool) -> PodWanted {
        PodWanted {
            pod: pod_ref(&pod.metadata),
            owner: self.top_owner(&pod.metadata),
            needs: self.needs(pod),
            unschedulable,
        }
    }

    fn needs(&mut self, pod: &Pod) -> PodNeeds {
        let (needs, unreadable) = pod_needs(&pod.spec);
        self.skip("image reference not valid", unreadable);
        needs
    }

    /// The controller's controller where it is known: a Deployment for a ReplicaSet, a CronJob for
    /// a Job. Without the ReplicaSet itself its name tells: the Deployment's and the template hash.
    pub(super) fn top_owner(&self, meta: &ObjectMeta) -> Option<WorkloadRef> {
        let owners = meta.owner_references.as_ref()?;
        let owner = owners.iter().find(|o| o.controller == Some(true))?;
        if let Some(top) = self.owners.get(&owner.uid) {
            return Some(top.clone());
        }
        let labels = meta.labels.as_ref();
        let hash = labels.and_then(|labels| labels.get("pod-template-hash"));
        let deployment = hash
            .filter(|_| owner.kind == "ReplicaSet")
            .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        Some(WorkloadRef {
            kind: deployment
                .map_or(owner.kind.as_str(), |_| "Deployment")
                .into(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: deployment.unwrap_or(&owner.name).into(),
        })
    }

    pub(super) fn forget_pods(&mut self, kept: &HashSet<String>, out: &mut Out<'_>) {
        let lost = self.pods.keys().filter(|uid| !kept.contains(*uid));
        let mut lost: Vec<_> = lost.cloned().collect();
        lost.sort();
        for uid in lost {
            if let Some(state) = self.pods.remove(&uid)
                && state.stage < Stage::Over
            {
                out.push_lost(&uid, gone(&state, &uid));
            }
        }
    }
}

/// `namespace/name` and uid.
fn pod_ref(meta: &ObjectMeta) -> PodRef {
    PodRef {
        name: full_name(meta),
        uid: uid_of(meta).to_owned(),
    }
}

fn gone(state: &PodState, uid: &str) -> Fact {
    Fact::PodRemoved(PodGone {
        pod: PodRef {
            name: state.name.clone(),
            uid: uid.to_owned(),
        },
    })
}

/// Says `removed` for a pod that was spoken of and is not over yet.
fn pod_over(state: &PodState, uid: &str, time: Option<Timestamp>, out: &mut Out<'_>) {
    if state.stage > Stage::New && state.stage < Stage::Over {
        out.push("removed", time, gone(state, uid));
    }
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
}

fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let ends = pod.status.container_statuses.iter().filter_map(|status| {
        let end = status.state.terminated.as_ref()?;
        instant(end.finished_at.as_ref())
    });
    ends.max()
}

/// When the last of all containers started; a restarted one has started before.
fn started_at(pod: &Pod) -> Option<Timestamp> {
    let began = |status: &ContainerStatus| {
        let state = &status.state;
        let ran = state.running.as_ref().or(state.terminated.as_ref());
        let ran = ran.or(status.last_state.terminated.as_ref())?;
        instant(ran.started_at.as_ref())
    };
    let statuses = &pod.status.container_statuses;
    let times: Vec<_> = statuses.iter().filter_map(began).collect();
    let all = !times.is_empty() && times.len() == pod.spec.containers.len();
    times.into_iter().max().filter(|_| all)
}
