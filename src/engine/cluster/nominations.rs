//! For which places waiting pods are intended, and how often they come there.

use std::sync::Arc;

use crate::domain::signal::PodNominated;
use crate::forecast::promise::Promises;

use super::pods::{Phase, Place, Pod};
use super::{Applied, Cluster, KNOWN};

impl Cluster {
    /// Takes over what was learned of nominations.
    pub(crate) fn take_promises(&mut self, promises: Promises) {
        self.promises = promises;
        self.marks.promised = true;
    }

    /// A pod comes to a node, as somebody intended it, or another. Pods of one kind run the same images:
    /// one that comes in another's place keeps the promise that was made for that, and leaves it its own.
    pub(super) fn note_promise(&mut self, uid: &Arc<str>, node: &Arc<str>) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        let place = pod.nominated.clone();
        let kept = match &place {
            Some(Place::Node(_)) => return,
            Some(Place::Request(request)) => self.fulfilled.get(&**request) == Some(node),
            None => false,
        };
        let instead = (!kept).then(|| self.promised_alike(pod, node)).flatten();
        if place.is_none() && instead.is_none() {
            return;
        }
        self.promises.note(kept || instead.is_some());
        self.marks.promised = true;
        if let Some(other) = instead {
            self.nominate(&other, place);
        }
    }

    /// A waiting pod of the same kind that somebody intends for a node.
    fn promised_alike(&self, pod: &Pod, node: &Arc<str>) -> Option<Arc<str>> {
        let request = self.nodes.get(node)?.request.as_deref()?;
        let intended = self.nominated.get(&Place::Request(request.into()))?;
        let alike = |uid: &&Arc<str>| {
            let other = self.pods.get(*uid);
            other.is_some_and(|o| o.owner == pod.owner && o.template.print == pod.template.print)
        };
        intended.iter().find(alike).cloned()
    }

    /// Somebody intends a waiting pod for a place, or for none any more.
    fn nominate(&mut self, uid: &Arc<str>, place: Option<Place>) {
        let Some(phase) = self.pods.get(uid).map(|pod| pod.phase.clone()) else {
            return;
        };
        self.leave_phase(uid);
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.nominated = place;
        }
        self.set_phase(uid, phase);
    }

    pub(super) fn pod_nominated(&mut self, fact: &PodNominated) -> Applied {
        let uid = self.shared_uid(&fact.pod.uid);
        let place = match (&fact.node, &fact.request) {
            (Some(node), _) => Some(Place::Node(self.node_name(node))),
            (None, Some(request)) => Some(Place::Request(request.as_str().into())),
            (None, None) => None,
        };
        let Some(pod) = self.pods.get(&uid) else {
            return Applied::Ignored("nomination of an unknown pod");
        };
        if pod.nominated == place || matches!(pod.phase, Phase::Bound { .. }) {
            return KNOWN;
        }
        self.nominate(&uid, place);
        Applied::Changed
    }
}
