//! The API server without its sockets: requests and the time in, objects and refusals out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Options;
use super::events;
use super::resource::{EVENTS, NAMESPACES, Registry, Resource};
use super::status::ApiError;
use super::store::{Key, Store};
use super::target::Target;
use crate::domain::time::Timestamp;

/// Version before the first write, so that small versions are recognisably old.
const FIRST_VERSION: u64 = 100;

/// Collector tasks kept at most; the oldest is dropped, which only leaves garbage.
const DUE_MAX: usize = 100_000;

/// Work that real controllers do some time after a write.
#[derive(Debug, Clone)]
pub(super) enum Due {
    /// Collect an object if none of its owners exists.
    Orphan {
        collection: String,
        key: Key,
        uid: String,
    },
    /// Remove a terminating namespace.
    Namespace(String),
}

/// Store, resources and the little randomness that names and uids need.
#[derive(Debug)]
pub struct Machine {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) due: VecDeque<(Timestamp, Due)>,
    random: ChaCha8Rng,
}

impl Machine {
    /// A server with the built-in resources and the namespaces every cluster has.
    pub fn new(options: &Options, now: Timestamp) -> Self {
        let mut machine = Self {
            store: Store::new(FIRST_VERSION, options.history_max, options.objects_max),
            registry: Registry::new(),
            due: VecDeque::new(),
            random: ChaCha8Rng::seed_from_u64(options.seed),
        };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            machine
                .store_whole(namespace, now)
                .expect("four namespaces fit into any store");
        }
        machine
    }

    /// The resources served.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The version of the last write.
    pub fn version(&self) -> u64 {
        self.store.version()
    }

    /// Forgets the changes so far: watches and old lists expire.
    pub fn forget(&mut self) {
        self.store.forget();
    }

    /// A random UUID of version 4.
    pub(super) fn new_uid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.random.random();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    /// The five characters behind a generateName; upstream leaves out vowels and look-alikes.
    pub(super) fn new_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5)
            .map(|_| char::from(LETTERS[self.random.random_range(0..LETTERS.len())]))
            .collect()
    }

    /// Notes work for `collect`.
    pub(super) fn later(&mut self, at: Timestamp, due: Due) {
        if self.due.len() >= DUE_MAX {
            self.due.pop_front();
        }
        self.due.push_back((at, due));
    }

    /// The namespace's state: none when it does not exist, else whether it is terminating.
    pub(super) fn namespace_terminating(&self, name: &str) -> Option<bool> {
        let stored = self
            .store
            .get(NAMESPACES, &(String::new(), name.to_owned()))?;
        Some(stored.object["metadata"].get("deletionTimestamp").is_some())
    }

    /// One object in the form of the resource.
    pub fn get(&self, target: &Target) -> Result<Value, ApiError> {
        if !target.is_served() {
            return Err(target.not_found());
        }
        self.live(target).ok_or_else(|| target.not_found())
    }

    /// The objects of a collection at `version`, or now.
    pub(super) fn objects(
        &self,
        resource: &Resource,
        version: Option<u64>,
    ) -> Option<BTreeMap<Key, Arc<Value>>> {
        if let Some(version) = version.filter(|&version| version != self.store.version()) {
            return self.store.list_at(&resource.collection, version);
        }
        let all = self.store.list(&resource.collection, None);
        Some(
            all.map(|(key, stored)| (key.clone(), Arc::clone(&stored.object)))
                .collect(),
        )
    }
}

/// A stored object in the version of `resource`.
pub fn served(resource: &Resource, stored: &Value) -> Value {
    let wanted = resource.api_version();
    if wanted == resource.stored_version {
        return stored.clone();
    }
    if resource.collection == EVENTS {
        return events::from_core(stored);
    }
    let mut object = stored.clone();
    object["apiVersion"] = json!(wanted);
    object
}

/// An object of `resource` in the version it is stored in.
pub fn stored(resource: &Resource, mut object: Value) -> Value {
    if resource.api_version() == resource.stored_version {
        return object;
    }
    if resource.collection == EVENTS {
        return events::to_core(&object);
    }
    object["apiVersion"] = json!(resource.stored_version);
    object
}

/// A time as metadata print it: whole seconds.
pub fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{}Z", &text[..19])
}
