//! All pods, found by uid once per signal.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::HashMap;

use super::pods::Pod;

/// Number of a pod: good until it is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(u32);

/// Pods by number, and their numbers by uid.
#[derive(Debug, Default)]
pub struct Roster {
    ids: HashMap<Arc<str>, PodId>,
    places: Vec<Option<Pod>>,
    free: Vec<PodId>,
}

impl Roster {
    pub fn id(&self, uid: &str) -> Option<PodId> {
        self.ids.get(uid).copied()
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (PodId, &Pod)> {
        self.ids.values().map(|id| (*id, &self[*id]))
    }

    /// A pod whose uid is not known yet.
    pub fn put(&mut self, pod: Pod) -> PodId {
        let uid = Arc::clone(&pod.uid);
        let id = if let Some(id) = self.free.pop() {
            self.places[id.0 as usize] = Some(pod);
            id
        } else {
            self.places.push(Some(pod));
            let last = self.places.len() - 1;
            PodId(u32::try_from(last).expect("fewer than 2^32 pods"))
        };
        self.ids.insert(uid, id);
        id
    }

    /// A pod is gone.
    pub fn take(&mut self, id: PodId) -> Pod {
        let pod = self.places[id.0 as usize].take().expect(KNOWN);
        self.ids.remove(&pod.uid);
        self.free.push(id);
        pod
    }
}

/// Indexes give up a number before the pod is taken out.
const KNOWN: &str = "the number of a pod that is known";

impl Index<PodId> for Roster {
    type Output = Pod;

    fn index(&self, id: PodId) -> &Pod {
        self.places[id.0 as usize].as_ref().expect(KNOWN)
    }
}

impl IndexMut<PodId> for Roster {
    fn index_mut(&mut self, id: PodId) -> &mut Pod {
        self.places[id.0 as usize].as_mut().expect(KNOWN)
    }
}
