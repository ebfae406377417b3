//! The rules that make a hand-written schema a structural one.

use serde_json::Value;

use super::SchemaError;
use super::openapi::{array, dotted, flag, text};

/// The rules of structural schemas that hand-written definitions most often break. The parts of
/// allOf, anyOf, oneOf and not are values, which need no type.
pub(super) fn structural(openapi: &Value, path: &str, depth: usize) -> Result<(), SchemaError> {
    let refuse = |member: &str, why: &str| {
        let path = format!("{}{member}", dotted(path));
        Err(SchemaError {
            path,
            value: openapi.get(member).cloned().unwrap_or_default(),
            why: why.to_owned(),
        })
    };
    let is_part = ["allOf[", "anyOf[", "oneOf["]
        .iter()
        .any(|part| path.contains(part))
        || path.split('.').any(|step| step == "not");
    let typeless = flag(openapi, "x-kubernetes-int-or-string")
        || flag(openapi, "x-kubernetes-preserve-unknown-fields");
    if openapi.get("type").is_none() && !is_part && !typeless {
        let what = if depth == 0 {
            "at the root"
        } else {
            "for specified object fields"
        };
        return refuse("type", &format!("Required value: must not be empty {what}"));
    }
    if openapi.get("$ref").is_some() {
        return refuse("$ref", "Forbidden: $ref is not supported");
    }
    if openapi.get("properties").is_some() && openapi.get("additionalProperties").is_some() {
        return refuse(
            "additionalProperties",
            "Forbidden: mutual exclusive with properties",
        );
    }
    if openapi
        .get("uniqueItems")
        .is_some_and(|unique| unique == true)
    {
        return refuse(
            "uniqueItems",
            "Forbidden: the runtime complexity becomes quadratic",
        );
    }
    let keys = array(openapi, "x-kubernetes-list-map-keys");
    if text(openapi, "x-kubernetes-list-type") == "map" && keys.is_empty() {
        let why = "Required value: must not be empty if x-kubernetes-list-type is map";
        return refuse("x-kubernetes-list-map-keys", why);
    }
    Ok(())
}
