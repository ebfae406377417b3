//! Jobs: they are created at their times, run their pods, and are tidied away.

use crate::compose::cast::WorkId;
use crate::compose::spec::Kind;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::state::{Job, JobId, PodId};
use crate::compose::world::words::object;
use crate::compose::world::{Due, World};
use crate::domain::signal::Fact;

/// A finished Job's object is kept for so long (`ttlSecondsAfterFinished`), in seconds.
const KEPT_S: f64 = 60.0;

impl World<'_> {
    /// The next Job of a workload is created.
    pub(super) fn fire(&mut self, work: WorkId, index: usize) {
        let times = &self.cast.works[work].tables.jobs;
        if let Some(next) = times.get(index + 1) {
            self.at(*next, Due::Fire(work, index + 1));
        }
        let name = &self.cast.works[work].reference.name;
        let minute = self.now.as_micros() / 60_000_000;
        let name = match self.cast.works[work].spec.kind {
            Kind::CronJob => format!("{name}-{minute}"),
            _ => format!("{name}-{index}"),
        };
        let job = self.jobs.len();
        self.jobs.push(Job {
            work,
            class: self.class_of(work),
            name,
            uid: self.draws.names.uid(),
            left: self.cast.works[work].spec.parallelism,
        });
        let arrivals = self.cast.works[work].spec.arrivals.as_ref();
        let most = arrivals.and_then(|arrivals| arrivals.at_once);
        if most.is_some_and(|most| self.works[work].jobs >= most) {
            self.works[work].suspended.push_back(job);
            self.say_job(job, Some(true));
        } else {
            self.start_job(job);
        }
    }

    fn start_job(&mut self, job: JobId) {
        let work = self.jobs[job].work;
        self.works[work].jobs += 1;
        self.say_job(job, Some(false));
        for _ in 0..self.cast.works[work].spec.parallelism {
            self.another_for(job);
        }
    }

    /// A pod of a Job: the first, or one for one that was lost.
    pub(super) fn another_for(&mut self, job: JobId) {
        let name = format!("{}-{}", self.jobs[job].name, self.draws.names.name(5));
        self.create_waiting(self.jobs[job].class, name, Some(job));
    }

    /// A pod has done its work.
    pub(super) fn finish(&mut self, pod: PodId) {
        let (Some(job), false) = (self.pods[pod].job, self.pods[pod].ending) else {
            return;
        };
        let work = self.jobs[job].work;
        self.pods[pod].ending = true;
        self.works[work].pods.remove(&pod);
        self.ended(pod);
        self.jobs[job].left -= 1;
        if self.jobs[job].left > 0 {
            return;
        }
        self.works[work].jobs -= 1;
        self.say_job(job, Some(true));
        self.after(KEPT_S, Due::Tidy(job));
        if let Some(next) = self.works[work].suspended.pop_front() {
            self.start_job(next);
        }
    }

    /// A finished Job's object goes.
    pub(super) fn tidy(&mut self, job: JobId) {
        self.say_job(job, None);
    }

    /// A Job's words; a CronJob's are its owner's business. `None` is gone.
    fn say_job(&mut self, job: JobId, idle: Option<bool>) {
        let work = self.jobs[job].work;
        if !self.tape.is_live() || self.cast.works[work].spec.kind != Kind::Jobs {
            return;
        }
        let (what, fact): (&str, Fact) = match idle {
            Some(idle) => ("applied", self.job_applied(job, idle)),
            None => ("removed", self.job_gone(job)),
        };
        let found = &self.jobs[job];
        let subject = format!(
            "{}/{}",
            self.cast.works[work].reference.namespace, found.name
        );
        let note = object("/kubernetes/jobs", &found.uid, what, &subject);
        let stamp = Stamp::Seen;
        self.tape.note(self.now, &Note { stamp, ..note }, fact);
    }
}
