//! Create, update, patch and apply: the four ways to write an object.

use serde_json::{Value, json};

use super::accept::{accept, check_applied, patched};
use super::commit::Write;
use super::decode::Decoded;
use super::machine::Machine;
use super::managed;
use super::metadata;
use super::status::{ApiError, Cause};
use super::target::Target;
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

/// The object after a write, and whether that write made it.
fn written(object: Value, created: bool, warnings: Vec<String>) -> Written {
    Written {
        object,
        created,
        warnings,
    }
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
        let prefix = metadata::text(&object, "generateName");
        if let (None, Some(prefix)) = (metadata::text(&object, "name"), prefix) {
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.new_suffix()));
        }
        metadata::set_managed_fields(&mut object, None);
        let write = Write {
            target,
            options,
            operation: "Update",
        };
        Ok(written(self.insert(write, object, None)?, true, warnings))
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
        let write = Write {
            target,
            options,
            operation: "Update",
        };
        let Some(live) = self.live(target) else {
            if resource.create_on_update && !target.is_status() {
                return Ok(written(self.insert(write, object, None)?, true, warnings));
            }
            return Err(target.not_found());
        };
        let version = metadata::text(&object, "resourceVersion");
        if matches!(version, None | Some("0")) && !resource.unconditional_update {
            let detail = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &json!(0), detail);
            let (group, plural) = (&resource.group, &resource.plural);
            return Err(ApiError::invalid(group, plural, &target.name, &[cause]));
        }
        metadata::same_version(target, &object, &live)?;
        metadata::same_uid_as_precondition(target, &object, &live)?;
        Ok(written(
            self.replace(write, &live, object)?,
            false,
            warnings,
        ))
    }

    /// A merge or JSON patch, as the function that does it.
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
        let warnings = patched(target, &mut object, options)?;
        metadata::same_version(target, &object, &live)?;
        let write = Write {
            target,
            options,
            operation: "Update",
        };
        Ok(written(
            self.replace(write, &live, object)?,
            false,
            warnings,
        ))
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
        metadata::place(target, &mut applied)?;
        metadata::same_name(target, &mut applied)?;
        let live = self.live(target);
        check_meant(target, &applied, live.as_ref())?;
        confine(target, &mut applied);
        let write = Write {
            target,
            options,
            operation: "Apply",
        };
        let (writer, force) = (write.writer(), options.force);
        if let Some(live) = live {
            let object = managed::apply_to(&live, &applied, &resource.schema, &writer, force)?;
            return Ok(written(
                self.replace(write, &live, object)?,
                false,
                Vec::new(),
            ));
        }
        let base = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {"name": target.name},
        });
        let object = managed::apply_to(&base, &applied, &resource.schema, &writer, force)?;
        let owned = object["metadata"].get("managedFields").cloned();
        Ok(written(
            self.insert(write, object, owned)?,
            true,
            Vec::new(),
        ))
    }
}

/// Whether the applied object is about the one that is there, or about none.
fn check_meant(target: &Target, applied: &Value, live: Option<&Value>) -> Result<(), ApiError> {
    let resource = &target.resource;
    match (live, metadata::text(applied, "uid")) {
        (Some(live), _) => metadata::same_version(target, applied, live),
        (None, _) if target.is_status() => Err(target.not_found()),
        (None, Some(uid)) => {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing \
                 object was found"
            );
            let (group, plural) = (&resource.group, &resource.plural);
            Err(ApiError::conflict(group, plural, &target.name, &why))
        }
        (None, None) if metadata::text(applied, "resourceVersion").is_some() => {
            Err(target.not_found())
        }
        (None, None) => Ok(()),
    }
}

/// Leaves of an applied object what its endpoint writes.
fn confine(target: &Target, applied: &mut Value) {
    let Some(map) = applied.as_object_mut() else {
        return;
    };
    if target.is_status() {
        map.retain(|name, _| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
        });
        metadata::keep_only_identity(applied);
    } else if target.resource.has_status {
        map.remove("status");
    }
}
