//! Versioned objects with a bounded memory of their changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::owners::{Owners, Place};
use super::status::ApiError;

/// Namespace (empty when cluster-scoped) and name.
pub type Key = (String, String);

/// One stored object.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The object in its storage form, resourceVersion included.
    pub object: Arc<Value>,
    /// Written whole by a player of recordings: only a player takes it away again, because the
    /// recording already holds what the garbage collector did.
    pub played: bool,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// Version that the change made.
    pub version: u64,
    /// The object.
    pub key: Key,
    /// Its state before; none when it was created.
    pub before: Option<Arc<Value>>,
    /// Its state after; none when it was deleted.
    pub after: Option<Arc<Value>>,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<Key, Stored>,
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    forgotten: u64,
}

/// All collections, one resourceVersion for all of them.
#[derive(Debug)]
pub struct Store {
    collections: BTreeMap<String, Collection>,
    owners: Owners,
    version: u64,
    /// Forgotten in collections that are created from now on.
    floor: u64,
    history_max: usize,
    objects_max: usize,
    objects: usize,
}

impl Collection {
    fn remember(&mut self, change: Change, keep: usize) {
        while self.history.len() >= keep.max(1) {
            if let Some(oldest) = self.history.pop_front() {
                self.forgotten = oldest.version;
            }
        }
        self.history.push_back(change);
    }

    /// Found by halves: every write wakes every watch, and each of them asks.
    fn after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let seen = self.history.partition_point(|c| c.version <= version);
        self.history.range(seen..)
    }
}

impl Store {
    /// An empty store whose first write gets a version above `version`. Keeps `history_max`
    /// changes per collection, and `objects_max` objects in all.
    pub fn new(version: u64, history_max: usize, objects_max: usize) -> Self {
        let collections = BTreeMap::new();
        Self {
            collections,
            owners: Owners::default(),
            version,
            floor: version,
            history_max,
            objects_max,
            objects: 0,
        }
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One object.
    pub fn get(&self, collection: &str, key: &Key) -> Option<&Stored> {
        self.collections.get(collection)?.objects.get(key)
    }

    /// Objects of a collection in key order, of one namespace or of all.
    pub fn list<'s>(
        &'s self,
        collection: &str,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = (&'s Key, &'s Stored)> + 's {
        self.collections
            .get(collection)
            .into_iter()
            .flat_map(|collection| &collection.objects)
            .filter(move |(key, _)| namespace.is_none_or(|wanted| key.0 == wanted))
    }

    /// Objects that name `uid` as an owner, played ones left out.
    pub fn dependents(&self, uid: &str) -> Vec<Place> {
        self.owners.dependents(uid)
    }

    /// Whether some object has this uid.
    pub fn exists(&self, uid: &str) -> bool {
        self.owners.exists(uid)
    }

    /// The collections that hold objects or remember changes.
    pub fn collections(&self) -> impl Iterator<Item = &String> {
        self.collections.keys()
    }

    /// Stores `object`, with a new resourceVersion set in it.
    pub fn put(
        &mut self,
        collection: &str,
        key: Key,
        mut object: Value,
        played: bool,
    ) -> Result<Arc<Value>, ApiError> {
        let found = self
            .get(collection, &key)
            .map(|stored| Arc::clone(&stored.object));
        if found.is_none() {
            if self.objects >= self.objects_max {
                return Err(ApiError::internal(
                    "etcdserver: mvcc: database space exceeded",
                ));
            }
            self.objects += 1;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let place = (collection.to_owned(), key.clone());
        if let Some(before) = &found {
            self.owners.remove(&place, before);
        }
        self.owners.add(&place, &object, played);
        let change = Change {
            version: self.version,
            key: key.clone(),
            before: found,
            after: Some(Arc::clone(&object)),
        };
        let keep = self.history_max;
        let collection = self.collection(collection);
        collection.objects.insert(
            key,
            Stored {
                object: Arc::clone(&object),
                played,
            },
        );
        collection.remember(change, keep);
        Ok(object)
    }

    /// Removes an object; the returned state carries the version of the deletion.
    pub fn remove(&mut self, collection: &str, key: &Key) -> Option<Arc<Value>> {
        let found = self.collections.get_mut(collection)?.objects.remove(key)?;
        self.owners
            .remove(&(collection.to_owned(), key.clone()), &found.object);
        self.objects -= 1;
        self.version += 1;
        let mut last = (*found.object).clone();
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change = Change {
            version: self.version,
            key: key.clone(),
            before: Some(found.object),
            after: None,
        };
        let keep = self.history_max;
        self.collection(collection).remember(change, keep);
        Some(Arc::new(last))
    }

    fn collection(&mut self, name: &str) -> &mut Collection {
        let floor = self.floor;
        self.collections
            .entry(name.to_owned())
            .or_insert_with(|| Collection {
                forgotten: floor,
                ..Collection::default()
            })
    }

    /// The changes of `collection` after `version`, oldest first.
    ///
    /// Fails with 410 when some of them are forgotten.
    pub fn changes_after(
        &self,
        collection: &str,
        version: u64,
    ) -> Result<impl Iterator<Item = &Change>, ApiError> {
        let collection = self.collections.get(collection);
        let forgotten = collection.map_or(self.floor, |c| c.forgotten);
        if version < forgotten {
            let message = format!("too old resource version: {version} ({forgotten})");
            return Err(ApiError::expired(message));
        }
        let history = collection.map(|c| c.after(version)).into_iter().flatten();
        Ok(history)
    }

    /// The objects of a collection as they were at `version`; none when that is forgotten.
    pub fn list_at(&self, collection: &str, version: u64) -> Option<BTreeMap<Key, Arc<Value>>> {
        let changes: Vec<&Change> = self.changes_after(collection, version).ok()?.collect();
        let current = self.list(collection, None);
        let mut objects: BTreeMap<Key, Arc<Value>> = current
            .map(|(key, stored)| (key.clone(), Arc::clone(&stored.object)))
            .collect();
        for change in changes.into_iter().rev() {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Some(objects)
    }

    /// Forgets every change: whoever holds an older version has to list again.
    pub fn forget(&mut self) {
        self.version += 1;
        self.floor = self.version;
        for collection in self.collections.values_mut() {
            collection.history.clear();
            collection.forgotten = self.version;
        }
    }
}
