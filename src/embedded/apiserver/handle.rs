//! The server from inside the process: what the player writes, and the faults tests inject.

use std::sync::Arc;

use serde_json::{Value, json};

use super::decode::Decoded;
use super::delete::DeleteOptions;
use super::http::merge;
use super::object_ref::ObjectRef;
use super::read::ListQuery;
use super::shared::Shared;
use super::status::ApiError;
use super::target::Target;
use super::write::{FieldValidation, WriteOptions};
use crate::domain::time::Timestamp;

/// A way into a running server that needs no socket.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Stores `object` whole: status, owners, uid and times as given. What is put belongs to the
    /// player: the collector does not touch it. Returns the object with its new version.
    pub fn put(&self, object: Value) -> Result<Value, ApiError> {
        self.shared
            .change(|machine, now| machine.store_whole(object, now))
    }

    /// Removes an object at once and collects what was created in its ownership by others.
    pub fn remove(&self, object: &ObjectRef) -> Result<(), ApiError> {
        self.shared.change(|machine, now| {
            let target = object.target(machine)?;
            machine.remove_whole(&target, now)
        })
    }

    /// Creates an object as a POST would.
    pub fn create(&self, manager: &str, object: Value) -> Result<Value, ApiError> {
        self.shared.change(|machine, now| {
            let target = Target {
                name: String::new(),
                ..ObjectRef::of(&object).target(machine)?
            };
            let written = machine.create(&target, Decoded::of(object), &options(manager, now))?;
            Ok(written.object)
        })
    }

    /// Applies an object as a server-side apply would.
    pub fn apply_object(
        &self,
        manager: &str,
        object: Value,
        force: bool,
    ) -> Result<Value, ApiError> {
        self.shared.change(|machine, now| {
            let target = ObjectRef::of(&object).target(machine)?;
            let options = WriteOptions {
                force,
                ..options(manager, now)
            };
            Ok(machine
                .apply(&target, Decoded::of(object), &options)?
                .object)
        })
    }

    /// Merges `patch` into an object, or into its status through the status endpoint when the
    /// patch has no other member.
    pub fn patch(
        &self,
        manager: &str,
        object: &ObjectRef,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        self.shared.change(|machine, now| {
            let mut target = object.target(machine)?;
            let only_status = patch
                .as_object()
                .is_some_and(|map| map.keys().eq(["status"]));
            if only_status && target.resource.has_status {
                "status".clone_into(&mut target.subresource);
            }
            let options = options(manager, now);
            Ok(machine
                .patch(&target, |object| merge(object, patch), &options)?
                .object)
        })
    }

    /// Deletes an object as a DELETE would.
    pub fn delete(&self, object: &ObjectRef) -> Result<Value, ApiError> {
        self.shared.change(|machine, now| {
            let target = object.target(machine)?;
            machine.delete(&target, &DeleteOptions::default(), now)
        })
    }

    /// One object.
    pub fn get(&self, object: &ObjectRef) -> Result<Value, ApiError> {
        self.shared
            .with(|machine, _| machine.get(&object.target(machine)?))
    }

    /// All objects of a kind, in every namespace, each with kind and apiVersion.
    pub fn list(&self, api_version: &str, kind: &str) -> Result<Vec<Value>, ApiError> {
        self.shared.with(|machine, _| {
            let target = machine.target(api_version, kind, "", "")?;
            let mut list = machine.list(&target, &ListQuery::default())?;
            let items = list["items"]
                .as_array_mut()
                .map(std::mem::take)
                .unwrap_or_default();
            let typed = items.into_iter().map(|mut item| {
                item["apiVersion"] = json!(api_version);
                item["kind"] = json!(kind);
                item
            });
            Ok(typed.collect())
        })
    }

    /// The version of the last write.
    pub fn resource_version(&self) -> u64 {
        *self.shared.changed.borrow()
    }

    /// Fault: requests are taken and not answered, watches fall silent, until `resume`.
    pub fn pause(&self) {
        self.shared.paused.send_replace(true);
    }

    /// Ends `pause`: what waited is answered.
    pub fn resume(&self) {
        self.shared.paused.send_replace(false);
    }

    /// Fault: every change is forgotten, so that every watch gets 410 and has to list again.
    pub fn expire_watches(&self) {
        let forgotten = self.shared.change(|machine, _| {
            machine.forget();
            Ok(())
        });
        drop(forgotten);
    }
}

fn options(manager: &str, now: Timestamp) -> WriteOptions {
    WriteOptions {
        manager: manager.to_owned(),
        dry_run: false,
        validation: FieldValidation::Strict,
        force: false,
        now,
    }
}
