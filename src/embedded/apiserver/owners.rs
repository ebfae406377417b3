//! Who owns what, found by uid without a walk over every object.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::metadata;
use super::store::Key;

/// An object: its collection and key.
pub type Place = (String, Key);

/// The uids that exist, and the objects that name them as owners.
#[derive(Debug, Default)]
pub struct Owners {
    uids: HashSet<String>,
    dependents: HashMap<String, BTreeSet<Place>>,
}

impl Owners {
    /// Takes note of a stored object; one that was played is nobody's dependent.
    pub fn add(&mut self, place: &Place, object: &Value, played: bool) {
        if let Some(uid) = metadata::text(object, "uid") {
            self.uids.insert(uid.to_owned());
        }
        for owner in metadata::owners(object).into_iter().filter(|_| !played) {
            let dependents = self.dependents.entry(owner.to_owned()).or_default();
            dependents.insert(place.clone());
        }
    }

    /// Forgets the state of an object that is replaced or removed.
    pub fn remove(&mut self, place: &Place, object: &Value) {
        if let Some(uid) = metadata::text(object, "uid") {
            self.uids.remove(uid);
        }
        for owner in metadata::owners(object) {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(place);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }

    /// Whether an object with this uid exists.
    pub fn exists(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    /// The objects that name `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Place> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}
