//! Request bodies: JSON or YAML into a value, with the complaints a strict server makes.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::schema::{Schema, Type};
use super::status::ApiError;

/// A body, and the paths of members that it gave twice; the later one counts.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// Members given more than once.
    pub duplicates: Vec<String>,
}

impl Decoded {
    /// A value that was never text.
    pub fn of(value: Value) -> Self {
        Self {
            value,
            duplicates: Vec::new(),
        }
    }
}

/// Decodes the body of a create or update of `kind`.
pub fn object(body: &[u8], yaml: bool, kind: &str) -> Result<Decoded, ApiError> {
    let failed = |why: String| {
        let shown = match String::from_utf8_lossy(body) {
            text if text.is_empty() => "<empty>".to_owned(),
            text if text.chars().count() > 30 => {
                format!("{} ...", text.chars().take(30).collect::<String>())
            }
            text => text.into_owned(),
        };
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get \
             version/kind; json parse error: {why} ({shown})"
        ))
    };
    if yaml {
        parse_yaml(body).map_err(failed)
    } else {
        parse_json(body).map_err(failed)
    }
}

/// Decodes a merge or JSON patch.
pub fn patch(body: &[u8]) -> Result<Value, ApiError> {
    parse_json(body)
        .map(|decoded| decoded.value)
        .map_err(|why| ApiError::bad_request(format!("error decoding patch: {why}")))
}

/// Decodes an applied object, which may be YAML.
pub fn applied(body: &[u8]) -> Result<Decoded, ApiError> {
    parse_json(body)
        .or_else(|_| parse_yaml(body))
        .map_err(|why| {
            ApiError::bad_request(format!(
                "error decoding YAML: error converting YAML to JSON: {why}"
            ))
        })
}

fn parse_yaml(body: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    serde_saphyr::from_str(text)
        .map(Decoded::of)
        .map_err(|error| error.to_string())
}

fn parse_json(body: &[u8]) -> Result<Decoded, String> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed {
        duplicates: &duplicates,
        path: String::new(),
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            if error.is_eof() {
                "unexpected end of JSON input".to_owned()
            } else {
                error.to_string()
            }
        })?;
    Ok(Decoded {
        value,
        duplicates: duplicates.into_inner(),
    })
}

/// Builds a value and notes the members that come twice.
struct Seed<'a> {
    duplicates: &'a RefCell<Vec<String>>,
    path: String,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            let seed = Seed {
                duplicates: self.duplicates,
                path,
            };
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = if self.path.is_empty() {
                name.clone()
            } else {
                format!("{}.{name}", self.path)
            };
            let seed = Seed {
                duplicates: self.duplicates,
                path: path.clone(),
            };
            let value = members.next_value_seed(seed)?;
            if map.insert(name, value).is_some() {
                self.duplicates.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(map))
    }
}

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
            mismatch(inner, child, &super::validate::join(path, name))
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
