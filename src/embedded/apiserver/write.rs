//! Create, update, patch and apply: what a write may change, and what the server adds to it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cel;
use super::crd;
use super::decode::{Decoded, mismatch};
use super::kinds;
use super::machine::{Due, Machine, Target, seconds, served, stored};
use super::managed::{self, Writer};
use super::metadata;
use super::prune;
use super::status::{ApiError, Cause};
use super::validate;
use crate::domain::time::Timestamp;

/// What happens to members that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They go in silence.
    Ignore,
    /// They go, with a Warning header each.
    #[default]
    Warn,
    /// They make the request fail.
    Strict,
}

/// How a write is meant.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Name of the field manager.
    pub manager: String,
    /// Answer as if, store nothing.
    pub dry_run: bool,
    /// What happens to unknown members.
    pub validation: FieldValidation,
    /// Apply takes fields from other managers.
    pub force: bool,
    /// Time of the write.
    pub now: Timestamp,
}

/// What a write led to.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object as it is now.
    pub object: Value,
    /// There was none before.
    pub created: bool,
    /// Texts for Warning headers.
    pub warnings: Vec<String>,
}

impl Machine {
    /// POST: a new object.
    pub fn create(
        &mut self,
        target: &Target,
        body: Decoded,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let (mut object, warnings) = accept(target, body, options)?;
        metadata::place(target, &mut object)?;
        if metadata::text(&object, "resourceVersion").is_some() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::internal(message));
        }
        if metadata::text(&object, "name").is_none() {
            if let Some(prefix) = metadata::text(&object, "generateName") {
                object["metadata"]["name"] = json!(format!("{prefix}{}", self.new_suffix()));
            }
        }
        object["metadata"]
            .as_object_mut()
            .map(|metadata| metadata.remove("managedFields"));
        let object = self.insert(target, object, None, options)?;
        Ok(Written {
            object,
            created: true,
            warnings,
        })
    }

    /// Completes and stores a new object; `owned` are its managedFields when it was applied.
    fn insert(
        &mut self,
        target: &Target,
        mut object: Value,
        owned: Option<Value>,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let resource = &target.resource;
        self.check_namespace(target, &object)?;
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(self.new_uid());
        metadata["creationTimestamp"] = json!(seconds(options.now));
        let map = metadata
            .as_object_mut()
            .expect("metadata was placed as an object");
        for system in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "selfLink",
        ] {
            map.remove(system);
        }
        if resource.has_generation {
            map.insert("generation".to_owned(), json!(1));
        }
        if resource.has_status && resource.kind != "Node" {
            object.as_object_mut().map(|map| map.remove("status"));
        }
        kinds::default(resource, &mut object);
        if resource.custom {
            prune::default(&mut object, &resource.schema);
        }
        if resource.is_crd() {
            crd::default(&mut object);
            object["status"] = crd::initial_status(&object);
        }
        self.check(target, &object, None)?;
        let name = metadata::text(&object, "name")
            .unwrap_or_default()
            .to_owned();
        let key = (target.namespace.clone(), name.clone());
        if self.store.get(&resource.collection, &key).is_some() {
            return Err(ApiError::already_exists(
                &resource.group,
                &resource.plural,
                &name,
            ));
        }
        match owned {
            Some(owned) => object["metadata"]["managedFields"] = owned,
            None => {
                let mut nothing = json!({"metadata": {}});
                if !resource.custom {
                    // Structs that a typed server always prints are there from the beginning.
                    nothing["spec"] = json!({});
                    nothing["status"] = json!({});
                }
                let writer = self.writer(target, "Update", options);
                managed::track_update(&nothing, &mut object, &resource.schema, &writer);
            }
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
            // The real collector notices a dangling owner within some seconds.
            let collection = resource.collection.clone();
            let due = Due::Orphan {
                collection,
                key,
                uid,
            };
            self.later(options.now + Duration::from_secs(1), due);
        }
        let answer = served(resource, &put);
        self.after_write(target, &put, options.now)?;
        Ok(answer)
    }

    /// PUT: the whole object, or its whole status.
    pub fn update(
        &mut self,
        target: &Target,
        body: Decoded,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let resource = &target.resource;
        let (mut object, warnings) = accept(target, body, options)?;
        metadata::place(target, &mut object)?;
        metadata::same_name(target, &mut object)?;
        let Some(live) = self.live(target) else {
            if resource.create_on_update && !target.is_status() {
                let object = self.insert(target, object, None, options)?;
                return Ok(Written {
                    object,
                    created: true,
                    warnings,
                });
            }
            return Err(target.not_found());
        };
        match metadata::text(&object, "resourceVersion") {
            None | Some("0") if !resource.unconditional_update => {
                let cause = Cause::invalid(
                    "metadata.resourceVersion",
                    &json!(0),
                    "must be specified for an update",
                );
                let (group, plural) = (&resource.group, &resource.plural);
                return Err(ApiError::invalid(group, plural, &target.name, &[cause]));
            }
            _ => metadata::same_version(target, &object, &live)?,
        }
        metadata::same_uid_as_precondition(target, &object, &live)?;
        let writer = self.writer(target, "Update", options);
        let object = self.replace(target, &live, object, &writer, options)?;
        Ok(Written {
            object,
            created: false,
            warnings,
        })
    }

    /// JSON merge patch, or the object that a JSON patch made, in `patch`.
    pub fn patch(
        &mut self,
        target: &Target,
        patch: impl FnOnce(&mut Value) -> Result<(), ApiError>,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let live = self.live(target).ok_or_else(|| target.not_found())?;
        let mut object = live.clone();
        patch(&mut object)?;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        metadata::same_name(target, &mut object)?;
        let schema = &target.resource.schema;
        let unknown = prune::prune(&mut object.clone(), schema);
        let mut warnings = unknown_warnings(&unknown);
        match options.validation {
            FieldValidation::Strict if !warnings.is_empty() => {
                let why = format!("strict decoding error: {}", warnings.join(", "));
                return Err(ApiError::invalid_patch(&object, &why));
            }
            FieldValidation::Ignore => warnings.clear(),
            _ => {}
        }
        if !target.resource.custom {
            if let Some(why) = typed_error(target, &object) {
                return Err(ApiError::invalid_patch(&object, &why));
            }
        }
        prune::prune(&mut object, schema);
        metadata::same_version(target, &object, &live)?;
        let writer = self.writer(target, "Update", options);
        let object = self.replace(target, &live, object, &writer, options)?;
        Ok(Written {
            object,
            created: false,
            warnings,
        })
    }

    /// Server-side apply.
    pub fn apply(
        &mut self,
        target: &Target,
        body: Decoded,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let resource = &target.resource;
        let mut applied = check_applied(target, body.value)?;
        let live = self.live(target);
        if live.is_none() && target.is_status() {
            return Err(target.not_found());
        }
        metadata::place(target, &mut applied)?;
        metadata::same_name(target, &mut applied)?;
        if let (Some(uid), None) = (metadata::text(&applied, "uid"), &live) {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object \
                 was found"
            );
            return Err(ApiError::conflict(
                &resource.group,
                &resource.plural,
                &target.name,
                &why,
            ));
        }
        if let Some(live) = &live {
            metadata::same_version(target, &applied, live)?;
        }
        let map = applied.as_object_mut().expect("placed objects are objects");
        if target.is_status() {
            map.retain(|member, _| {
                matches!(
                    member.as_str(),
                    "apiVersion" | "kind" | "metadata" | "status"
                )
            });
            metadata::keep_only_identity(&mut applied);
        } else if resource.has_status {
            map.remove("status");
        }
        let writer = self.writer(target, "Apply", options);
        let Some(live) = live else {
            let base = json!({
                "apiVersion": resource.api_version(), "kind": resource.kind,
                "metadata": {"name": target.name},
            });
            let mut object =
                managed::apply_to(&base, &applied, &resource.schema, &writer, options.force)?;
            let owned = object["metadata"]
                .as_object_mut()
                .and_then(|m| m.remove("managedFields"));
            let object = self.insert(target, object, owned, options)?;
            return Ok(Written {
                object,
                created: true,
                warnings: Vec::new(),
            });
        };
        let object = managed::apply_to(&live, &applied, &resource.schema, &writer, options.force)?;
        let object = self.replace(target, &live, object, &writer, options)?;
        Ok(Written {
            object,
            created: false,
            warnings: Vec::new(),
        })
    }

    /// Stores `object` in place of `live` as far as the endpoint lets it.
    fn replace(
        &mut self,
        target: &Target,
        live: &Value,
        mut object: Value,
        writer: &Writer,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let resource = &target.resource;
        let owned = object["metadata"].get("managedFields").cloned();
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
        if resource.has_generation
            && !target.is_status()
            && content(live, resource.has_status) != content(&new, resource.has_status)
        {
            let generation = live["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            new["metadata"]["generation"] = json!(generation);
        }
        self.check(target, &new, Some(live))?;
        if writer.operation == "Apply" {
            new["metadata"]["managedFields"] = owned.unwrap_or(Value::Null);
            metadata::drop_null(&mut new, "managedFields");
        } else {
            managed::track_update(live, &mut new, &resource.schema, writer);
        }
        if new == *live || options.dry_run {
            return Ok(new);
        }
        let finished = new["metadata"].get("deletionTimestamp").is_some()
            && metadata::finalizers(&new).is_empty();
        if finished && !resource.is_crd() {
            self.erase(&resource.collection, &target.key(), options.now);
            return Ok(new);
        }
        let played = self
            .store
            .get(&resource.collection, &target.key())
            .is_some_and(|stored| stored.played);
        let put = stored(resource, new);
        let put = self
            .store
            .put(&resource.collection, target.key(), put, played)?;
        let answer = served(resource, &put);
        self.after_write(target, &put, options.now)?;
        Ok(answer)
    }

    fn live(&self, target: &Target) -> Option<Value> {
        let found = self.store.get(&target.resource.collection, &target.key())?;
        Some(served(&target.resource, &found.object))
    }

    fn writer(&self, target: &Target, operation: &'static str, options: &WriteOptions) -> Writer {
        Writer {
            manager: options.manager.clone(),
            operation,
            api_version: target.resource.api_version(),
            subresource: target.subresource.clone(),
            time: seconds(options.now),
        }
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

    /// Everything that makes a complete object invalid.
    fn check(&self, target: &Target, object: &Value, live: Option<&Value>) -> Result<(), ApiError> {
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
                crd::resources(object, self.registry())
                    .err()
                    .unwrap_or_default(),
            );
        } else {
            causes.extend(kinds::check(resource, object, live.is_none()));
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
}

/// The value of a create or update body, its type checked and its unknown members gone.
fn accept(
    target: &Target,
    body: Decoded,
    options: &WriteOptions,
) -> Result<(Value, Vec<String>), ApiError> {
    let resource = &target.resource;
    let mut object = body.value;
    let text = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let undecodable = |why: &str| {
        ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {why}",
            if kind.is_empty() {
                &resource.kind
            } else {
                &kind
            },
            resource.version,
            resource.kind
        ))
    };
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() {
            "Kind"
        } else {
            "apiVersion"
        };
        let message = format!("Object '{missing}' is missing in '{object}'");
        return Err(ApiError::bad_request(message));
    }
    if api_version != resource.api_version() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({})",
            resource.api_version()
        )));
    }
    if kind != resource.kind {
        let (version, internal) = (
            &resource.version,
            if resource.group.is_empty() {
                "core"
            } else {
                &resource.group
            },
        );
        return Err(undecodable(&format!(
            "converting ({version}.{kind}) to ({internal}.{}): unknown conversion",
            resource.kind
        )));
    }
    let unknown = prune::prune(&mut object, &resource.schema);
    let mut warnings = unknown_warnings(&unknown);
    warnings.extend(
        body.duplicates
            .iter()
            .map(|path| format!("duplicate field \"{path}\"")),
    );
    match options.validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            return Err(undecodable(&format!(
                "strict decoding error: {}",
                warnings.join(", ")
            )));
        }
        FieldValidation::Ignore => warnings.clear(),
        _ => {}
    }
    if !resource.custom {
        if let Some(why) = typed_error(target, &object) {
            return Err(undecodable(&why));
        }
    }
    Ok((object, warnings))
}

