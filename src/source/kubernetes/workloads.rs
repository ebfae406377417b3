//! Objects with a pod template as workloads, and who owns whom.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::domain::signal::{Fact, Workload, WorkloadGone};
use crate::domain::workload::WorkloadRef;
use crate::source::kubernetes::needs::pod_needs;
use crate::source::kubernetes::objects::pod::Template;
use crate::source::kubernetes::objects::workload::{
    CronJob, DaemonSet, Deployment, Job, ReplicaSet, ScaledSpec, ScaledStatus, StatefulSet,
    Strategy,
};
use crate::source::kubernetes::objects::{Kind, condition};
use crate::source::kubernetes::{Change, Out, Translator, fingerprint, name_of, uid_of};

/// What is remembered of a workload.
pub(super) struct WorkloadState {
    uid: String,
    said: u64,
    template: u64,
    progress: Progress,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Every pod runs the current template.
    Steady,
    /// This many do.
    Rolling(u32),
}

impl Translator {
    pub(super) fn replica_set(&mut self, change: Change, set: &ReplicaSet, out: &mut Out<'_>) {
        self.owns(change, &set.metadata);
        if controller(&set.metadata).is_none() {
            let workload = self.scaled("ReplicaSet", &set.metadata, &set.spec);
            self.workload(change, Progress::Steady, workload, out);
        }
    }

    pub(super) fn deployment(&mut self, change: Change, found: &Deployment, out: &mut Out<'_>) {
        let mut workload = self.scaled("Deployment", &found.metadata, &found.spec);
        workload.surge = surge(&found.spec.strategy, workload.replicas);
        let progress = self.progress(&found.metadata, &found.status, &workload);
        self.workload(change, progress, workload, out);
    }

    pub(super) fn stateful_set(&mut self, change: Change, set: &StatefulSet, out: &mut Out<'_>) {
        let workload = self.scaled("StatefulSet", &set.metadata, &set.spec);
        let progress = self.progress(&set.metadata, &set.status, &workload);
        self.workload(change, progress, workload, out);
    }

    pub(super) fn daemon_set(&mut self, change: Change, set: &DaemonSet, out: &mut Out<'_>) {
        let mut workload = self.templated("DaemonSet", &set.metadata, &set.spec.template);
        workload.replicas = set.status.desired_number_scheduled;
        let status = ScaledStatus {
            observed_generation: set.status.observed_generation,
            replicas: set.status.current_number_scheduled,
            updated_replicas: set.status.updated_number_scheduled,
        };
        let progress = self.progress(&set.metadata, &status, &workload);
        self.workload(change, progress, workload, out);
    }

    pub(super) fn job(&mut self, change: Change, job: &Job, out: &mut Out<'_>) {
        self.owns(change, &job.metadata);
        if controller(&job.metadata).is_some_and(|kind| kind == "CronJob") {
            return; // its CronJob stands for it
        }
        let ended = ["Complete", "Failed"].iter().any(|name| {
            condition(&job.status.conditions, name).is_some_and(|c| c.status == "True")
        });
        let mut workload = self.templated("Job", &job.metadata, &job.spec.template);
        workload.replicas = job.spec.parallelism.unwrap_or(1);
        workload.idle = job.spec.suspend || ended;
        self.workload(change, Progress::Steady, workload, out);
    }

    pub(super) fn cron_job(&mut self, change: Change, cron: &CronJob, out: &mut Out<'_>) {
        let job = &cron.spec.job_template.spec;
        let mut workload = self.templated("CronJob", &cron.metadata, &job.template);
        workload.replicas = job.parallelism.unwrap_or(1);
        workload.schedule = Some(cron.spec.schedule.clone());
        workload.time_zone.clone_from(&cron.spec.time_zone);
        workload.idle = cron.spec.suspend || job.suspend;
        self.workload(change, Progress::Steady, workload, out);
    }

    fn scaled(&mut self, kind: &str, meta: &ObjectMeta, spec: &ScaledSpec) -> Workload {
        let mut workload = self.templated(kind, meta, &spec.template);
        workload.replicas = spec.replicas.unwrap_or(1);
        workload.idle = spec.paused;
        workload
    }

