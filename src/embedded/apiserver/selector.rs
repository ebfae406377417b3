//! Label and field selectors, parsed with the server's own complaints.

mod labels;

use serde_json::Value;

use self::labels::{Requirement, requirements};
use super::resource::Resource;
use super::status::ApiError;

/// A conjunction of label and field requirements; the empty one selects everything.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Parses the two query parameters for `resource`.
    pub fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        resource: &Resource,
    ) -> Result<Self, ApiError> {
        let labels = match labels {
            Some(text) => requirements(text).map_err(ApiError::bad_request)?,
            None => Vec::new(),
        };
        let mut terms = Vec::new();
        for term in fields
            .unwrap_or_default()
            .split(',')
            .filter(|term| !term.is_empty())
        {
            terms.push(field_term(term, resource)?);
        }
        Ok(Self {
            labels,
            fields: terms,
        })
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` meets every requirement.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels
            .iter()
            .all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let found = self
            .path
            .split('.')
            .try_fold(object, |at, member| at.get(member));
        let text = match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            _ if self.path == "spec.unschedulable" => "false".to_owned(),
            _ => String::new(),
        };
        (text == self.value) == self.equal
    }
}

fn field_term(term: &str, resource: &Resource) -> Result<FieldTerm, ApiError> {
    let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
        (path, false, value)
    } else if let Some((path, value)) = term.split_once("==") {
        (path, true, value)
    } else if let Some((path, value)) = term.split_once('=') {
        (path, true, value)
    } else {
        let message = format!("invalid selector: '{term}'; can't understand '{term}'");
        return Err(ApiError::bad_request(message));
    };
    let known = matches!(path, "metadata.name" | "metadata.namespace")
        || resource.selectable.iter().any(|field| field == path);
    if known {
        return Ok(FieldTerm {
            path: path.to_owned(),
            equal,
            value: value.to_owned(),
        });
    }
    Err(ApiError::bad_request(
        if resource.selectable.is_empty() && !resource.custom {
            format!(
                "\"{path}\" is not a known field selector: only \"metadata.name\", \
             \"metadata.namespace\""
            )
        } else {
            format!("field label not supported: {path}")
        },
    ))
}
