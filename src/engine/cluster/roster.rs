//! All pods, found by uid once per signal.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::HashMap;
use slab::Slab;

use super::pods::Pod;

/// Number of a pod: good until it is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(u32);

/// Pods by number, and their numbers by uid.
#[derive(Debug, Default)]
pub struct Roster {
    ids: HashMap<Arc<str>, PodId>,
    pods: Slab<Pod>,
}

impl Roster {
    pub fn id(&self, uid: &str) -> Option<PodId> {
        self.ids.get(uid).copied()
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (PodId, &Pod)> {
        self.ids.values().map(|id| (*id, &self[*id]))
    }

    /// A pod whose uid is not known yet.
    pub fn put(&mut self, pod: Pod) -> PodId {
        let uid = Arc::clone(&pod.uid);
        let id = self.pods.insert(pod);
        // Half as long as a place: every node holds lists of them.
        let id = PodId(u32::try_from(id).expect("fewer than 2^32 pods"));
        self.ids.insert(uid, id);
        id
    }

    /// A pod is gone; indexes have given up its number before.
    pub fn take(&mut self, id: PodId) -> Pod {
        let pod = self.pods.remove(id.0 as usize);
        self.ids.remove(&pod.uid);
        pod
    }
}

impl Index<PodId> for Roster {
    type Output = Pod;

    fn index(&self, id: PodId) -> &Pod {
        &self.pods[id.0 as usize]
    }
}

impl IndexMut<PodId> for Roster {
    fn index_mut(&mut self, id: PodId) -> &mut Pod {
        &mut self.pods[id.0 as usize]
    }
}
