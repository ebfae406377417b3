//! Whole objects from a recording: stored as they are, status, owners and uid included.

use serde_json::{Value, json};

use super::crd;
use super::machine::{Machine, seconds, stored};
use super::metadata;
use super::status::ApiError;
use super::target::Target;
use crate::domain::time::Timestamp;

impl Machine {
    /// The target of an object by its own kind and name.
    pub fn target(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Target, ApiError> {
        let resource = self.registry.by_kind(api_version, kind).ok_or_else(|| {
            let message = format!("no matches for kind \"{kind}\" in version \"{api_version}\"");
            ApiError::new(404, "NotFound", message)
        })?;
        let namespace = if resource.namespaced { namespace } else { "" };
        Ok(Target {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        })
    }

    /// Stores `object` whole, whatever was there: only resourceVersion is the server's, and uid,
    /// creationTimestamp and namespace where the object has none.
    pub fn store_whole(&mut self, mut object: Value, now: Timestamp) -> Result<Value, ApiError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        if !object["metadata"].is_object() {
            return Err(ApiError::bad_request("metadata is not an object"));
        }
        let namespace = metadata::text(&object, "namespace")
            .unwrap_or("default")
            .to_owned();
        let name = metadata::text(&object, "name")
            .unwrap_or_default()
            .to_owned();
        let target = self.target(&api_version, &kind, &namespace, &name)?;
        if name.is_empty() {
            return Err(ApiError::bad_request("a whole object needs a name"));
        }
        if target.resource.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let live = self.store.get(&target.resource.collection, &target.key());
        let live_uid = live.and_then(|live| metadata::text(&live.object, "uid").map(str::to_owned));
        if metadata::text(&object, "uid").is_none() {
            object["metadata"]["uid"] = json!(live_uid.unwrap_or_else(|| self.new_uid()));
        }
        if metadata::text(&object, "creationTimestamp").is_none() {
            object["metadata"]["creationTimestamp"] = json!(seconds(now));
        }
        if target.resource.is_crd() {
            crd::default(&mut object);
            crd::resources(&object, &self.registry).map_err(|causes| {
                ApiError::invalid(&target.resource.group, &kind, &name, &causes)
            })?;
            object["status"] = crd::initial_status(&object);
        }
        if target.resource.kind == "Namespace" && object.get("status").is_none() {
            super::kinds::default(&target.resource, &mut object);
        }
        let put = stored(&target.resource, object);
        let put = self
            .store
            .put(&target.resource.collection, target.key(), put, true)?;
        self.after_write(&target, &put, now)?;
        Ok((*put).clone())
    }

    /// Removes an object at once, finalizers or not, and collects what it owned.
    pub fn remove_whole(&mut self, target: &Target, now: Timestamp) -> Result<(), ApiError> {
        if self
            .store
            .get(&target.resource.collection, &target.key())
            .is_none()
        {
            return Err(target.not_found());
        }
        self.erase(&target.resource.collection, &target.key(), now);
        Ok(())
    }
}
