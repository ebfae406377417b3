//! Deletion: preconditions, finalizers, and what the deleter hears of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::machine::{Due, Machine, seconds, served};
use super::metadata;
use super::read::ListQuery;
use super::resource::NAMESPACES;
use super::selector::Selector;
use super::status::{ApiError, Cause};
use super::target::Target;
use crate::domain::time::Timestamp;

/// The body and query of a DELETE.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must have this version.
    pub version: Option<String>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<String>,
    /// Answer as if, delete nothing.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads the JSON body; an empty one has no options.
    pub fn from_body(body: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            propagation: text(&body["propagationPolicy"]),
            dry_run: body["dryRun"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
        }
    }
}

/// The namespace controller takes about a second to empty a namespace.
const NAMESPACE_DELAY: Duration = Duration::from_secs(1);

impl Machine {
    /// DELETE of one object: a Status, or the object when it stays for a while or is a Pod.
    pub fn delete(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let resource = &target.resource;
        let found = self.store.get(&resource.collection, &target.key());
        let live = (*found.ok_or_else(|| target.not_found())?.object).clone();
        check_preconditions(target, &live, options)?;
        let terminating = live["metadata"].get("deletionTimestamp").is_some();
        let foreground = options.propagation.as_deref() == Some("Foreground");
        let lingers = foreground
            || resource.is_crd()
            || resource.collection == NAMESPACES
            || !metadata::finalizers(&live).is_empty();
        if options.propagation.as_deref() == Some("Orphan") && !options.dry_run {
            self.orphan_dependents(&live)?;
        }
        if !lingers {
            if !options.dry_run {
                self.erase(&resource.collection, &target.key(), now);
            }
            return Ok(deleted(target, &live));
        }
        if terminating || options.dry_run {
            return Ok(served(resource, &live));
        }
        let marked = self.mark(target, live, foreground, now)?;
        if resource.is_crd() {
            self.drop_definition(&target.key(), &marked, now);
        } else if resource.collection == NAMESPACES {
            self.later(now + NAMESPACE_DELAY, Due::Namespace(target.name.clone()));
        } else if metadata::finalizers(&marked) == ["foregroundDeletion"] {
            self.erase(&resource.collection, &target.key(), now);
        }
        Ok(served(resource, &marked))
    }

    /// DELETE of a collection: the list of what was there.
    pub fn delete_all(
        &mut self,
        target: &Target,
        selector: Selector,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let list = self.list(
            target,
            &ListQuery {
                selector,
                ..ListQuery::default()
            },
        )?;
        for item in list["items"].as_array().into_iter().flatten() {
            let one = Target {
                namespace: metadata::text(item, "namespace")
                    .unwrap_or_default()
                    .to_owned(),
                name: metadata::text(item, "name").unwrap_or_default().to_owned(),
                ..target.clone()
            };
            self.delete(&one, &DeleteOptions::default(), now)?;
        }
        Ok(list)
    }

    /// Stores the object as terminating.
    fn mark(
        &mut self,
        target: &Target,
        mut object: Value,
        foreground: bool,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let resource = &target.resource;
        object["metadata"]["deletionTimestamp"] = json!(seconds(now));
        if resource.is_crd() {
            object["metadata"]["finalizers"] =
                json!(["customresourcecleanup.apiextensions.k8s.io"]);
        } else if resource.collection == NAMESPACES {
            object["status"]["phase"] = json!("Terminating");
        } else {
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if let Some(generation) = object["metadata"]["generation"].as_i64() {
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        if foreground {
            let mut finalizers: Vec<String> = metadata::finalizers(&object)
                .into_iter()
                .map(str::to_owned)
                .collect();
            finalizers.push("foregroundDeletion".to_owned());
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        let marked = self
            .store
            .put(&resource.collection, target.key(), object, false)?;
        Ok((*marked).clone())
    }
}

/// The object has to be the one, and in the state, that the deleter believes.
fn check_preconditions(
    target: &Target,
    live: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    let conflict = |why: String| {
        // Upstream names the kind here, not the resource.
        Err(ApiError::conflict(
            &resource.group,
            &resource.kind,
            &target.name,
            &why,
        ))
    };
    let uid = metadata::text(live, "uid").unwrap_or_default();
    if let Some(wanted) = options.uid.as_deref().filter(|&wanted| wanted != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        ));
    }
    let version = metadata::text(live, "resourceVersion").unwrap_or_default();
    if let Some(wanted) = options
        .version
        .as_deref()
        .filter(|&wanted| wanted != version)
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the \
             ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// The answer to a DELETE that took effect at once.
fn deleted(target: &Target, live: &Value) -> Value {
    let resource = &target.resource;
    if resource.kind == "Pod" && !resource.custom {
        return served(resource, live);
    }
    let mut details = json!({
        "name": target.name, "kind": resource.plural, "uid": live["metadata"]["uid"],
    });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}

/// 422 for a propagation policy that is none.
pub fn check_propagation(policy: Option<&str>) -> Result<(), ApiError> {
    match policy {
        None | Some("Background" | "Foreground" | "Orphan") => Ok(()),
        Some(other) => {
            let known = [json!("Background"), json!("Foreground"), json!("Orphan")];
            let cause = Cause::not_supported("propagationPolicy", &json!(other), &known);
            Err(ApiError::invalid_option("DeleteOptions", cause))
        }
    }
}
