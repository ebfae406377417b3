//! What is told of the images on nodes: by kubelets, one at a time, and by agents, all at once.

use std::time::Duration;

use crate::domain::image::ImageRef;
use crate::domain::inventory::NodeInventory;
use crate::domain::time::Timestamp;

use super::nodes::Node;
use super::sites::SiteId;
use super::{Applied, Cluster, KNOWN};

/// How far a node's clock may be behind the API server's before it is told the time. What was listed so long
/// before a node was made is another machine's, of the same name.
const CLOCKS_APART: Duration = Duration::from_mins(1);

impl Cluster {
    pub(super) fn image_present(&mut self, node: &str, image: &ImageRef, at: Timestamp) -> Applied {
        let Some((id, there)) = self.known_node(node) else {
            return Applied::Ignored("pull on an unknown node");
        };
        if !there.present.seen(image, at) {
            return KNOWN;
        }
        self.marks.nodes.insert(id);
        Applied::Changed
    }

    pub(super) fn node_inventory(&mut self, fact: &NodeInventory, observed: Timestamp) -> Applied {
        let Some((id, there)) = self.known_node(&fact.node) else {
            return Applied::Ignored("inventory of an unknown node");
        };
        if fact.listed + CLOCKS_APART < there.joined {
            return Applied::Ignored("inventory of an earlier node of this name");
        }
        // A clock that was ahead and is set right must not make every later list an old one.
        if !there.present.listed(fact, fact.listed.min(observed)) {
            return KNOWN;
        }
        self.marks.nodes.insert(id);
        Applied::Changed
    }

    fn known_node(&mut self, name: &str) -> Option<(SiteId, &mut Node)> {
        let id = self.nodes.id(name)?;
        Some((id, self.nodes[id].node.as_mut()?))
    }
}
