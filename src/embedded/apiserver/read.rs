//! Lists in pages, each page of one list at the same version.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::machine::{Machine, Target, served};
use super::selector::Selector;
use super::status::{ApiError, Cause};
use super::store::Key;

/// The query of a list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Which objects.
    pub selector: Selector,
    /// Objects per page; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub token: Option<String>,
    /// Version asked for.
    pub version: Option<String>,
    /// How exactly the version is meant.
    pub version_match: Option<String>,
}

/// The content of a continue token, in upstream's form.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    /// Version of the list; -1 for whatever is current.
    rv: i64,
    /// Key after which to go on.
    start: String,
}

impl Machine {
    /// Lists a collection.
    pub fn list(&self, target: &Target, query: &ListQuery) -> Result<Value, ApiError> {
        let resource = &target.resource;
        let (version, after) = self.position(query)?;
        let Some(objects) = self.objects(resource, version) else {
            return Err(expired(query, after.as_ref()));
        };
        let version = version.unwrap_or(self.version());
        let as_stored = resource.api_version() == resource.stored_version;
        let mut page = Vec::new();
        let mut more = None;
        let mut remaining = 0_usize;
        for (key, object) in &objects {
            let in_namespace = target.namespace.is_empty() || key.0 == target.namespace;
            if !in_namespace || after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            let object = if as_stored {
                Cow::Borrowed(&**object)
            } else {
                Cow::Owned(served(resource, object))
            };
            if !query.selector.matches(&object) {
                continue;
            }
            if query.limit > 0 && page.len() == query.limit {
                remaining += 1;
                continue;
            }
            more = Some(key.clone());
            let object = object.into_owned();
            page.push(if resource.custom {
                object
            } else {
                without_type(object)
            });
        }
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        if let (Some(last), true) = (more, remaining > 0) {
            metadata.insert("continue".to_owned(), json!(token(version as i64, &last)));
            if query.selector.is_empty() {
                metadata.insert("remainingItemCount".to_owned(), json!(remaining));
            }
        } else if resource.custom {
            metadata.insert("continue".to_owned(), json!(""));
        }
        Ok(json!({
            "kind": resource.list_kind, "apiVersion": resource.api_version(),
            "metadata": metadata, "items": page,
        }))
    }

    /// The version to list at (none for now) and the key after which to begin.
    fn position(&self, query: &ListQuery) -> Result<(Option<u64>, Option<Key>), ApiError> {
        let asked = query
            .version
            .as_deref()
            .filter(|version| !version.is_empty());
        let matching = query.version_match.as_deref().filter(|how| !how.is_empty());
        if let Some(text) = query.token.as_deref().filter(|token| !token.is_empty()) {
            if asked.is_some_and(|version| version != "0") {
                let message = "specifying resource version is not allowed when using continue";
                return Err(ApiError::bad_request(message));
            }
            let token = parse_token(text)?;
            let after = token.start.trim_end_matches('\0');
            let (namespace, name) = after.split_once('/').unwrap_or(("", after));
            let version = u64::try_from(token.rv).ok();
            return Ok((version, Some((namespace.to_owned(), name.to_owned()))));
        }
        let forbidden = |detail: String| {
            let cause = Cause::rule("FieldValueForbidden", "resourceVersionMatch", &detail);
            Err(ApiError::invalid_option("ListOptions", cause))
        };
        match (asked, matching) {
            (None, Some(_)) => forbidden(
                "resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned(),
            ),
            (Some("0"), Some("Exact")) => forbidden(
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"".to_owned(),
            ),
            (None, None) => Ok((None, None)),
            (Some(text), matching) => {
                let version = parse_version(text).map_err(|why| {
                    ApiError::bad_request(format!("invalid resource version: {why}"))
                })?;
                if version > self.version() {
                    return Err(ApiError::version_too_large(version, self.version()));
                }
                Ok((Some(version).filter(|_| matching == Some("Exact")), None))
            }
        }
    }
}

/// 410, with a token that goes on where the old one cannot.
fn expired(query: &ListQuery, after: Option<&Key>) -> ApiError {
    match after.filter(|_| query.token.is_some()) {
        Some(after) => ApiError {
            continue_token: Some(token(-1, after)),
            ..ApiError::expired(
                "The provided continue parameter is too old to display a consistent list \
                 result. You can start a new list without the continue parameter, or use the \
                 continue token in this response to retrieve the remainder of the results. \
                 Continuing with the provided token results in an inconsistent list - objects \
                 that were created, modified, or deleted between the time the first chunk was \
                 returned and now may show up in the list.",
            )
        },
        None => ApiError::expired("The resourceVersion for the provided list is too old."),
    }
}

/// A resourceVersion as a number; the error is the server's.
pub fn parse_version(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!(
            "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": \
             invalid syntax"
        )
    })
}

fn token(version: i64, last: &Key) -> String {
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

/// Items of a built-in list name neither kind nor version.
fn without_type(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    object
}
