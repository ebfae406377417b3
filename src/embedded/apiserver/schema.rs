//! Structural schemas: what the members of a kind are.

mod names;
mod openapi;
mod structural;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::Value;

pub use self::openapi::Reader;
use super::cel::Rule;

/// The JSON type a schema demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A struct or a map.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or text (IntOrString, Quantity).
    IntOrString,
    /// Whatever comes.
    Any,
}

impl Type {
    /// The OpenAPI name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
            Self::Any => "any",
        }
    }

    /// Whether `value` is of this type.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => is_whole(value),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::IntOrString => value.is_string() || value.is_number(),
            Self::Any => true,
        }
    }
}

/// How server-side apply treats a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// One value, owned as a whole.
    #[default]
    Atomic,
    /// Distinct scalars, owned one by one.
    Set,
    /// Structs told apart by these members.
    Map(Vec<String>),
}

/// Bounds on numbers, text, lists and maps.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Smallest number, and whether it is itself excluded.
    pub minimum: Option<(f64, bool)>,
    /// Largest number, and whether it is itself excluded.
    pub maximum: Option<(f64, bool)>,
    /// Divisor of the number.
    pub multiple_of: Option<f64>,
    /// Fewest characters, items or members.
    pub min_size: Option<u64>,
    /// Most characters, items or members.
    pub max_size: Option<u64>,
    /// Pattern that text must contain.
    pub pattern: Option<Regex>,
    /// The values allowed; empty when any is.
    pub one_of_values: Vec<Value>,
}

/// One node of a structural schema.
#[derive(Debug, Clone)]
pub struct Schema {
    /// JSON type.
    pub kind: Type,
    /// OpenAPI format, such as `date-time`; empty when none.
    pub format: String,
    /// Members of a struct.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Schema of the values of a map.
    pub values: Option<Arc<Schema>>,
    /// Schema of the items of a list.
    pub items: Option<Arc<Schema>>,
    /// Members that have to be there.
    pub required: Vec<String>,
    /// Unknown members are kept.
    pub preserve: bool,
    /// null is a value, not an absence.
    pub nullable: bool,
    /// Value of an absent member.
    pub default: Option<Value>,
    /// Bounds.
    pub limits: Limits,
    /// How apply treats a list.
    pub list: ListType,
    /// Apply owns the map as a whole.
    pub atomic: bool,
    /// CEL rules of this node.
    pub rules: Vec<Arc<Rule>>,
    /// Whether a CEL rule sits here or below.
    pub has_rules: bool,
    /// Schemas that must all hold, hold at least once, hold exactly once, and not hold.
    pub combined: Combined,
}

/// The logical combinators of one node.
#[derive(Debug, Clone, Default)]
pub struct Combined {
    /// Every one holds.
    pub all_of: Vec<Arc<Schema>>,
    /// At least one holds.
    pub any_of: Vec<Arc<Schema>>,
    /// Exactly one holds.
    pub one_of: Vec<Arc<Schema>>,
    /// Does not hold.
    pub not: Option<Arc<Schema>>,
}

/// A schema that cannot be served, with the path of the node at fault.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct SchemaError {
    /// Path below `openAPIV3Schema`, such as `properties[spec].x-kubernetes-validations[0].rule`.
    pub path: String,
    /// The value that is wrong, as the server prints it.
    pub value: Value,
    /// What is wrong with it.
    pub why: String,
}

static ANY: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(Schema::new(Type::Any)));

impl Schema {
    /// A schema of one type and nothing else. `Any` keeps unknown members.
    pub fn new(kind: Type) -> Self {
        Self {
            kind,
            format: String::new(),
            properties: BTreeMap::new(),
            values: None,
            items: None,
            required: Vec::new(),
            preserve: kind == Type::Any,
            nullable: kind == Type::Any,
            default: None,
            limits: Limits::default(),
            list: ListType::Atomic,
            atomic: false,
            rules: Vec::new(),
            has_rules: false,
            combined: Combined::default(),
        }
    }

    /// The schema of which nothing is known: maps are open, lists are atomic.
    pub fn any() -> Arc<Self> {
        Arc::clone(&ANY)
    }

    /// The schema of member `name`, and whether it is a declared member of a struct.
    pub fn member(&self, name: &str) -> Option<(&Arc<Self>, bool)> {
        if let Some(schema) = self.properties.get(name) {
            return Some((schema, true));
        }
        match &self.values {
            Some(schema) => Some((schema, false)),
            None if self.preserve => Some((&ANY, false)),
            None => None,
        }
    }

    /// The schema of list items.
    pub fn item(&self) -> &Arc<Self> {
        self.items.as_ref().unwrap_or(&ANY)
    }

    /// Reads the `openAPIV3Schema` of a CRD version, CEL rules compiled.
    pub fn parse(openapi: &Value) -> Result<Self, SchemaError> {
        Reader::custom().schema(openapi)
    }
}

/// Whether `value` is a whole number; 3.0 is one, as in Go's JSON.
pub fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

/// The strings of a JSON list, others left out.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value
        .and_then(Value::as_array)
        .map_or(&[] as &[Value], Vec::as_slice);
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
