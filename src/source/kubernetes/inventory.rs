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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::signal::Signal;
    use crate::domain::time::Timestamp;
    use crate::source::kubernetes::Settings;
    use crate::source::kubernetes::objects::{Kind, Object};

    fn see(translator: &mut Translator, kind: Kind, change: Change, json: &Value) -> Vec<Signal> {
        let object = Object::from_json(kind, &json.to_string()).unwrap();
        translator.observe(change, &object, Timestamp::from_secs_f64(2e9))
    }

    fn node() -> Value {
        json!({"metadata": {"name": "n", "uid": "u"}})
    }

    fn object(listed: &str, omitted: u32, name: &str) -> Value {
        let digest = format!("sha256:{}", "ab".repeat(32));
        json!({
            "metadata": {"name": "n", "uid": "p", "resourceVersion": listed},
            "spec": {"node": "n", "epoch": 7, "entries": [{"what": "ever"}]},
            "status": {"phase": "Ready", "inventory": {
                "listed": format!("2026-11-27T04:00:{listed}Z"),
                "images": {digest: {"names": [name], "planned": ["r.io/ours:1"], "bytes": 7}},
                "omitted": omitted, "omittedBytes": 9, "omittedNames": 0, "tomorrow": 1,
            }},
        })
    }

    fn told(signals: &[Signal]) -> &NodeInventory {
        let [signal] = signals else {
            panic!("one signal: {signals:?}");
        };
        let Fact::NodeInventory(inventory) = &signal.fact else {
            panic!("{signal:?}");
        };
        assert_eq!(signal.time, inventory.listed);
        inventory
    }

    #[test]
    fn a_list_is_told_once_and_that_of_an_unknown_node_when_it_is_known() {
        let mut translator = Translator::new(Settings::default());
        let mut agent =
            |change, json: &Value| see(&mut translator, Kind::NodePrefetch, change, json);
        let first = object("10", 0, "r.io/web:1");
        assert_eq!(agent(Change::Applied, &first), []);
        see(&mut translator, Kind::Node, Change::Applied, &node());
        let mut agent =
            |change, json: &Value| see(&mut translator, Kind::NodePrefetch, change, json);
        let signals = agent(Change::Applied, &first);
        let inventory = told(&signals);
        assert!(inventory.complete && inventory.node == "n");
        let image = &inventory.images[0];
        assert_eq!(image.names, ["r.io/web:1".parse().unwrap()]);
        assert_eq!(image.planned, ["r.io/ours:1".parse().unwrap()]);
        // Its plan changed, or how far it is.
        assert_eq!(agent(Change::Applied, &first), []);
        assert!(!told(&agent(Change::Applied, &object("11", 3, "r.io/web:1"))).complete);
        // Deleted and made again, or the node was.
        assert_eq!(agent(Change::Deleted, &object("11", 3, "r.io/web:1")), []);
        told(&agent(Change::Applied, &object("11", 3, "r.io/web:1")));
        let without = json!({"metadata": {"name": "n"}, "status": null});
        assert_eq!(agent(Change::Applied, &without), []);
    }

    #[test]
    fn a_name_that_cannot_be_read_makes_the_list_one_of_a_part() {
        let mut translator = Translator::new(Settings::default());
        see(&mut translator, Kind::Node, Change::Applied, &node());
        let json = object("10", 0, "No Name");
        let signals = see(&mut translator, Kind::NodePrefetch, Change::Applied, &json);
        let inventory = told(&signals);
        assert!(!inventory.complete && inventory.images[0].names.is_empty());
    }
}
