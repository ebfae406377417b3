//! The last step of every write: the object completed, checked, owned and stored.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cel;
use super::crd;
use super::kinds;
use super::machine::{Due, Machine, seconds, served, stored};
use super::managed::{self, Writer};
use super::metadata;
use super::prune;
use super::resource::Resource;
use super::status::{ApiError, Cause};
use super::target::Target;
use super::validate;
use super::write::WriteOptions;

/// A write on its way into the store.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    /// Where it goes.
    pub(super) target: &'a Target,
    /// How it is meant.
    pub(super) options: &'a WriteOptions,
    /// `Apply` or `Update`.
    pub(super) operation: &'static str,
}

/// The real collector notices a dangling owner within some seconds.
const ORPHAN_DELAY: Duration = Duration::from_secs(1);

impl Write<'_> {
    /// The field manager that this write makes.
    pub(super) fn writer(&self) -> Writer {
        Writer {
            manager: self.options.manager.clone(),
            operation: self.operation,
            api_version: self.target.resource.api_version(),
            subresource: self.target.subresource.clone(),
            time: seconds(self.options.now),
        }
    }
}

impl Machine {
    /// Completes and stores a new object; `owned` are its managedFields when it was applied.
    pub(super) fn insert(
        &mut self,
        write: Write<'_>,
        mut object: Value,
        owned: Option<Value>,
    ) -> Result<Value, ApiError> {
        let Write {
            target, options, ..
        } = write;
        let resource = &target.resource;
        self.check_namespace(target, &object)?;
        self.complete(resource, &mut object, options);
        check(target, &object, None, self)?;
        let key = target.key_of(&object);
        if self.store.get(&resource.collection, &key).is_some() {
            return Err(ApiError::already_exists(
                &resource.group,
                &resource.plural,
                &key.1,
            ));
        }
        if let Some(owned) = owned {
            object["metadata"]["managedFields"] = owned;
        } else {
            let nothing = kinds::baseline(resource, &object);
            managed::track_update(&nothing, &mut object, &resource.schema, &write.writer());
        }
        if options.dry_run {
            return Ok(object);
        }
        let is_owned = !metadata::owners(&object).is_empty();
        let uid = metadata::text(&object, "uid")
            .unwrap_or_default()
            .to_owned();
        let put = stored(resource, object);
        let put = self
            .store
            .put(&resource.collection, key.clone(), put, false)?;
        if is_owned {
            let collection = resource.collection.clone();
            let due = Due::Orphan {
                collection,
                key,
                uid,
            };
            self.later(options.now + ORPHAN_DELAY, due);
        }
        let answer = served(resource, &put);
        self.after_write(target, &put, options.now)?;
        Ok(answer)
    }

    /// Adds what the server gives to every new object.
    fn complete(&mut self, resource: &Resource, object: &mut Value, options: &WriteOptions) {
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(self.new_uid());
        metadata["creationTimestamp"] = json!(seconds(options.now));
        metadata::forget_history(metadata);
        if resource.has_generation {
            metadata["generation"] = json!(1);
        }
        // A kubelet registers its Node with a status; everything else begins without one.
        if resource.has_status && resource.kind != "Node" {
            remove_member(object, "status");
        }
        kinds::default(resource, object);
        if resource.custom {
            prune::default(object, &resource.schema);
        }
        if resource.is_crd() {
            crd::default(object);
            object["status"] = crd::initial_status(object);
        }
    }

