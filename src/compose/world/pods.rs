//! A pod's life: created, bound, started, ready, ending, gone.

use crate::compose::cast::{ClassId, WorkId};
use crate::compose::spec::Kind;
use crate::compose::tape::Stamp;
use crate::compose::world::state::{JobId, NodeId, Pod, PodId};
use crate::compose::world::{Due, World};

/// Containers start so long after the last image is there (create and start; the recordings).
const START_S: f64 = 0.3;

impl World<'_> {
    /// A pod appears. `node` binds it at once (DaemonSets).
    pub(super) fn create_pod(&mut self, class: ClassId, name: String, job: Option<JobId>) -> PodId {
        let work = self.cast.classes[class].work;
        let pod = self.pods.len();
        let namespace = &self.cast.works[work].reference.namespace;
        self.pods.push(Pod {
            name: format!("{namespace}/{name}"),
            uid: self.draws.names.uid(),
            class,
            node: None,
            job,
            number: 0,
            created: self.now,
            bound: self.now,
            waits_from: self.now,
            unschedulable: false,
            image: 0,
            asked: self.now,
            began: self.now,
            started: None,
            ready: None,
            ending: false,
            gone: false,
        });
        self.works[work].pods.insert(pod);
        self.alive += 1;
        self.summary.pods_most = self.summary.pods_most.max(self.alive);
        if self.tape.is_live() {
            self.summary.pods_created += 1;
        }
        pod
    }

    /// A pod appears that the scheduler has to place.
    pub(super) fn create_waiting(
        &mut self,
        class: ClassId,
        name: String,
        job: Option<JobId>,
    ) -> PodId {
        let pod = self.create_pod(class, name, job);
        if self.tape.is_live() {
            let fact = self.pending(pod);
            self.say_pod(pod, "pending", Stamp::Second, fact);
        }
        self.waiting.entry(class).or_default().push_back(pod);
        self.wake_scheduler();
        pod
    }

    /// Binds a pod; its requests are taken from the node.
    pub(super) fn bind(&mut self, pod: PodId, node: NodeId) {
        let class = self.pods[pod].class;
        let work = self.cast.classes[class].work;
        self.pods[pod].node = Some(node);
        self.pods[pod].bound = self.now;
        self.close_index(node);
        self.nodes[node].free.take(&self.cast.classes[class].ask, 1);
        self.open_index(node);
        let found = &mut self.nodes[node];
        found.pods.insert(pod);
        *found.by_work.entry(work).or_default() += 1;
        let (zone, ready, new) = (found.zone, found.ready, found.new);
        self.in_zone[work][zone] += 1;
        self.pods[pod].waits_from = ready.map_or(self.now, |ready| ready.max(self.now));
        if new {
            self.summary.pods_on_new_nodes += 1;
        }
        if self.tape.is_live() {
            let fact = self.bound(pod, node);
            self.say_pod(pod, "bound", Stamp::Second, fact);
        }
        let sandbox = self.cast.pools[self.nodes[node].pool]
            .spec
            .sandbox
            .0
            .as_secs_f64();
        self.after(sandbox, Due::Look(pod));
    }

    /// All images are there: containers start.
    pub(super) fn images_there(&mut self, pod: PodId) {
        self.after(START_S, Due::Started(pod));
    }

    pub(super) fn started(&mut self, pod: PodId) {
        let (Some(node), false) = (self.pods[pod].node, self.pods[pod].ending) else {
            return;
        };
        self.pods[pod].started = Some(self.now);
        if self.tape.is_live() {
            let fact = self.on_node(pod, node);
            self.say_pod(pod, "started", Stamp::Second, fact);
        }
        let work = self.cast.classes[self.pods[pod].class].work;
        let spec = &self.cast.works[work].spec;
        if self.pods[pod].job.is_some() {
            let run = self.draws.app.draw(&spec.run);
            self.after(run, Due::Finish(pod));
        } else {
            let start = self.draws.app.draw(&spec.app_start);
            self.after(start, Due::AppReady(pod));
        }
    }

    pub(super) fn app_ready(&mut self, pod: PodId) {
        if self.pods[pod].ending {
            return;
        }
        self.pods[pod].ready = Some(self.now);
        let work = self.cast.classes[self.pods[pod].class].work;
        self.works[work].ready += 1;
        if self.is_busy(work) {
            self.soon(work);
        }
    }

    /// Deletes a pod: it ends after its grace; one without a node is gone at once.
    pub(super) fn delete_pod(&mut self, pod: PodId) {
        if self.pods[pod].ending {
            return;
        }
        self.pods[pod].ending = true;
        let class = self.pods[pod].class;
        let work = self.cast.classes[class].work;
        if self.pods[pod].ready.take().is_some() {
            self.works[work].ready -= 1;
        }
        self.works[work].pods.remove(&pod);
        if self.pods[pod].node.is_none() {
            if let Some(queue) = self.waiting.get_mut(&class) {
                queue.retain(|waiting| *waiting != pod);
                if queue.is_empty() {
                    self.waiting.remove(&class);
                }
            }
            self.ended(pod);
            return;
        }
        let grace = match self.pods[pod].started {
            Some(_) => self.draws.app.draw(&self.cast.works[work].spec.grace),
            None => 0.1,
        };
        self.after(grace, Due::Ended(pod));
    }

    /// The pod's object goes; its room is free.
    pub(super) fn ended(&mut self, pod: PodId) {
        if self.pods[pod].gone {
            return;
        }
        self.pods[pod].gone = true;
        self.alive -= 1;
        if self.tape.is_live() {
            let fact = self.gone(pod);
            self.say_pod(pod, "removed", Stamp::Seen, fact);
        }
        self.release(pod);
        let work = self.cast.classes[self.pods[pod].class].work;
        if self.is_busy(work) || self.cast.works[work].spec.kind == Kind::StatefulSet {
            self.soon(work);
        }
        let pod = &mut self.pods[pod];
        // A day has a hundred thousand of them: what nobody reads any more is dropped.
        pod.name = String::new();
    }

    /// Takes a pod off its node.
    fn release(&mut self, pod: PodId) {
        let Some(node) = self.pods[pod].node else {
            return;
        };
        let class = &self.cast.classes[self.pods[pod].class];
        let zone = self.nodes[node].zone;
        self.in_zone[class.work][zone] = self.in_zone[class.work][zone].saturating_sub(1);
        self.close_index(node);
        let found = &mut self.nodes[node];
        found.free.give(&class.ask);
        found.pods.remove(&pod);
        if let Some(count) = found.by_work.get_mut(&class.work) {
            *count -= 1;
            if *count == 0 {
                found.by_work.remove(&class.work);
            }
        }
        let queued = found.pulls.len();
        found.pulls.retain(|waiting| *waiting != pod);
        debug_assert!(
            found.pulls.len() + 1 >= queued,
            "a pod waits for one pull at a time"
        );
        self.open_index(node);
        if self.nodes[node].is_open() {
            self.room_version += 1;
            if !self.waiting.is_empty() {
                self.wake_scheduler();
            }
        }
    }

    /// Whether a workload has something to do when one of its pods changes.
    fn is_busy(&self, work: WorkId) -> bool {
        let state = &self.works[work];
        let cast = &self.cast.works[work];
        let class = cast.classes[state.template].1;
        let old = state
            .pods
            .first()
            .is_some_and(|pod| self.pods[*pod].class != class);
        match cast.spec.kind {
            Kind::StatefulSet => true,
            // During a rollout old pods are there; they have lower numbers than new ones.
            Kind::Deployment => old || state.pods.len() as u32 != state.replicas,
            Kind::DaemonSet => old,
            Kind::CronJob | Kind::Jobs => false,
        }
    }
}
