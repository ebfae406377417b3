//! What is wrong with the metadata of a complete object.

use serde_json::{Value, json};

use super::{finalizers, text};
use crate::embedded::apiserver::status::Cause;

/// What is wrong with the metadata of a complete object.
pub fn check(object: &Value, live: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    match text(object, "name") {
        None => causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        )),
        Some(name) if !is_subdomain(name) => {
            causes.push(Cause::invalid("metadata.name", &json!(name), SUBDOMAIN));
        }
        Some(_) => {}
    }
    if let Some(live) = live {
        let uid = &object["metadata"]["uid"];
        if uid != &live["metadata"]["uid"] {
            let cause = Cause::invalid("metadata.uid", uid, "field is immutable");
            // Upstream checks this twice, and clients see it twice.
            causes.extend([cause.clone(), cause]);
        }
        causes.extend(new_finalizers(object, live));
    }
    causes.extend(two_controllers(object));
    causes
}

fn new_finalizers(object: &Value, live: &Value) -> Vec<Cause> {
    if live["metadata"].get("deletionTimestamp").is_none() {
        return Vec::new();
    }
    let before = finalizers(live);
    let added: Vec<String> = finalizers(object)
        .into_iter()
        .filter(|finalizer| !before.contains(finalizer))
        .map(|finalizer| format!("\"{finalizer}\""))
        .collect();
    if added.is_empty() {
        return Vec::new();
    }
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers \
         []string{{{}}}",
        added.join(", ")
    );
    let cause = Cause::rule("FieldValueForbidden", "metadata.finalizers", &detail);
    vec![cause.clone(), cause]
}

fn two_controllers(object: &Value) -> Option<Cause> {
    let references = object["metadata"].get("ownerReferences")?;
    let controllers: Vec<String> = references
        .as_array()?
        .iter()
        .filter(|reference| reference["controller"] == json!(true))
        .map(|reference| {
            let text = |name: &str| reference[name].as_str().unwrap_or_default();
            format!("{}/{}", text("kind"), text("name"))
        })
        .collect();
    let [first, second, ..] = controllers.as_slice() else {
        return None;
    };
    let detail = format!(
        "Only one reference can have Controller set to true. Found \"true\" in references for \
         {first} and {second}"
    );
    Some(Cause::invalid(
        "metadata.ownerReferences",
        references,
        &detail,
    ))
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_subdomain(name: &str) -> bool {
    let is_edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|&c| is_edge(c))
            && bytes.last().is_some_and(|&c| is_edge(c))
            && bytes.iter().all(|&c| is_edge(c) || c == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
