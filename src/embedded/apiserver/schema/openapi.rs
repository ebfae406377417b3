//! Schemas read from OpenAPI v3, references resolved into shared nodes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::{Map, Value};

use super::names::{by_name, is_atomic};
use super::structural::structural;
use super::{Combined, Limits, ListType, Schema, SchemaError, Type, strings};
use crate::embedded::apiserver::cel::{Rule, printed_rule};

/// Deep enough for any hand-written CRD, shallow enough for the stack.
const DEPTH_MAX: usize = 64;

/// Reads schemas with `$ref`s into shared nodes.
pub struct Reader<'a> {
    definitions: &'a Map<String, Value>,
    known: HashMap<String, Arc<Schema>>,
    /// Infer list keys and atomic structs from member and definition names: the generated schemas
    /// of built-in kinds do not carry them.
    names: bool,
}

impl<'a> Reader<'a> {
    /// A reader of the built-in kinds' schemas, whose references point into `definitions`.
    pub fn built_in(definitions: &'a Map<String, Value>) -> Self {
        Self {
            definitions,
            known: HashMap::new(),
            names: true,
        }
    }

    /// A reader of hand-written schemas, which refer to nothing and must be structural.
    pub fn custom() -> Self {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Self {
            definitions: &NOTHING,
            known: HashMap::new(),
            names: false,
        }
    }

    /// Reads a schema that is no definition.
    pub fn schema(&mut self, openapi: &Value) -> Result<Schema, SchemaError> {
        self.node(openapi, String::new(), 0)
    }

    /// Reads the definition called `name`.
    pub fn definition(&mut self, name: &str) -> Result<Arc<Schema>, SchemaError> {
        self.referenced(name, 0)
    }

    fn referenced(&mut self, name: &str, depth: usize) -> Result<Arc<Schema>, SchemaError> {
        if let Some(schema) = self.known.get(name) {
            return Ok(Arc::clone(schema));
        }
        // A definition that contains itself is open at the point where it starts over.
        self.known.insert(name.to_owned(), Schema::any());
        let schema = match self.definitions.get(name) {
            Some(openapi) => {
                let mut schema = self.node(openapi, name.to_owned(), depth)?;
                schema.atomic = is_atomic(name);
                Arc::new(schema)
            }
            None => Schema::any(),
        };
        self.known.insert(name.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }

    fn child(
        &mut self,
        openapi: &Value,
        path: String,
        depth: usize,
    ) -> Result<Arc<Schema>, SchemaError> {
        match openapi.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let name = reference.rsplit('/').next().unwrap_or_default();
                self.referenced(name, depth)
            }
            None => Ok(Arc::new(self.node(openapi, path, depth)?)),
        }
    }

    fn node(&mut self, openapi: &Value, path: String, depth: usize) -> Result<Schema, SchemaError> {
        if depth > DEPTH_MAX {
            let why = format!("nested deeper than {DEPTH_MAX}");
            return Err(SchemaError {
                path,
                value: Value::Null,
                why,
            });
        }
        if !self.names {
            structural(openapi, &path, depth)?;
        }
        let mut schema = Schema::new(type_of(openapi, &path)?);
        schema.format = text(openapi, "format");
        schema.preserve |= flag(openapi, "x-kubernetes-preserve-unknown-fields")
            || flag(openapi, "x-kubernetes-embedded-resource");
        schema.nullable |= flag(openapi, "nullable");
        schema.default = openapi.get("default").cloned();
        schema.required = strings(openapi.get("required"));
        schema.limits = limits(openapi, schema.kind, &path)?;
        schema.list = list_type(openapi);
        schema.atomic = text(openapi, "x-kubernetes-map-type") == "atomic";
        self.members(openapi, &path, depth, &mut schema)?;
        schema.combined = self.combined(openapi, &path, depth)?;
        for (index, rule) in array(openapi, "x-kubernetes-validations")
            .iter()
            .enumerate()
        {
            let rule = Rule::compile(rule, &schema).map_err(|why| SchemaError {
                path: format!("{}x-kubernetes-validations[{index}].rule", dotted(&path)),
                value: printed_rule(rule),
                why,
            })?;
            schema.rules.push(Arc::new(rule));
        }
        schema.has_rules = !schema.rules.is_empty()
            || schema.properties.values().any(|s| s.has_rules)
            || schema.values.as_ref().is_some_and(|s| s.has_rules)
            || schema.items.as_ref().is_some_and(|s| s.has_rules);
        Ok(schema)
    }

    fn members(
        &mut self,
        openapi: &Value,
        path: &str,
        depth: usize,
        schema: &mut Schema,
    ) -> Result<(), SchemaError> {
        for (name, inner) in openapi
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let at = format!("{}properties[{name}]", dotted(path));
            let mut child = self.child(inner, at, depth + 1)?;
            if self.names {
                child = by_name(name, child);
            }
            schema.properties.insert(name.clone(), child);
        }
        match openapi.get("additionalProperties") {
            Some(inner @ Value::Object(_)) => {
                let at = format!("{}additionalProperties", dotted(path));
                schema.values = Some(self.child(inner, at, depth + 1)?);
            }
            Some(Value::Bool(true)) => schema.preserve = true,
            _ => {}
        }
        if let Some(inner) = openapi.get("items") {
            schema.items = Some(self.child(inner, format!("{}items", dotted(path)), depth + 1)?);
        }
        // A built-in object without members stands for free JSON (RawExtension, FieldsV1).
        if self.names && schema.kind == Type::Object && schema.properties.is_empty() {
            schema.preserve |= schema.values.is_none();
        }
        Ok(())
    }

    fn combined(
        &mut self,
        openapi: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Combined, SchemaError> {
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for (list, name) in lists.iter_mut().zip(["allOf", "anyOf", "oneOf"]) {
            for (index, inner) in array(openapi, name).iter().enumerate() {
                let at = format!("{}{name}[{index}]", dotted(path));
                list.push(self.child(inner, at, depth + 1)?);
            }
        }
        let not = match openapi.get("not") {
            Some(inner) => Some(self.child(inner, format!("{}not", dotted(path)), depth + 1)?),
            None => None,
        };
        let [all_of, any_of, one_of] = lists;
        Ok(Combined {
            all_of,
            any_of,
            one_of,
            not,
        })
    }
}

