//! Request bodies: JSON or YAML into a value, with the complaints a strict server makes.

mod seed;
mod typed;

use std::cell::RefCell;

use serde::de::DeserializeSeed;
use serde_json::Value;

use self::seed::Seed;
pub use self::typed::mismatch;
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
    let seed = Seed::new(&duplicates);
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
