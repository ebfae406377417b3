//! Values of another type than their schema's, named as Go names them.

use serde_json::Value;

use crate::embedded::apiserver::schema::{Schema, Type};
use crate::embedded::apiserver::validate::join;

/// A value of another type than its schema's.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeMismatch {
    /// Path in dot form.
    pub path: String,
    /// Go's name of the JSON type that came.
    pub got: &'static str,
    /// Go's name of the type that was wanted.
    pub wanted: String,
}

/// The first part of `value` that is of another type than `schema` says; nulls pass.
pub fn mismatch(value: &Value, schema: &Schema, path: &str) -> Option<TypeMismatch> {
    if value.is_null() {
        return None;
    }
    if !schema.kind.admits(value) {
        let got = match value {
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            _ => "object",
        };
        return Some(TypeMismatch {
            path: path.to_owned(),
            got,
            wanted: go_type(schema),
        });
    }
    match value {
        Value::Object(map) => map.iter().find_map(|(name, inner)| {
            let (child, _) = schema.member(name)?;
            mismatch(inner, child, &join(path, name))
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| mismatch(item, schema.item(), &format!("{path}[{index}]"))),
        _ => None,
    }
}

fn go_type(schema: &Schema) -> String {
    match schema.kind {
        Type::Object => match &schema.values {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => "struct".to_owned(),
        },
        Type::Array => format!("[]{}", go_type(schema.item())),
        Type::Integer if schema.format == "int64" => "int64".to_owned(),
        Type::Integer => "int32".to_owned(),
        Type::Number => "float64".to_owned(),
        Type::Boolean => "bool".to_owned(),
        _ => "string".to_owned(),
    }
}
