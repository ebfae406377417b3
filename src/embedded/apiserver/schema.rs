//! Structural schemas: what the members of a kind are, read from OpenAPI v3.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::{Map, Value};

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

/// Deep enough for any hand-written CRD, shallow enough for the stack.
const DEPTH_MAX: usize = 64;

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
        let reader = Reader {
            definitions: &Map::new(),
            known: HashMap::new(),
            names: false,
        };
        let mut reader = reader;
        reader.node(openapi, String::new(), 0)
    }
}

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
                schema.atomic = ATOMIC_STRUCTS
                    .iter()
                    .any(|s| name.ends_with(&format!(".{s}")));
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
                value: super::cel::printed_rule(rule),
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

/// Definitions that upstream marks `x-kubernetes-map-type: atomic`.
const ATOMIC_STRUCTS: [&str; 11] = [
    "ConfigMapKeySelector",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "SecretKeySelector",
];

/// Lists that upstream marks `x-kubernetes-list-type: map`, with their keys.
const KEYED_LISTS: [(&str, &[&str]); 18] = [
    ("addresses", &["type"]),
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("podIPs", &["ip"]),
    ("ports", &["containerPort", "protocol"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("secrets", &["name"]),
    (
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

fn by_name(name: &str, schema: Arc<Schema>) -> Arc<Schema> {
    let list = if matches!(name, "finalizers" | "podCIDRs") {
        ListType::Set
    } else if let Some((_, keys)) = KEYED_LISTS.iter().find(|(list, _)| *list == name) {
        ListType::Map(keys.iter().map(|&key| key.to_owned()).collect())
    } else if name == "nodeSelector" && schema.kind == Type::Object {
        return Arc::new(Schema {
            atomic: true,
            ..(*schema).clone()
        });
    } else {
        return schema;
    };
    if schema.kind != Type::Array {
        return schema;
    }
    Arc::new(Schema {
        list,
        ..(*schema).clone()
    })
}

/// The rules of structural schemas that hand-written definitions most often break. The parts of
/// allOf, anyOf, oneOf and not are values, which need no type.
fn structural(openapi: &Value, path: &str, depth: usize) -> Result<(), SchemaError> {
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

/// Whether `value` is a whole number; 3.0 is one, as in Go's JSON.
pub fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

fn dotted(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    }
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn text(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn array<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
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
