//! What goes or comes because something else did: dependents, namespaces, definitions.

use serde_json::{Value, json};

use super::crd;
use super::delete::DeleteOptions;
use super::machine::{Due, Machine, seconds};
use super::managed::{self, Writer};
use super::metadata;
use super::resource::{CRDS, NAMESPACES};
use super::status::ApiError;
use super::store::Key;
use super::target::Target;
use crate::domain::time::Timestamp;

impl Machine {
    /// Removes an object and collects what only it owned.
    pub(super) fn erase(&mut self, collection: &str, key: &Key, now: Timestamp) {
        let mut gone = vec![(collection.to_owned(), key.clone())];
        while let Some((collection, key)) = gone.pop() {
            let Some(last) = self.store.remove(&collection, &key) else {
                continue;
            };
            let Some(uid) = metadata::text(&last, "uid") else {
                continue;
            };
            for (collection, key) in self.store.dependents(uid) {
                let Some(stored) = self.store.get(&collection, &key) else {
                    continue;
                };
                let owners = metadata::owners(&stored.object);
                if owners
                    .iter()
                    .any(|owner| *owner != uid && self.store.exists(owner))
                {
                    continue;
                }
                if metadata::finalizers(&stored.object).is_empty() {
                    gone.push((collection, key));
                } else if let Some(target) = self.target_of(&collection, &key) {
                    // A finalizer's owner decides when; a refusal leaves the object as it is.
                    drop(self.delete(&target, &DeleteOptions::default(), now));
                }
            }
        }
    }

    /// Takes the owner out of its dependents.
    pub(super) fn orphan_dependents(&mut self, owner: &Value) -> Result<(), ApiError> {
        let uid = metadata::text(owner, "uid").unwrap_or_default();
        for (collection, key) in self.store.dependents(uid) {
            let Some(stored) = self.store.get(&collection, &key) else {
                continue;
            };
            let mut object = (*stored.object).clone();
            if let Some(list) = object["metadata"]["ownerReferences"].as_array_mut() {
                list.retain(|reference| reference["uid"] != json!(uid));
            }
            self.store.put(&collection, key, object, false)?;
        }
        Ok(())
    }

    fn target_of(&self, collection: &str, key: &Key) -> Option<Target> {
        Some(Target {
            resource: self.registry.of_collection(collection)?.clone(),
            namespace: key.0.clone(),
            name: key.1.clone(),
            subresource: String::new(),
        })
    }

    /// Removes a CRD, its objects and its endpoints.
    pub(super) fn drop_definition(&mut self, key: &Key, definition: &Value, now: Timestamp) {
        let collection = crd::collection(definition);
        let keys: Vec<Key> = self
            .store
            .list(&collection, None)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.erase(&collection, &key, now);
        }
        self.registry.remove(&collection);
        self.erase(CRDS, key, now);
    }

    /// What a write to some kinds makes the control plane do.
    pub(super) fn after_write(
        &mut self,
        target: &Target,
        object: &Value,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        if !target.resource.is_crd() {
            return Ok(());
        }
        let resources = crd::resources(object, &self.registry);
        self.registry.remove(&crd::collection(object));
        for resource in resources.unwrap_or_default() {
            self.registry.add(resource.into());
        }
        if object["status"]["conditions"].is_array() {
            return Ok(());
        }
        let mut established = object.clone();
        established["status"] = crd::established_status(object, &seconds(now));
        let writer = Writer {
            manager: "kube-apiserver".to_owned(),
            operation: "Update",
            api_version: target.resource.api_version(),
            subresource: "status".to_owned(),
            time: seconds(now),
        };
        managed::track_update(object, &mut established, &target.resource.schema, &writer);
        self.store
            .put(CRDS, target.key_of(object), established, false)?;
        Ok(())
    }

    /// Does the work that became due: dangling owners, emptied namespaces.
    pub fn collect(&mut self, now: Timestamp) {
        while self.due.front().is_some_and(|(at, _)| *at <= now) {
            match self.due.pop_front().map(|(_, due)| due) {
                Some(Due::Orphan {
                    collection,
                    key,
                    uid,
                }) => {
                    self.collect_orphan(&collection, &key, &uid, now);
                }
                Some(Due::Namespace(name)) => self.finish_namespace(&name, now),
                None => return,
            }
        }
    }

    fn collect_orphan(&mut self, collection: &str, key: &Key, uid: &str, now: Timestamp) {
        let Some(stored) = self.store.get(collection, key) else {
            return;
        };
        let object = &stored.object;
        let owners = metadata::owners(object);
        let is_it = metadata::text(object, "uid") == Some(uid);
        if is_it && !owners.is_empty() && !owners.iter().any(|owner| self.store.exists(owner)) {
            self.erase(collection, key, now);
        }
    }

    fn finish_namespace(&mut self, name: &str, now: Timestamp) {
        let inside: Vec<(String, Key)> = self
            .store
            .collections()
            .flat_map(|collection| {
                let objects = self.store.list(collection, Some(name));
                objects
                    .map(|(key, _)| (collection.clone(), key.clone()))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (collection, key) in inside {
            self.erase(&collection, &key, now);
        }
        self.erase(NAMESPACES, &(String::new(), name.to_owned()), now);
    }
}
