//! What a request is about: a collection, an object or a part of one.

use std::sync::Arc;

use serde_json::Value;

use super::metadata;
use super::resource::Resource;
use super::status::ApiError;
use super::store::Key;

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Namespace; empty for all namespaces or cluster-scoped objects.
    pub namespace: String,
    /// Name; empty for a collection.
    pub name: String,
    /// Subresource; empty for the object itself.
    pub subresource: String,
}

impl Target {
    /// Key of the object in its collection.
    pub fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    /// Whether the request goes through the status endpoint.
    pub fn is_status(&self) -> bool {
        self.subresource == "status"
    }

    /// Whether the resource has the subresource.
    pub fn is_served(&self) -> bool {
        self.subresource.is_empty() || (self.is_status() && self.resource.has_status)
    }

    /// 404 for the object.
    pub fn not_found(&self) -> ApiError {
        self.resource.not_found(&self.name)
    }

    /// Key of `object` as a member of this target's collection.
    pub(super) fn key_of(&self, object: &Value) -> Key {
        let text = |member| {
            metadata::text(object, member)
                .unwrap_or_default()
                .to_owned()
        };
        let namespace = if self.resource.namespaced {
            text("namespace")
        } else {
            String::new()
        };
        (namespace, text("name"))
    }
}
