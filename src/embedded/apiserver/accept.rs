//! Bodies of writes: decoded objects checked against the kind they are sent to.

use serde_json::Value;

use super::decode::{Decoded, mismatch};
use super::kinds;
use super::metadata;
use super::prune;
use super::status::ApiError;
use super::target::Target;
use super::write::{FieldValidation, WriteOptions};

/// The value of a create or update body, its type checked and its unknown members gone.
pub fn accept(
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
    let kind = text("kind");
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
    check_type(target, &object)?;
    let unknown = prune::prune(&mut object, &resource.schema);
    let mut warnings = warnings_of(&unknown);
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
    match typed_error(target, &object) {
        Some(why) => Err(undecodable(&why)),
        None => Ok((object, warnings)),
    }
}

/// The object has to be of the kind and version of the endpoint.
fn check_type(target: &Target, object: &Value) -> Result<(), ApiError> {
    let resource = &target.resource;
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() {
            "Kind"
        } else {
            "apiVersion"
        };
        let message = format!("Object '{missing}' is missing in '{object}'");
        return Err(ApiError::bad_request(message));
    }
    let wanted = resource.api_version();
    if api_version != wanted {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({wanted})"
        )));
    }
    if kind != resource.kind {
        let (version, wanted) = (&resource.version, &resource.kind);
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &resource.group
        };
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {wanted}: converting \
             ({version}.{kind}) to ({group}.{wanted}): unknown conversion"
        )));
    }
    Ok(())
}

/// Checks the object that a patch made and takes its unknown members away; returns the warnings.
pub fn patched(
    target: &Target,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<Vec<String>, ApiError> {
    let before = object.clone();
    let unknown = prune::prune(object, &target.resource.schema);
    let mut warnings = warnings_of(&unknown);
    match options.validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            let why = format!("strict decoding error: {}", warnings.join(", "));
            return Err(ApiError::invalid_patch(&before, &why));
        }
        FieldValidation::Ignore => warnings.clear(),
        _ => {}
    }
    match typed_error(target, object) {
        Some(why) => Err(ApiError::invalid_patch(&before, &why)),
        None => Ok(warnings),
    }
}

/// Checks an applied object as far as its form goes.
pub fn check_applied(target: &Target, applied: Value) -> Result<Value, ApiError> {
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

/// What Go's decoder would say of a built-in object; custom ones it takes as they come.
fn typed_error(target: &Target, object: &Value) -> Option<String> {
    let resource = &target.resource;
    if resource.custom {
        return None;
    }
    let found = mismatch(object, &resource.schema, "").map(|found| {
        format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            found.got, resource.kind, found.path, found.wanted
        )
    });
    found.or_else(|| kinds::micro_time_error(resource, object))
}

fn warnings_of(paths: &[String]) -> Vec<String> {
    paths
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect()
}
