//! References to objects by kind and name.

use serde_json::Value;

use super::machine::Machine;
use super::status::ApiError;
use super::target::Target;

/// Which object is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// `group/version`, or only the version in the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty when cluster-scoped.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// A reference from its parts.
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        let text = str::to_owned;
        Self {
            api_version: text(api_version),
            kind: text(kind),
            namespace: text(namespace),
            name: text(name),
        }
    }

    /// The reference to `object` itself.
    pub fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            api_version: text(&object["apiVersion"]),
            kind: text(&object["kind"]),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
        }
    }

    /// What a request for the object is about.
    pub(super) fn target(&self, machine: &Machine) -> Result<Target, ApiError> {
        machine.target(&self.api_version, &self.kind, &self.namespace, &self.name)
    }
}
