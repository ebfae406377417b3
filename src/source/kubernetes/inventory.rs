//! NodePrefetch objects: what agents say that their nodes have.

use crate::domain::image::ImageRef;
use crate::domain::inventory::{NodeInventory, StoredImage};
use crate::domain::signal::Fact;
use crate::source::kubernetes::objects::prefetch::{Inventory, NodePrefetch};
use crate::source::kubernetes::{Change, Out, Translator, name_of};

impl Translator {
    /// Says `inventory` when the list is another one; most versions of these objects are the controller's own
    /// plans and how far they are.
    pub(super) fn node_prefetch(
        &mut self,
        change: Change,
        object: &NodePrefetch,
        out: &mut Out<'_>,
    ) {
        let name = name_of(&object.metadata);
        let inventory = object.status.inventory.as_ref();
        // Of a node that is not known yet it is said with the object's next version.
        let (Some(state), Some(inventory)) = (self.nodes.get_mut(name), inventory) else {
            return;
        };
        if change == Change::Deleted {
            state.listed = None;
            return;
        }
        if state.listed.replace(inventory.listed) != Some(inventory.listed) {
            let fact = Fact::NodeInventory(translated(name, inventory));
            out.push("inventory", Some(inventory.listed), fact);
        }
    }
}

fn translated(node: &str, inventory: &Inventory) -> NodeInventory {
    let read = |names: &[String]| -> (Vec<ImageRef>, usize) {
        let read: Vec<ImageRef> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let unread = names.len() - read.len();
        (read, unread)
    };
    let mut unread = 0;
    let images = inventory.images.iter().map(|(digest, image)| {
        let ((names, some), (planned, more)) = (read(&image.names), read(&image.planned));
        unread += some + more;
        StoredImage {
            digest: digest.clone(),
            names,
            planned,
            bytes: image.bytes,
        }
    });
    let images = images.collect();
    let omitted = [inventory.omitted, inventory.omitted_names];
    NodeInventory {
        node: node.to_owned(),
        listed: inventory.listed,
        images,
        complete: omitted == [0, 0] && unread == 0,
    }
}
