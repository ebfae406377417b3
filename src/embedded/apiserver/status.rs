//! The Status bodies with which the API server refuses a request.

mod cause;

use serde_json::{Map, Value, json};

pub use self::cause::Cause;

/// A refused request: everything the body and the headers of the answer need.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason; empty where the real server sends none.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// The `details` member, if any.
    pub details: Option<Value>,
    /// Seconds of the `Retry-After` header, if any.
    pub retry_after: Option<u32>,
    /// A fresh token that continues an expired list.
    pub continue_token: Option<String>,
    /// The body is the message as plain text instead of a Status.
    pub plain: bool,
}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            retry_after: None,
            continue_token: None,
            plain: false,
        }
    }

    /// 400 with `message`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 500 with `message`; the real server gives no reason here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 404 in plain text: no such path.
    pub fn no_such_path() -> Self {
        Self {
            plain: true,
            ..Self::new(404, "NotFound", "404 page not found\n")
        }
    }

    /// 404 for a version of a known group.
    pub fn no_such_version() -> Self {
        let message = "the server could not find the requested resource";
        Self {
            details: Some(json!({})),
            ..Self::new(404, "NotFound", message)
        }
    }

    /// 404 for one object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(plural, group));
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(404, "NotFound", message)
        }
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(plural, group));
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(409, "AlreadyExists", message)
        }
    }

    /// 409: the object is not in the state the writer believed.
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(plural, group)
        );
        Self {
            details: Some(details(group, plural, name)),
            ..Self::new(409, "Conflict", message)
        }
    }

    /// 409: the resourceVersion the writer holds is not the current one.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why = "the object has been modified; \
                   please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    /// 422 with one cause per field.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for cause in causes {
            let text = cause.text();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let listed = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut body = details(group, kind, name);
        body["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        let message = format!("{} \"{name}\" is invalid: {listed}", qualified(kind, group));
        Self {
            details: Some(body),
            ..Self::new(422, "Invalid", message)
        }
    }

    /// 422 for a query parameter; `options` is the kind that holds it, such as `ListOptions`.
    pub fn invalid_option(options: &str, cause: Cause) -> Self {
        Self::invalid("meta.k8s.io", options, "", &[cause])
    }

    /// 422 for a patch that yields no valid object of the kind.
    pub fn invalid_patch(patched: &Value, why: &str) -> Self {
        let message = format!(
            "Invalid value: {}: {why}",
            Value::String(patched.to_string())
        );
        let causes = json!([{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]);
        let text = format!(" \"\" is invalid: patch: {message}");
        Self {
            details: Some(json!({"causes": causes})),
            ..Self::new(422, "Invalid", text)
        }
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self {
            details: Some(json!({})),
            ..Self::new(405, "MethodNotAllowed", message)
        }
    }

    /// 410: the version or token is older than what the server keeps.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 429: come back in a second.
    pub fn too_many_requests(message: &str) -> Self {
        Self {
            details: Some(json!({"retryAfterSeconds": 1})),
            retry_after: Some(1),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    /// 504: the wanted version lies in the future.
    pub fn version_too_large(wanted: u64, current: u64) -> Self {
        let cause = json!({
            "reason": "ResourceVersionTooLarge",
            "message": "Too large resource version",
        });
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        Self {
            details: Some(json!({"causes": [cause], "retryAfterSeconds": 1})),
            retry_after: Some(1),
            ..Self::new(504, "Timeout", message)
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body
    }
}

/// `plural.group`, or only `plural` in the core group.
pub fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(details)
}
