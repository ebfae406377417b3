//! One HTTP request as the machine understands it: query and headers read, values checked.

use axum::http::{HeaderMap, Uri, header};
use serde_json::{Value, json};

use super::read::ListQuery;
use super::resource::Resource;
use super::selector::Selector;
use super::status::{ApiError, Cause};
use super::watch::WatchQuery;
use super::write::{FieldValidation, WriteOptions};
use crate::domain::time::Timestamp;

/// The query parameters of a request.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

/// In which form objects go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Whole.
    Full,
    /// Only their metadata (`PartialObjectMetadata`).
    Metadata,
}

impl Params {
    /// Reads the query of `uri`.
    pub fn of(uri: &Uri) -> Self {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self(pairs.map(|query| query.0).unwrap_or_default())
    }

    /// The value of a parameter; empty ones count as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Whether a parameter is true.
    pub fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | "True" | "t"))
    }

    /// A whole number; the error is Go's.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let wrong = || {
            let message = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
            ApiError::bad_request(message)
        };
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// The selectors.
    pub fn selector(&self, resource: &Resource) -> Result<Selector, ApiError> {
        Selector::parse(
            self.get("labelSelector"),
            self.get("fieldSelector"),
            resource,
        )
    }

    /// The query of a list.
    pub fn list(&self, resource: &Resource) -> Result<ListQuery, ApiError> {
        let text = |name| self.get(name).map(str::to_owned);
        Ok(ListQuery {
            limit: self.number("limit")?.unwrap_or(0) as usize,
            token: text("continue"),
            version: text("resourceVersion"),
            version_match: text("resourceVersionMatch"),
            selector: self.selector(resource)?,
        })
    }

    /// The query of a watch.
    pub fn watch(&self, resource: &Resource) -> Result<WatchQuery, ApiError> {
        Ok(WatchQuery {
            selector: self.selector(resource)?,
            version: self.get("resourceVersion").map(str::to_owned),
            bookmarks: self.is("allowWatchBookmarks"),
            initial_events: self.is("sendInitialEvents"),
        })
    }

    /// Whether this is a trial; `options` names the kind of options in the refusal.
    pub fn dry_run(&self, options: &str) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let cause = Cause::not_supported("dryRun", &json!([other]), &[json!("All")]);
                Err(ApiError::invalid_option(options, cause))
            }
        }
    }

    /// How a write is meant.
    pub fn write(
        &self,
        options: &str,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<WriteOptions, ApiError> {
        let validation = match self.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let known: Vec<Value> = ["", "Ignore", "Strict", "Warn"].map(Value::from).to_vec();
                let cause = Cause::not_supported("fieldValidation", &json!(other), &known);
                return Err(ApiError::invalid_option(options, cause));
            }
        };
        let manager = self.get("fieldManager").map(str::to_owned);
        Ok(WriteOptions {
            manager: manager.unwrap_or_else(|| user_agent(headers)),
            dry_run: self.dry_run(options)?,
            validation,
            force: self.is("force"),
            now,
        })
    }
}

/// A writer who names no field manager is known by the first part of its User-Agent.
fn user_agent(headers: &HeaderMap) -> String {
    let agent = text(headers, header::USER_AGENT);
    let name = agent.split('/').next().unwrap_or_default();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name.chars().take(128).collect()
    }
}

/// A header's text; empty when absent.
fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The media type of the body, without parameters, lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let media = text(headers, header::CONTENT_TYPE);
    media
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether a body of a create or update is YAML; 415 for what is neither JSON nor YAML.
pub fn is_yaml(headers: &HeaderMap) -> Result<bool, ApiError> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(false),
        "application/yaml" => Ok(true),
        _ => Err(unknown_format(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// 415, naming what would do.
pub fn unknown_format(accepted: &str) -> ApiError {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
         {accepted}"
    );
    ApiError::new(415, "UnsupportedMediaType", message)
}

/// The form the client accepts: the first of its wishes that this server can meet.
pub fn view(headers: &HeaderMap) -> Result<View, ApiError> {
    let accept = text(headers, header::ACCEPT);
    if accept.is_empty() {
        return Ok(View::Full);
    }
    for wish in accept.split(',') {
        let mut parts = wish.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !matches!(media, "application/json" | "application/*" | "*/*") {
            continue;
        }
        match parts.find_map(|part| part.strip_prefix("as=")) {
            None => return Ok(View::Full),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => {
                return Ok(View::Metadata);
            }
            Some(_) => {}
        }
    }
    let message = "406: Not Acceptable\n\nAvailable representations: application/json, \
                   application/yaml, application/vnd.kubernetes.protobuf, \
                   application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    Err(ApiError {
        details: Some(json!({})),
        ..ApiError::new(406, "NotAcceptable", message)
    })
}

impl View {
    /// One object in this form.
    pub fn object(self, object: Value) -> Value {
        match self {
            Self::Full => object,
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            }),
        }
    }

    /// A list in this form.
    pub fn list(self, list: Value) -> Value {
        if self == Self::Full {
            return list;
        }
        let items = list["items"].as_array().cloned().unwrap_or_default();
        json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": list["metadata"],
            "items": items.into_iter().map(|item| self.object(item)).collect::<Vec<_>>(),
        })
    }
}
