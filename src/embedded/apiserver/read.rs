//! Lists in pages, each page of one list at the same version.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::machine::{Machine, served};
use super::selector::Selector;
use super::status::{ApiError, Cause};
use super::store::Key;
use super::target::Target;
use super::token::{Position, token};

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
            let Position { version, after } = Position::parse(text)?;
            return Ok((version, Some(after)));
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

/// Items of a built-in list name neither kind nor version.
fn without_type(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    object
}