    /// Stores `object` in place of `live` as far as the endpoint lets it.
    pub(super) fn replace(
        &mut self,
        write: Write<'_>,
        live: &Value,
        object: Value,
    ) -> Result<Value, ApiError> {
        let Write {
            target, options, ..
        } = write;
        let resource = &target.resource;
        let owned = object["metadata"].get("managedFields").cloned();
        let mut new = permitted(target, live, object)?;
        let counts = resource.has_generation && !target.is_status();
        if counts && content(live, resource.has_status) != content(&new, resource.has_status) {
            let generation = live["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = json!(generation);
        }
        check(target, &new, Some(live), self)?;
        if write.operation == "Apply" {
            metadata::set_managed_fields(&mut new, owned);
        } else {
            managed::track_update(live, &mut new, &resource.schema, &write.writer());
        }
        if new == *live || options.dry_run {
            return Ok(new);
        }
        let finished = new["metadata"].get("deletionTimestamp").is_some()
            && !metadata::finalizers(live).is_empty()
            && metadata::finalizers(&new).is_empty();
        if finished && !resource.is_crd() {
            self.erase(&resource.collection, &target.key(), options.now);
            return Ok(new);
        }
        let found = self.store.get(&resource.collection, &target.key());
        let played = found.is_some_and(|stored| stored.played);
        let put = stored(resource, new);
        let put = self
            .store
            .put(&resource.collection, target.key(), put, played)?;
        let answer = served(resource, &put);
        self.after_write(target, &put, options.now)?;
        Ok(answer)
    }

    /// The stored object in the version of the target.
    pub(super) fn live(&self, target: &Target) -> Option<Value> {
        let found = self.store.get(&target.resource.collection, &target.key())?;
        Some(served(&target.resource, &found.object))
    }

    fn check_namespace(&self, target: &Target, object: &Value) -> Result<(), ApiError> {
        if !target.resource.namespaced {
            return Ok(());
        }
        match self.namespace_terminating(&target.namespace) {
            Some(false) => Ok(()),
            None => Err(ApiError::not_found("", "namespaces", &target.namespace)),
            Some(true) => {
                let name = metadata::text(object, "name").unwrap_or_default();
                Err(metadata::namespace_terminating(
                    &target.resource,
                    name,
                    &target.namespace,
                ))
            }
        }
    }
}

/// What `object` may change of `live` through the endpoint of the target.
fn permitted(target: &Target, live: &Value, mut object: Value) -> Result<Value, ApiError> {
    let resource = &target.resource;
    let mut new = if target.is_status() {
        let mut new = live.clone();
        copy_member(&object, &mut new, "status");
        new
    } else {
        if resource.has_status {
            copy_member(live, &mut object, "status");
        }
        metadata::keep_system_fields(live, &mut object)?;
        object
    };
    if resource.custom {
        prune::default(&mut new, &resource.schema);
    }
    if resource.is_crd() {
        crd::default(&mut new);
    }
    Ok(new)
}

/// Everything that makes a complete object invalid.
fn check(
    target: &Target,
    object: &Value,
    live: Option<&Value>,
    machine: &Machine,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    let mut causes = metadata::check(object, live);
    if resource.custom {
        causes.extend(validate::validate(object, live, &resource.schema));
        if causes.iter().any(Cause::blocks_rules) {
            let detail = "some validation rules were not checked because the object was \
                          invalid; correct the existing errors to complete validation";
            causes.push(Cause::invalid("<nil>", &Value::Null, detail));
        } else {
            causes.extend(cel::check(object, live, &resource.schema));
        }
    } else if resource.is_crd() {
        causes.extend(
            crd::resources(object, machine.registry())
                .err()
                .unwrap_or_default(),
        );
    } else {
        causes.extend(kinds::check(resource, object, live));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = metadata::text(object, "name").unwrap_or_default();
    // Upstream names the group of every kind but Event here.
    let group = if resource.kind == "Event" {
        ""
    } else {
        &resource.group
    };
    Err(ApiError::invalid(group, &resource.kind, name, &causes))
}

/// The members whose change counts as a new generation.
fn content(object: &Value, has_status: bool) -> Map<String, Value> {
    let members = object.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| *name != "metadata" && !(has_status && *name == "status"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn copy_member(from: &Value, to: &mut Value, name: &str) {
    let Some(map) = to.as_object_mut() else {
        return;
    };
    match from.get(name) {
        Some(value) => map.insert(name.to_owned(), value.clone()),
        None => map.remove(name),
    };
}

fn remove_member(from: &mut Value, name: &str) {
    if let Some(map) = from.as_object_mut() {
        map.remove(name);
    }
}
