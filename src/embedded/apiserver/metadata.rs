//! Object metadata: what a writer may say of it, and what stays the server's.

mod check;

use serde_json::{Map, Value, json};

pub use self::check::check;
use super::resource::Resource;
use super::status::{ApiError, Cause};
use super::target::Target;

/// A non-empty text member of `metadata`.
pub fn text<'v>(object: &'v Value, member: &str) -> Option<&'v str> {
    object
        .get("metadata")?
        .get(member)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Uids of the owners.
pub fn owners(object: &Value) -> Vec<&str> {
    let references = object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten();
    references
        .filter_map(|reference| reference["uid"].as_str())
        .collect()
}

/// Finalizers still to be removed.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten();
    list.filter_map(Value::as_str).collect()
}

/// Makes `object` say the namespace of the request; it may not say another.
pub fn place(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the object provided is unrecognized"));
    };
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    let Some(metadata) = metadata.as_object_mut() else {
        return Err(ApiError::bad_request("metadata is not an object"));
    };
    let said = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !said.is_empty() && said != target.namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    if target.resource.namespaced {
        metadata.insert("namespace".to_owned(), json!(target.namespace));
    } else {
        metadata.remove("namespace");
    }
    Ok(())
}

/// The name in the object is the name in the path, where it is given.
pub fn same_name(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    match text(object, "name") {
        Some(name) if name != target.name => Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        ))),
        Some(_) => Ok(()),
        None => {
            object["metadata"]["name"] = json!(target.name);
            Ok(())
        }
    }
}

/// The version in the object is the live one, where it is given.
pub fn same_version(target: &Target, object: &Value, live: &Value) -> Result<(), ApiError> {
    let resource = &target.resource;
    match text(object, "resourceVersion") {
        None | Some("0") => Ok(()),
        said if said == text(live, "resourceVersion") => Ok(()),
        Some(said) if said.parse::<u64>().is_err() => {
            let detail = format!("strconv.ParseUint: parsing \"{said}\": invalid syntax");
            let cause = Cause::invalid("metadata.resourceVersion", &json!(said), &detail);
            Err(ApiError::invalid(
                &resource.group,
                &resource.kind,
                &target.name,
                &[cause],
            ))
        }
        Some(_) => Err(ApiError::modified(
            &resource.group,
            &resource.plural,
            &target.name,
        )),
    }
}

/// A PUT that names a uid means that very object.
pub fn same_uid_as_precondition(
    target: &Target,
    object: &Value,
    live: &Value,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    let (Some(said), Some(uid)) = (text(object, "uid"), text(live, "uid")) else {
        return Ok(());
    };
    if said == uid {
        return Ok(());
    }
    let place = match target.namespace.as_str() {
        "" => target.name.clone(),
        namespace => format!("{namespace}/{}", target.name),
    };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}/{place}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {said}, UID in object \
         meta: {uid}",
        resource.plural
    );
    Err(ApiError::conflict(
        &resource.group,
        &resource.plural,
        &target.name,
        &why,
    ))
}

/// Members that only the server writes.
const SYSTEM: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "selfLink",
];

/// Puts the live values of the server's own members into `object`.
///
/// Another uid than the live one stays, for the validation to refuse.
pub fn keep_system_fields(live: &Value, object: &mut Value) -> Result<(), ApiError> {
    let Some(map) = object["metadata"].as_object_mut() else {
        return Err(ApiError::bad_request("metadata is not an object"));
    };
    for name in SYSTEM {
        match live["metadata"].get(name) {
            Some(value) => map.insert(name.to_owned(), value.clone()),
            None => map.remove(name),
        };
    }
    if map
        .get("uid")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        map.insert("uid".to_owned(), live["metadata"]["uid"].clone());
    }
    if let Some(namespace) = live["metadata"].get("namespace") {
        map.insert("namespace".to_owned(), namespace.clone());
    }
    // Empty maps and lists are absences in a typed server.
    map.retain(|name, value| {
        let is_void = value.is_null()
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        !is_void || name == "managedFields"
    });
    Ok(())
}

/// Leaves only what says which object is meant.
pub fn keep_only_identity(object: &mut Value) {
    if let Some(map) = object["metadata"].as_object_mut() {
        map.retain(|name, _| {
            matches!(
                name.as_str(),
                "name" | "namespace" | "uid" | "resourceVersion"
            )
        });
    }
}

/// Sets managedFields, or takes them away.
pub fn set_managed_fields(object: &mut Value, fields: Option<Value>) {
    if let Some(map) = object["metadata"].as_object_mut() {
        match fields {
            Some(fields) => map.insert("managedFields".to_owned(), fields),
            None => map.remove("managedFields"),
        };
    }
}

/// Takes away what a new object cannot have.
pub fn forget_history(metadata: &mut Value) {
    if let Some(map) = metadata.as_object_mut() {
        for name in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "selfLink",
        ] {
            map.remove(name);
        }
    }
}

/// 403: nothing new in a namespace that goes away.
pub fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> ApiError {
    let qualified = super::status::qualified(&resource.plural, &resource.group);
    let message = format!(
        "{qualified} \"{name}\" is forbidden: unable to create new content in namespace \
         {namespace} because it is being terminated"
    );
    let cause = json!({
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    });
    let mut details = json!({"name": name, "kind": resource.plural, "causes": [cause]});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    ApiError {
        details: Some(details),
        ..ApiError::new(403, "Forbidden", message)
    }
}
