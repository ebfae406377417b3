//! What a schema does to an object before it is checked: unknown members go, defaults come.

use serde_json::{Map, Value};

use super::schema::{Schema, Type};

/// Removes the members that `schema` does not declare; returns their paths.
pub fn prune(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(value, schema, "", &mut unknown);
    unknown
}

/// The paths of members that `schema` does not declare.
pub fn unknown(value: &Value, schema: &Schema) -> Vec<String> {
    prune(&mut value.clone(), schema)
}

fn prune_at(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) if matches!(schema.kind, Type::Object | Type::Any) => {
            map.retain(|name, inner| {
                let at = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let Some((child, _)) = schema.member(name) else {
                    unknown.push(at);
                    return false;
                };
                prune_at(inner, child, &at, unknown);
                true
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune_at(item, schema.item(), &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Removes nulls that are no value of their schema, then fills in defaults.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|name, inner| {
                !inner.is_null() || schema.member(name).is_none_or(|(child, _)| child.nullable)
            });
            fill(map, schema);
            for (name, inner) in map.iter_mut() {
                if let Some((child, _)) = schema.member(name) {
                    default(inner, child);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| default(item, schema.item())),
        _ => {}
    }
}

fn fill(map: &mut Map<String, Value>, schema: &Schema) {
    for (name, child) in &schema.properties {
        if let (Some(value), false) = (&child.default, map.contains_key(name)) {
            map.insert(name.clone(), value.clone());
        }
    }
}