    fn templated(&mut self, kind: &str, meta: &ObjectMeta, template: &Template) -> Workload {
        let (needs, unreadable) = pod_needs(&template.spec);
        self.skip("image reference not valid", unreadable);
        Workload {
            workload: WorkloadRef {
                kind: kind.to_owned(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: name_of(meta).to_owned(),
            },
            needs,
            replicas: 0,
            updated: 0,
            surge: 0,
            schedule: None,
            time_zone: None,
            idle: false,
        }
    }

    /// How far the rollout is that the status tells of. A status of an older generation tells nothing
    /// of a new template, and nothing new of an old one: scaling alone is no rollout.
    fn progress(&self, meta: &ObjectMeta, status: &ScaledStatus, now: &Workload) -> Progress {
        let generation = meta.generation.unwrap_or(0);
        let before = self.workloads.get(&now.workload);
        if status.observed_generation < generation {
            return match before {
                Some(state) if state.template == fingerprint(&now.needs) => state.progress,
                Some(_) => Progress::Rolling(0),
                None => Progress::Steady,
            };
        }
        if status.updated_replicas < status.replicas {
            Progress::Rolling(status.updated_replicas)
        } else {
            Progress::Steady
        }
    }

    fn workload(
        &mut self,
        change: Change,
        progress: Progress,
        mut workload: Workload,
        out: &mut Out<'_>,
    ) {
        let name = workload.workload.clone();
        if change == Change::Deleted {
            if self.workloads.remove(&name).is_some() {
                out.push("removed", None, gone(name));
            }
            return;
        }
        workload.updated = match progress {
            Progress::Steady => workload.replicas,
            Progress::Rolling(updated) => updated.min(workload.replicas),
        };
        let state = WorkloadState {
            uid: uid_of(out.meta).to_owned(),
            said: fingerprint(&workload),
            template: fingerprint(&workload.needs),
            progress,
        };
        let said = state.said;
        let before = self.workloads.insert(name, state);
        if before.as_ref().is_none_or(|before| before.said != said) {
            let time = out.created().filter(|_| before.is_none());
            out.push("applied", time, Fact::WorkloadApplied(workload));
        }
    }

    pub(super) fn forget_workloads(
        &mut self,
        kind: Kind,
        kept: &HashSet<String>,
        out: &mut Out<'_>,
    ) {
        let word = format!("{kind:?}");
        let lost = self
            .workloads
            .iter()
            .filter(|(name, state)| name.kind == word && !kept.contains(&state.uid));
        let lost: Vec<_> = lost.map(|(n, s)| (n.clone(), s.uid.clone())).collect();
        for (name, uid) in lost {
            self.workloads.remove(&name);
            out.push_lost(&uid, gone(name));
        }
    }

    /// Remembers what stands above a ReplicaSet or a Job.
    fn owns(&mut self, change: Change, meta: &ObjectMeta) {
        let uid = uid_of(meta).to_owned();
        match (change, self.top_owner(meta)) {
            (Change::Applied, Some(top)) => {
                self.owners.insert(uid, top);
            }
            _ => {
                self.owners.remove(&uid);
            }
        }
    }
}

fn gone(workload: WorkloadRef) -> Fact {
    Fact::WorkloadRemoved(WorkloadGone { workload })
}

/// Kind of the controller that owns an object.
fn controller(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.as_ref()?;
    let owner = owners.iter().find(|o| o.controller == Some(true))?;
    Some(&owner.kind)
}

/// Pods above the wanted number during a rollout: 25 % where nothing is written, per cent rounded
/// up (Kubernetes documentation, "Max Surge").
fn surge(strategy: &Strategy, replicas: u32) -> u32 {
    if strategy.r#type == "Recreate" {
        return 0;
    }
    let per_cent = |text: &str| -> Option<u32> {
        let share: u64 = text.strip_suffix('%')?.parse().ok()?;
        u32::try_from((u64::from(replicas) * share).div_ceil(100)).ok()
    };
    match &strategy.rolling_update.max_surge {
        Some(IntOrString::Int(pods)) => u32::try_from(*pods).unwrap_or(0),
        Some(IntOrString::String(text)) => per_cent(text).unwrap_or(0),
        None => per_cent("25%").unwrap_or(0),
    }
}
