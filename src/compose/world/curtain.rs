//! The start of the scenario: everything that stands then is known then.

use crate::compose::spec::Kind;
use crate::compose::tape::Note;
use crate::compose::world::World;
use crate::compose::world::groups::SUBJECT;
use crate::compose::world::state::PodId;
use crate::compose::world::words::{CLAIMS, NODES, PODS, SCALERS, STATUS, STATUS_UID, object};
use crate::domain::signal::Fact;

impl World<'_> {
    /// Tells what there is, and goes live.
    pub(super) fn go_live(&mut self) {
        self.known_workloads();
        self.known_nodes();
        self.known_requests();
        for work in 0..self.works.len() {
            if self.cast.works[work].spec.hpa.is_some() {
                let told = self.works[work].told_scaler.clone();
                let fact = told.unwrap_or_else(|| self.scaler_fact(work));
                let subject = self.work_subject(work);
                let note = object(SCALERS, &self.works[work].scaler_uid, "observed", &subject);
                self.tape.known(self.now, &note, Fact::ScalerObserved(fact));
            }
        }
        self.known_pods();
        self.summary.nodes_at_start = self.pools.iter().map(|pool| pool.nodes.len() as u64).sum();
        self.summary.pods_at_start = self.alive;
        self.summary.pods_most = self.alive;
        self.tape.go_live();
    }

    fn known_workloads(&mut self) {
        for work in 0..self.works.len() {
            if self.cast.works[work].spec.kind == Kind::Jobs {
                continue;
            }
            let fact = self.applied(work);
            let subject = self.work_subject(work);
            let note = object(
                self.collection(work),
                &self.works[work].uid,
                "applied",
                &subject,
            );
            self.tape.known(self.works[work].since, &note, fact);
        }
        for job in 0..self.jobs.len() {
            let work = self.jobs[job].work;
            if self.cast.works[work].spec.kind == Kind::Jobs && self.jobs[job].left > 0 {
                let idle = self.works[work].suspended.contains(&job);
                let fact = self.job_applied(job, idle);
                let found = &self.jobs[job];
                let subject = format!(
                    "{}/{}",
                    self.cast.works[work].reference.namespace, found.name
                );
                let note = object("/kubernetes/jobs", &found.uid, "applied", &subject);
                self.tape.known(self.now, &note, fact);
            }
        }
    }

    fn known_nodes(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].gone {
                continue;
            }
            let joined = self.joined(node);
            let ready = self.ready_fact(node);
            let found = &self.nodes[node];
            let note = object(NODES, &found.uid, "joined", &found.name);
            self.tape.known(found.joined, &note, joined);
            if let Some(at) = found.ready {
                self.tape.known(
                    at,
                    &Note {
                        what: "ready",
                        ..note
                    },
                    ready,
                );
            }
        }
    }

    /// Nodes that are on their way.
    fn known_requests(&mut self) {
        if !self.has_claims() {
            for pool in 0..self.pools.len() {
                if self.pools[pool].claims.is_empty() {
                    continue;
                }
                let fact = self.target_fact(pool, self.pools[pool].claims.len() as u32);
                let what = format!("target:{}", self.cast.pools[pool].name);
                let note = object(STATUS, STATUS_UID, &what, SUBJECT);
                self.tape.known(self.now, &note, fact);
            }
            return;
        }
        for claim in 0..self.claims.len() {
            if self.claims[claim].over {
                continue;
            }
            let requested = self.requested(claim);
            let launched = self.launched_fact(claim);
            let found = &self.claims[claim];
            let note = object(CLAIMS, &found.uid, "requested", &found.name);
            self.tape.known(found.asked, &note, requested);
            if found.launched {
                self.tape.known(
                    self.now,
                    &Note {
                        what: "launched",
                        ..note
                    },
                    launched,
                );
            }
        }
    }

    fn known_pods(&mut self) {
        for pod in 0..self.pods.len() {
            if self.pods[pod].gone {
                continue;
            }
            let Some(node) = self.pods[pod].node else {
                let pending = self.pending(pod);
                self.known_pod(pod, "pending", pending);
                continue;
            };
            let bound = self.bound(pod, node);
            self.known_pod(pod, "bound", bound);
            if self.pods[pod].started.is_some() {
                let started = self.on_node(pod, node);
                self.known_pod(pod, "started", started);
            }
        }
    }

    fn known_pod(&mut self, pod: PodId, what: &'static str, fact: Fact) {
        let found = &self.pods[pod];
        let since = match what {
            "bound" => found.bound,
            "started" => found.started.unwrap_or(found.bound),
            _ => found.created,
        };
        let truth = what == "started";
        let note = object(PODS, &found.uid, what, &found.name);
        self.tape.known(since, &Note { truth, ..note }, fact);
    }
}
