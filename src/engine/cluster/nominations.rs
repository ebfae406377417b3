//! For which places waiting pods are intended, and how often they come there.

use crate::domain::signal::PodNominated;
use crate::forecast::promise::Promises;

use super::pods::{Phase, Place, Pod};
use super::roster::PodId;
use super::sites::SiteId;
use super::{Applied, Cluster, KNOWN};

impl Cluster {
    /// Takes over what was learned of nominations.
    pub(crate) fn take_promises(&mut self, promises: Promises) {
        self.promises = promises;
        self.marks.promised = true;
    }

    /// A pod comes to a node, as somebody intended it, or another. Pods of one kind run the same images:
    /// one that comes in another's place keeps the promise that was made for that, and leaves it its own.
    pub(super) fn note_promise(&mut self, id: PodId, node: SiteId) {
        let pod = &self.pods[id];
        let place = pod.nominated.clone();
        let by = |request: &str| self.fulfilled.get(request) == Some(&self.nodes[node].name);
        let kept = match &place {
            Some(Place::Node(_)) => return,
            Some(Place::Request(request)) => by(request),
            None => false,
        };
        let instead = (!kept).then(|| self.promised_alike(pod, node)).flatten();
        if place.is_none() && instead.is_none() {
            return;
        }
        self.promises.note(kept || instead.is_some());
        self.marks.promised = true;
        if let Some(other) = instead {
            self.nominate(other, place);
        }
    }

    /// A waiting pod of the same kind that somebody intends for a node.
    fn promised_alike(&self, pod: &Pod, node: SiteId) -> Option<PodId> {
        if self.nominated.is_empty() {
            return None;
        }
        let request = self.nodes[node].node.as_ref()?.request.as_deref()?;
        let intended = self.nominated.get(&Place::Request(request.into()))?;
        let alike = |id: &PodId| {
            let other = &self.pods[*id];
            other.owned == pod.owned && other.template.print == pod.template.print
        };
        intended.iter().map(|(_, id)| *id).find(alike)
    }

    /// Somebody intends a waiting pod for a place, or for none any more.
    fn nominate(&mut self, id: PodId, place: Option<Place>) {
        let phase = self.pods[id].phase;
        self.leave_phase(id);
        self.pods[id].nominated = place;
        self.set_phase(id, phase);
    }

    pub(super) fn pod_nominated(&mut self, fact: &PodNominated) -> Applied {
        let place = match (&fact.node, &fact.request) {
            (Some(node), _) => Some(Place::Node(self.nodes.name(node))),
            (None, Some(request)) => Some(Place::Request(request.as_str().into())),
            (None, None) => None,
        };
        let Some(id) = self.pods.id(&fact.pod.uid) else {
            return Applied::Ignored("nomination of an unknown pod");
        };
        let pod = &self.pods[id];
        if pod.nominated == place || matches!(pod.phase, Phase::Bound { .. }) {
            return KNOWN;
        }
        self.nominate(id, place);
        Applied::Changed
    }
}