fn type_of(openapi: &Value, path: &str) -> Result<Type, SchemaError> {
    if flag(openapi, "x-kubernetes-int-or-string") {
        return Ok(Type::IntOrString);
    }
    Ok(match openapi.get("type").and_then(Value::as_str) {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        None => Type::Any,
        Some(other) => {
            let why = format!("Unsupported value: \"{other}\"");
            let path = format!("{}type", dotted(path));
            return Err(SchemaError {
                path,
                value: Value::String(other.to_owned()),
                why,
            });
        }
    })
}

fn limits(openapi: &Value, kind: Type, path: &str) -> Result<Limits, SchemaError> {
    let number = |name: &str| openapi.get(name).and_then(Value::as_f64);
    let size = |name: &str| openapi.get(name).and_then(Value::as_u64);
    let sizes = match kind {
        Type::Array => ("minItems", "maxItems"),
        Type::Object => ("minProperties", "maxProperties"),
        _ => ("minLength", "maxLength"),
    };
    let pattern = match openapi.get("pattern").and_then(Value::as_str) {
        Some(pattern) => Some(Regex::new(pattern).map_err(|error| SchemaError {
            path: format!("{}pattern", dotted(path)),
            value: Value::String(pattern.to_owned()),
            why: format!("must be a valid regular expression, but isn't: {error}"),
        })?),
        None => None,
    };
    Ok(Limits {
        minimum: number("minimum").map(|n| (n, flag(openapi, "exclusiveMinimum"))),
        maximum: number("maximum").map(|n| (n, flag(openapi, "exclusiveMaximum"))),
        multiple_of: number("multipleOf"),
        min_size: size(sizes.0),
        max_size: size(sizes.1),
        pattern,
        one_of_values: array(openapi, "enum").to_vec(),
    })
}

fn list_type(openapi: &Value) -> ListType {
    match text(openapi, "x-kubernetes-list-type").as_str() {
        "set" => ListType::Set,
        "map" => ListType::Map(strings(openapi.get("x-kubernetes-list-map-keys"))),
        _ => ListType::Atomic,
    }
}

/// The prefix of a path below `path`.
pub(super) fn dotted(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    }
}

pub(super) fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn array<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
