//! Merging, comparing and owning objects field by field, as their schema divides them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fields::{Entry, FieldSet, key_element};
use super::schema::{ListType, Schema};

/// What an update did, path by path.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Paths that are only in the new object.
    pub added: FieldSet,
    /// Leaves that differ.
    pub modified: FieldSet,
    /// Paths that are only in the old object.
    pub removed: FieldSet,
}

/// The part of an object that a path element leads to, with its schema.
struct Part<'v> {
    element: String,
    value: &'v Value,
    schema: &'v Schema,
    /// A declared member of a struct, as opposed to the entry of a map or the item of a list.
    declared: bool,
}

/// The parts into which apply divides `value`; `None` when it is owned as a whole.
fn parts<'v>(value: &'v Value, schema: &'v Schema) -> Option<Vec<Part<'v>>> {
    match value {
        Value::Object(map) if !schema.atomic => {
            let part = |(name, value): (&'v String, &'v Value)| {
                let (schema, declared) = match schema.member(name) {
                    Some((child, declared)) => (&**child, declared),
                    None => (schema.item().as_ref(), false),
                };
                Part {
                    element: format!("f:{name}"),
                    value,
                    schema,
                    declared,
                }
            };
            Some(map.iter().map(part).collect())
        }
        Value::Array(items) => {
            let part = |value| {
                let element = item_element(value, &schema.list)?;
                Some(Part {
                    element,
                    value,
                    schema: schema.item(),
                    declared: false,
                })
            };
            items.iter().map(part).collect()
        }
        _ => None,
    }
}

/// The path element of a list item; `None` when the list is atomic or the item lacks its keys.
fn item_element(item: &Value, list: &ListType) -> Option<String> {
    match list {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{item}")),
        ListType::Map(keys) => {
            let mut found = BTreeMap::new();
            for key in keys {
                match item.get(key) {
                    Some(value) => found.insert(key.clone(), value.clone()),
                    // The one key of a built-in list that has a default.
                    None if key == "protocol" => found.insert(key.clone(), json!("TCP")),
                    None => None,
                };
            }
            (!found.is_empty()).then(|| key_element(&found))
        }
    }
}

/// Every path that `value` sets: what an applier of it owns.
pub fn fields_of(value: &Value, schema: &Schema) -> FieldSet {
    let mut set = FieldSet::default();
    for part in parts(value, schema).unwrap_or_default() {
        let below = match parts(part.value, part.schema) {
            Some(_) => fields_of(part.value, part.schema),
            None => FieldSet::default(),
        };
        let void = part.value.is_null() || part.value.as_object().is_some_and(Map::is_empty);
        let whole = parts(part.value, part.schema).is_none();
        let member = void || whole || !part.declared;
        set.insert(part.element, Entry { member, below });
    }
    set
}

/// Compares two states of an object.
pub fn compare(old: &Value, new: &Value, schema: &Schema) -> Comparison {
    let mut out = Comparison::default();
    let old_parts = parts(old, schema).unwrap_or_default();
    let new_parts = parts(new, schema).unwrap_or_default();
    for part in &new_parts {
        match old_parts.iter().find(|old| old.element == part.element) {
            None => out.added.insert(part.element.clone(), everything(part)),
            Some(old) => {
                // null is what a typed server prints for a list or map that is not there yet.
                let was_open = old.value.is_null() || parts(old.value, part.schema).is_some();
                let both = was_open && parts(part.value, part.schema).is_some();
                if both {
                    let inner = compare(old.value, part.value, part.schema);
                    let at = |below| Entry {
                        member: false,
                        below,
                    };
                    out.added.insert(part.element.clone(), at(inner.added));
                    out.modified
                        .insert(part.element.clone(), at(inner.modified));
                    out.removed.insert(part.element.clone(), at(inner.removed));
                } else if old.value != part.value {
                    let entry = Entry {
                        member: true,
                        below: FieldSet::default(),
                    };
                    out.modified.insert(part.element.clone(), entry);
                }
            }
        }
    }
    for part in &old_parts {
        if !new_parts.iter().any(|new| new.element == part.element) {
            out.removed.insert(part.element.clone(), everything(part));
        }
    }
    out
}

/// A part and all below it, containers included.
fn everything(part: &Part<'_>) -> Entry {
    let mut below = FieldSet::default();
    for inner in parts(part.value, part.schema).unwrap_or_default() {
        below.insert(inner.element.clone(), everything(&inner));
    }
    Entry {
        member: true,
        below,
    }
}

/// `live` with everything that `applied` sets.
pub fn merge(live: &Value, applied: &Value, schema: &Schema) -> Value {
    match (live, applied) {
        (Value::Object(old), Value::Object(new)) if !schema.atomic => {
            let mut out = old.clone();
            for (name, value) in new {
                let child = schema
                    .member(name)
                    .map_or_else(Schema::any, |(c, _)| c.clone());
                let merged = match old.get(name) {
                    Some(old) => merge(old, value, &child),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(old), Value::Array(new)) if schema.list != ListType::Atomic => {
            let mut out = old.clone();
            for item in new {
                let element = item_element(item, &schema.list);
                let same =
                    |o: &Value| element.is_some() && item_element(o, &schema.list) == element;
                match out.iter().position(same) {
                    Some(at) => out[at] = merge(&out[at], item, schema.item()),
                    None => out.push(item.clone()),
                }
            }
            Value::Array(out)
        }
        _ => applied.clone(),
    }
}

/// Takes out of `value` what `last` held and nobody in `kept` holds any more.
pub fn drop_unowned(value: &mut Value, last: &FieldSet, kept: &FieldSet, schema: &Schema) {
    match value {
        Value::Object(map) if !schema.atomic => {
            for (element, entry) in last.iter() {
                let Some(name) = element.strip_prefix("f:") else {
                    continue;
                };
                let child = schema
                    .member(name)
                    .map_or_else(Schema::any, |(c, _)| c.clone());
                let Some(inner) = map.get_mut(name) else {
                    continue;
                };
                if drop_part(inner, entry, kept.get(element), &child) {
                    map.remove(name);
                }
            }
        }
        Value::Array(items) if schema.list != ListType::Atomic => {
            items.retain_mut(|item| {
                let Some(element) = item_element(item, &schema.list) else {
                    return true;
                };
                match last.get(&element) {
                    Some(entry) => !drop_part(item, entry, kept.get(&element), schema.item()),
                    None => true,
                }
            });
        }
        _ => {}
    }
}

/// Whether the part itself goes: nobody holds it, and it was held or is now empty.
fn drop_part(value: &mut Value, last: &Entry, kept: Option<&Entry>, schema: &Schema) -> bool {
    let Some(kept) = kept else {
        if last.member {
            return true;
        }
        drop_unowned(value, &last.below, &FieldSet::default(), schema);
        return match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
    };
    drop_unowned(value, &last.below, &kept.below, schema);
    false
}
