//! Whether an object is a value of its schema, told in the server's words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fields::key_element;
use super::schema::{ListType, Schema, Type, is_whole};
use super::status::Cause;

/// Checks `value` against `schema`. Parts equal to their counterpart in `old` are not checked
/// again: a schema that became stricter must not stop unrelated writes.
pub fn validate(value: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(value, old, schema, "", &mut causes);
    causes
}

fn check(value: &Value, old: Option<&Value>, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    if old == Some(value) || (value.is_null() && schema.nullable) {
        return;
    }
    if !schema.kind.admits(value) {
        out.push(Cause::wrong_type(
            path,
            type_name(value),
            schema.kind.name(),
        ));
        return;
    }
    match value {
        Value::Object(map) => {
            for name in schema
                .required
                .iter()
                .filter(|name| !map.contains_key(*name))
            {
                out.push(Cause::required(join(path, name), ""));
            }
            check_size(map.len(), schema, path, out);
            for (name, inner) in map {
                if let Some((child, _)) = schema.member(name) {
                    let old = old.and_then(|old| old.get(name));
                    check(inner, old, child, &join(path, name), out);
                }
            }
        }
        Value::Array(items) => {
            check_size(items.len(), schema, path, out);
            for (index, item) in items.iter().enumerate() {
                check(item, None, schema.item(), &format!("{path}[{index}]"), out);
            }
            check_distinct(items, schema, path, out);
        }
        Value::String(text) => check_text(text, value, schema, path, out),
        Value::Number(number) => {
            check_number(
                number.as_f64().unwrap_or_default(),
                value,
                schema,
                path,
                out,
            );
        }
        _ => {}
    }
    let allowed = &schema.limits.one_of_values;
    if !allowed.is_empty() && !allowed.contains(value) {
        out.push(Cause::not_supported(path, value, allowed));
    }
    check_combined(value, schema, path, out);
}

fn check_size(size: usize, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    let what = if schema.kind == Type::Array {
        "items"
    } else {
        "properties"
    };
    if let Some(max) = schema.limits.max_size.filter(|&max| size as u64 > max) {
        out.push(Cause::too_many(path, size, max));
    }
    if let Some(min) = schema.limits.min_size.filter(|&min| (size as u64) < min) {
        let detail = format!("{path} in body should have at least {min} {what}");
        out.push(Cause::invalid(path, &json!(size), &detail));
    }
}

fn check_text(text: &str, value: &Value, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    let limits = &schema.limits;
    if let Some(max) = limits.max_size.filter(|&max| length > max) {
        out.push(Cause::too_long(path, max));
    }
    if let Some(min) = limits.min_size.filter(|&min| length < min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        out.push(Cause::invalid(path, value, &detail));
    }
    if let Some(pattern) = limits
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.is_match(text))
    {
        let detail = format!("{path} in body should match '{pattern}'");
        out.push(Cause::invalid(path, value, &detail));
    }
    let well_formed = match schema.format.as_str() {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        _ => true,
    };
    if !well_formed {
        let detail = format!("{path} in body must be of type {}: {value}", schema.format);
        out.push(Cause::invalid(path, value, &detail));
    }
}

fn check_number(number: f64, value: &Value, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    let limits = &schema.limits;
    let mut refuse = |detail: String| out.push(Cause::invalid(path, value, &detail));
    match limits.minimum {
        Some((min, false)) if number < min => {
            refuse(format!(
                "{path} in body should be greater than or equal to {min}"
            ));
        }
        Some((min, true)) if number <= min => {
            refuse(format!("{path} in body should be greater than {min}"));
        }
        _ => {}
    }
    match limits.maximum {
        Some((max, false)) if number > max => {
            refuse(format!(
                "{path} in body should be less than or equal to {max}"
            ));
        }
        Some((max, true)) if number >= max => {
            refuse(format!("{path} in body should be less than {max}"));
        }
        _ => {}
    }
    if let Some(step) = limits
        .multiple_of
        .filter(|step| (number / step).fract() != 0.0)
    {
        refuse(format!("{path} in body should be a multiple of {step}"));
    }
    let range = match schema.format.as_str() {
        "int32" => f64::from(i32::MIN)..=f64::from(i32::MAX),
        "uint32" => 0.0..=f64::from(u32::MAX),
        _ => return,
    };
    if schema.kind == Type::Integer && !range.contains(&number) {
        refuse(format!("{path} in body must be of type {}", schema.format));
    }
}

fn check_distinct(items: &[Value], schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    let identity = |item: &Value| match &schema.list {
        ListType::Atomic => None,
        ListType::Set => Some((item.to_string(), item.to_string())),
        ListType::Map(keys) => {
            let keys: BTreeMap<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
                .collect();
            Some((key_element(&keys), json!(keys).to_string()))
        }
    };
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some((id, shown)) = identity(item) else {
            return;
        };
        if seen.contains(&id) {
            out.push(Cause {
                reason: "FieldValueDuplicate",
                message: format!("Duplicate value: {shown}"),
                field: format!("{path}[{index}]"),
            });
        }
        seen.push(id);
    }
}

fn check_combined(value: &Value, schema: &Schema, path: &str, out: &mut Vec<Cause>) {
    let holds = |schema: &Schema| {
        let mut causes = Vec::new();
        check(value, None, schema, path, &mut causes);
        causes.is_empty()
    };
    let combined = &schema.combined;
    for part in &combined.all_of {
        check(value, None, part, path, out);
    }
    let mut refuse = |detail: &str| {
        let detail = format!("{path} in body {detail}");
        out.push(Cause::invalid(path, &json!(type_name(value)), &detail));
    };
    if !combined.any_of.is_empty() && !combined.any_of.iter().any(|part| holds(part)) {
        refuse("must validate at least one schema (anyOf)");
    }
    if !combined.one_of.is_empty() {
        match combined.one_of.iter().filter(|part| holds(part)).count() {
            1 => {}
            0 => refuse("must validate one and only one schema (oneOf). Found none valid"),
            n => refuse(&format!(
                "must validate one and only one schema (oneOf). Found {n} valid"
            )),
        }
    }
    if combined.not.as_ref().is_some_and(|part| holds(part)) {
        refuse("must not validate the schema (not)");
    }
}

/// `path.name`, without the dot at the root.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The OpenAPI name of a value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
