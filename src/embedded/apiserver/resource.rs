//! The resources the server knows, found by path or by kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::builtin;
use super::schema::Schema;
use super::status::{ApiError, qualified};

/// One resource of one group version.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Name in paths.
    pub plural: String,
    /// Name of one object, lower case.
    pub singular: String,
    /// Kind of the objects.
    pub kind: String,
    /// Kind of the list.
    pub list_kind: String,
    /// Abbreviations for people.
    pub short_names: Vec<String>,
    /// Groups of resources for people.
    pub categories: Vec<String>,
    /// Objects live in a namespace.
    pub namespaced: bool,
    /// Status is written through its own endpoint.
    pub has_status: bool,
    /// Writes to anything but metadata and status raise `metadata.generation`.
    pub has_generation: bool,
    /// Defined by a CRD.
    pub custom: bool,
    /// A PUT may leave out resourceVersion.
    pub unconditional_update: bool,
    /// A PUT of a missing object creates it.
    pub create_on_update: bool,
    /// Schema of the whole object.
    pub schema: Arc<Schema>,
    /// Fields that a field selector may name, besides name and namespace.
    pub selectable: Vec<String>,
    /// Name of the collection in which the objects are stored.
    pub collection: String,
    /// apiVersion in which the objects are stored.
    pub stored_version: String,
}

impl Resource {
    /// `group/version`, or only the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// 404 for one object of this resource.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.group, &self.plural, name)
    }

    /// Whether this is the resource of CRDs.
    pub fn is_crd(&self) -> bool {
        self.collection == CRDS
    }
}

/// Collection of the CRDs.
pub const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Collection of the namespaces.
pub const NAMESPACES: &str = "namespaces";
/// Collection of Events, shared by two groups.
pub const EVENTS: &str = "events";

/// Every resource served at the moment.
#[derive(Debug)]
pub struct Registry {
    versions: BTreeMap<(String, String), BTreeMap<String, Arc<Resource>>>,
}

impl Registry {
    /// The built-in resources.
    pub fn new() -> Self {
        let mut registry = Self {
            versions: BTreeMap::new(),
        };
        for resource in builtin::resources() {
            registry.add(Arc::clone(resource));
        }
        registry
    }

    /// Serves `resource`, in place of an older form of it.
    pub fn add(&mut self, resource: Arc<Resource>) {
        let version = (resource.group.clone(), resource.version.clone());
        self.versions
            .entry(version)
            .or_default()
            .insert(resource.plural.clone(), resource);
    }

    /// Stops serving the custom resources stored in `collection`.
    pub fn remove(&mut self, collection: &str) {
        for resources in self.versions.values_mut() {
            resources.retain(|_, resource| !resource.custom || resource.collection != collection);
        }
        self.versions.retain(|_, resources| !resources.is_empty());
    }

    /// The resource at a path.
    pub fn by_path(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Result<Arc<Resource>, ApiError> {
        let key = (group.to_owned(), version.to_owned());
        match self
            .versions
            .get(&key)
            .and_then(|resources| resources.get(plural))
        {
            Some(resource) => Ok(Arc::clone(resource)),
            None => Err(ApiError::no_such_path()),
        }
    }

    /// The resource of a kind.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resources = self.versions.get(&(group.to_owned(), version.to_owned()))?;
        resources
            .values()
            .find(|resource| resource.kind == kind)
            .cloned()
    }

    /// The resources of one group version, by plural; empty when there is none.
    pub fn version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Resource>> {
        let key = (group.to_owned(), version.to_owned());
        self.versions
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// Every group with its versions, the core group left out.
    pub fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (group, version) in self.versions.keys().filter(|(group, _)| !group.is_empty()) {
            groups.entry(group).or_default().push(version);
        }
        groups
    }

    /// Some resource that stores into `collection`, to name its objects.
    pub fn of_collection(&self, collection: &str) -> Option<&Arc<Resource>> {
        self.versions
            .values()
            .flat_map(BTreeMap::values)
            .find(|r| r.collection == collection)
    }

    /// Another resource that already claims `plural` or `kind` in the group.
    pub fn name_taken(&self, group: &str, plural: &str, kind: &str) -> bool {
        let own = qualified(plural, group);
        self.versions
            .iter()
            .filter(|((taken, _), _)| taken == group)
            .flat_map(|(_, resources)| resources.values())
            .any(|resource| resource.collection != own && resource.kind == kind)
    }
}