/// Checks an applied object as far as its form goes.
fn check_applied(target: &Target, applied: Value) -> Result<Value, ApiError> {
    let resource = &target.resource;
    if !applied.is_object() {
        return Err(ApiError::bad_request("error decoding YAML: not an object"));
    }
    if applied["metadata"]
        .get("managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let api_version = applied["apiVersion"].as_str().unwrap_or_default();
    let kind = applied["kind"].as_str().unwrap_or_default();
    if api_version != resource.api_version() || kind != resource.kind {
        return Err(ApiError::bad_request(format!(
            "incorrect type for apply: {api_version}, Kind={kind} does not match {}, Kind={}",
            resource.api_version(),
            resource.kind
        )));
    }
    let subject = format!(
        "({}/{}; {}, Kind={})",
        metadata::text(&applied, "namespace").unwrap_or_default(),
        metadata::text(&applied, "name").unwrap_or_default(),
        resource.api_version(),
        resource.kind
    );
    let errors: Vec<String> = prune::unknown(&applied, &resource.schema)
        .into_iter()
        .map(|path| format!(".{path}: field not declared in schema"))
        .collect();
    if !errors.is_empty() {
        let message = format!(
            "failed to create typed patch object {subject}: {}",
            errors.join(", ")
        );
        return Err(ApiError::internal(message));
    }
    if let Some(found) = mismatch(&applied, &resource.schema, "") {
        let message = format!(
            "failed to create typed patch object {subject}: .{}: expected {}, got {}",
            found.path, found.wanted, found.got
        );
        return Err(ApiError::internal(message));
    }
    if let Some(why) = kinds::micro_time_error(resource, &applied) {
        let kind = format!("{}, Kind={}", resource.api_version(), resource.kind);
        return Err(ApiError::internal(format!(
            "failed to convert new object {subject} to proper version: unable to convert \
             unstructured object to {kind}: {why}"
        )));
    }
    Ok(applied)
}

/// What Go's decoder would say of a built-in object.
fn typed_error(target: &Target, object: &Value) -> Option<String> {
    let resource = &target.resource;
    let found = mismatch(object, &resource.schema, "").map(|found| {
        format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            found.got, resource.kind, found.path, found.wanted
        )
    });
    found.or_else(|| kinds::micro_time_error(resource, object))
}

fn unknown_warnings(paths: &[String]) -> Vec<String> {
    paths
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect()
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
