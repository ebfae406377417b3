//! Controllers of Deployments, StatefulSets and DaemonSets: their pods are made and deleted.

use crate::compose::cast::{ClassId, WorkId};
use crate::compose::spec::Kind;
use crate::compose::tape::{Note, Stamp};
use crate::compose::world::state::{NodeId, PodId};
use crate::compose::world::words::object;
use crate::compose::world::{Due, World};

impl World<'_> {
    /// The workload's controller looks at it soon: a controller's queue takes some milliseconds.
    pub(super) fn soon(&mut self, work: WorkId) {
        if !self.works[work].reconciling {
            self.works[work].reconciling = true;
            let delay = 0.02 + 0.08 * self.draws.phase.unit();
            self.after(delay, Due::Reconcile(work));
        }
    }

    /// Brings a workload's pods closer to what is wanted.
    pub(super) fn reconcile(&mut self, work: WorkId) {
        self.works[work].reconciling = false;
        match self.cast.works[work].spec.kind {
            Kind::Deployment => self.reconcile_deployment(work),
            Kind::StatefulSet => self.reconcile_set(work),
            Kind::DaemonSet => self.reconcile_daemons(work),
            Kind::CronJob | Kind::Jobs => {}
        }
        self.say_applied(work);
    }

    /// The class of the workload's current template.
    pub(super) fn class_of(&self, work: WorkId) -> ClassId {
        self.cast.works[work].classes[self.works[work].template].1
    }

    /// A workload is told when something in it has changed that its object shows.
    pub(super) fn say_applied(&mut self, work: WorkId) {
        if !self.tape.is_live() || self.cast.works[work].spec.kind == Kind::Jobs {
            return;
        }
        let class = self.class_of(work);
        let state = &self.works[work];
        let updated = state
            .pods
            .iter()
            .filter(|pod| self.pods[**pod].class == class)
            .count() as u32;
        let now = (
            state.replicas,
            updated,
            state.pods.len() as u32,
            state.template,
        );
        let shown = match self.cast.works[work].spec.kind {
            Kind::DaemonSet => (now.2, now.1, 0, now.3),
            _ if now.1 == now.2 => (now.0, 0, 0, now.3), // no rollout: `updated` follows replicas
            _ => (now.0, now.1, 1, now.3),
        };
        if state.told == Some(shown) {
            return;
        }
        self.works[work].told = Some(shown);
        let fact = self.applied(work);
        let subject = self.work_subject(work);
        let note = object(
            self.collection(work),
            &self.works[work].uid,
            "applied",
            &subject,
        );
        let stamp = Stamp::Seen;
        self.tape.note(self.now, &Note { stamp, ..note }, fact);
    }

    fn reconcile_deployment(&mut self, work: WorkId) {
        let class = self.class_of(work);
        let pods: Vec<PodId> = self.works[work].pods.iter().copied().collect();
        let (new, old): (Vec<PodId>, Vec<PodId>) = pods
            .into_iter()
            .partition(|pod| self.pods[*pod].class == class);
        let wanted = self.works[work].replicas as usize;
        if old.is_empty() {
            self.resize(work, &new, wanted);
        } else {
            self.roll(work, new, old);
        }
    }

    /// Makes or deletes pods of the current template.
    pub(super) fn resize(&mut self, work: WorkId, pods: &[PodId], wanted: usize) {
        let class = self.class_of(work);
        for _ in pods.len()..wanted {
            let state = &self.works[work];
            let (set, name) = (
                &state.hashes[state.template],
                &self.cast.works[work].reference.name,
            );
            let name = format!("{name}-{set}-{}", self.draws.names.name(5));
            self.create_waiting(class, name, None);
        }
        if pods.len() > wanted {
            for pod in self.victims(pods, pods.len() - wanted) {
                self.delete_pod(pod);
            }
        }
    }

    /// Which pods a ReplicaSet deletes first: unbound, then not ready, then those with most of their
    /// like on the same node, then the youngest (`ActivePodsWithRanks`).
    pub(super) fn victims(&self, pods: &[PodId], count: usize) -> Vec<PodId> {
        let rank = |pod: &PodId| {
            let found = &self.pods[*pod];
            let work = self.cast.classes[found.class].work;
            let alike = found
                .node
                .and_then(|node| self.nodes[node].by_work.get(&work).copied())
                .unwrap_or(0);
            let (bound, ready) = (found.node.is_some(), found.ready.is_some());
            (
                bound,
                ready,
                std::cmp::Reverse(alike),
                std::cmp::Reverse((found.created, *pod)),
            )
        };
        let mut ranked: Vec<PodId> = pods.to_vec();
        ranked.sort_by_key(rank);
        ranked.truncate(count);
        ranked
    }

    /// One pod after the other: the next is made when all before it are ready; the last goes first.
    fn reconcile_set(&mut self, work: WorkId) {
        let class = self.class_of(work);
        let wanted = self.works[work].replicas;
        let mut pods: Vec<PodId> = self.works[work].pods.iter().copied().collect();
        pods.sort_by_key(|pod| self.pods[*pod].number);
        let ready = pods.iter().all(|pod| self.pods[*pod].ready.is_some());
        if pods.len() as u32 > wanted {
            if let Some(last) = pods.last() {
                self.delete_pod(*last);
            }
            return;
        }
        let missing =
            (0..wanted).find(|number| !pods.iter().any(|pod| self.pods[*pod].number == *number));
        if let (Some(number), true) = (missing, ready) {
            let name = format!("{}-{number}", self.cast.works[work].reference.name);
            let pod = self.create_waiting(class, name, None);
            self.pods[pod].number = number;
            return;
        }
        let old = pods
            .iter()
            .rev()
            .find(|pod| self.pods[**pod].class != class);
        if let (Some(pod), true) = (old, ready) {
            self.delete_pod(*pod);
        }
    }

    /// A pod on every node that admits it; in a rollout one node after the other.
    fn reconcile_daemons(&mut self, work: WorkId) {
        for node in 0..self.nodes.len() {
            let found = &self.nodes[node];
            if !found.gone && !found.closed && !found.by_work.contains_key(&work) {
                self.daemon_on(work, node);
            }
        }
        let class = self.class_of(work);
        let pods = &self.works[work].pods;
        let all_ready = pods.iter().all(|pod| self.pods[*pod].ready.is_some());
        let old = pods.iter().find(|pod| self.pods[**pod].class != class);
        if let (Some(pod), true) = (old.copied(), all_ready) {
            self.delete_pod(pod);
        }
    }

    /// A DaemonSet's pod on a node: made, meant for it, bound, all at once.
    pub(super) fn daemon_on(&mut self, work: WorkId, node: NodeId) {
        let class = self.class_of(work);
        let found = &self.nodes[node];
        let cast = &self.cast.classes[class];
        if !cast.admits[found.pool][found.place] || !cast.ask.fits(&found.free) {
            return;
        }
        let name = format!(
            "{}-{}",
            self.cast.works[work].reference.name,
            self.draws.names.name(5)
        );
        let pod = self.create_pod(class, name, None);
        self.pods[pod].node = Some(node);
        if self.tape.is_live() {
            let fact = self.pending(pod);
            self.say_pod(pod, "pending", Stamp::Second, fact);
            let fact = self.nominated(pod, Some(self.nodes[node].name.clone()), None);
            self.say_pod(pod, "nominated", Stamp::Seen, fact);
        }
        self.bind(pod, node);
        self.say_applied(work);
    }
}
