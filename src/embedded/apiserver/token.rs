//! Continue tokens: where a list goes on, in upstream's form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::status::ApiError;
use super::store::Key;

/// The content of a continue token, in upstream's form.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    /// Version of the list; -1 for whatever is current.
    rv: i64,
    /// Key after which to go on.
    start: String,
}

/// Where a list goes on.
#[derive(Debug)]
pub struct Position {
    /// Version of the list; none for whatever is current.
    pub version: Option<u64>,
    /// Key of the last object listed.
    pub after: Key,
}

impl Position {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let token = parse_token(text)?;
        let last = token.start.trim_end_matches('\0');
        let (namespace, name) = last.split_once('/').unwrap_or(("", last));
        let after = (namespace.to_owned(), name.to_owned());
        Ok(Self {
            version: u64::try_from(token.rv).ok(),
            after,
        })
    }
}

/// The token of a list at `version` (-1 for whatever is current) that goes on after `last`.
pub fn token(version: i64, last: &Key) -> String {
    let start = format!("{}/{}\0", last.0, last.1);
    let token = Token {
        v: "meta.k8s.io/v1".to_owned(),
        rv: version,
        start,
    };
    URL_SAFE_NO_PAD.encode(json!(token).to_string())
}

fn parse_token(text: &str) -> Result<Token, ApiError> {
    let why = |why: String| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| why(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| why(error.to_string()))
}
