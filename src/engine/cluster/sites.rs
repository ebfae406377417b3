//! Nodes and the pods on them, found by name once per signal.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::HashMap;
use slab::Slab;

use super::nodes::Node;
use super::pods::Load;

/// Number of a node's name: good until nothing is known of the node any more and a step is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(usize);

/// A node, whether it is known by itself or by its pods alone.
#[derive(Debug)]
pub struct Site {
    pub name: Arc<str>,
    pub node: Option<Node>,
    /// Its pods.
    pub load: Load,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sites {
    ids: HashMap<Arc<str>, SiteId>,
    places: Slab<Site>,
    /// Those of which nothing may be known any more.
    left: Vec<SiteId>,
    /// How many nodes are known by themselves.
    joined: usize,
}

impl Sites {
    pub fn id(&self, name: &str) -> Option<SiteId> {
        self.ids.get(name).copied()
    }

    /// The number of a node of which something will be known.
    pub fn enter(&mut self, name: &str) -> SiteId {
        if let Some(id) = self.id(name) {
            return id;
        }
        let name: Arc<str> = name.into();
        let site = Site {
            name: Arc::clone(&name),
            node: None,
            load: Load::default(),
        };
        let id = SiteId(self.places.insert(site));
        self.ids.insert(name, id);
        id
    }

    /// The one shared copy of a name.
    pub fn name(&self, name: &str) -> Arc<str> {
        let known = self.id(name).map(|id| Arc::clone(&self[id].name));
        known.unwrap_or_else(|| name.into())
    }

    /// A node that is known by itself.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self[self.id(name)?].node.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let id = self.id(name)?;
        self[id].node.as_mut()
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// How many names have a number.
    #[cfg(test)]
    pub fn named(&self) -> usize {
        self.ids.len()
    }

    /// How many nodes are known by themselves.
    pub fn len(&self) -> usize {
        self.joined
    }

    /// They themselves, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Node> {
        let sites = self.places.iter();
        sites.filter_map(|(_, site)| site.node.as_ref())
    }

    /// Their numbers, in no order.
    pub fn joined(&self) -> impl Iterator<Item = SiteId> {
        let joined = self.places.iter().filter(|(_, site)| site.node.is_some());
        joined.map(|(id, _)| SiteId(id))
    }

    /// A node is known by itself from now on, and was not before.
    pub fn join(&mut self, id: SiteId, node: Node) {
        self[id].node = Some(node);
        self.joined += 1;
    }

    /// A node is gone; its pods may still be told of.
    pub fn leave(&mut self, id: SiteId) -> Option<Node> {
        let node = self[id].node.take()?;
        self.joined -= 1;
        self.note_left(id);
        Some(node)
    }

    /// Something of a node is gone, and that may have been all.
    pub fn note_left(&mut self, id: SiteId) {
        self.left.push(id);
    }

    /// Forgets those of which nothing is known any more: their numbers will be others'.
    pub fn forget_idle(&mut self) {
        for id in std::mem::take(&mut self.left) {
            let idle = |site: &Site| site.node.is_none() && site.load.is_empty();
            if self.places.get(id.0).is_some_and(idle) {
                self.ids.remove(&self.places.remove(id.0).name);
            }
        }
    }
}

impl Index<SiteId> for Sites {
    type Output = Site;

    fn index(&self, id: SiteId) -> &Site {
        &self.places[id.0]
    }
}

impl IndexMut<SiteId> for Sites {
    fn index_mut(&mut self, id: SiteId) -> &mut Site {
        &mut self.places[id.0]
    }
}
