//! What the built-in kinds demand beyond their schema, as far as Forelay's writes meet it.

use serde_json::{Value, json};

use super::resource::Resource;
use super::status::Cause;

/// Longest ConfigMap, bytes of all values and keys.
const CONFIG_MAP_BYTES_MAX: usize = 1 << 20;
/// Longest note of an Event, bytes.
const NOTE_BYTES_MAX: usize = 1024;

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or \
    '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
    '[-._a-zA-Z0-9]+')";

/// Members with microseconds, per kind, as JSON pointers.
const MICRO_TIMES: [(&str, &[&str]); 2] = [
    ("Lease", &["/spec/acquireTime", "/spec/renewTime"]),
    ("Event", &["/eventTime", "/series/lastObservedTime"]),
];

/// Go's complaint about a time that has not exactly six fraction digits.
pub fn micro_time_error(resource: &Resource, object: &Value) -> Option<String> {
    if resource.custom {
        return None;
    }
    let (_, pointers) = MICRO_TIMES
        .iter()
        .find(|(kind, _)| *kind == resource.kind)?;
    pointers
        .iter()
        .filter_map(|pointer| object.pointer(pointer)?.as_str())
        .find_map(|text| {
            let (rest, wanted) = match text.parse::<jiff::Timestamp>() {
                Err(_) => (text, "2006"),
                Ok(_) => (text.get(19..).unwrap_or_default(), ".000000"),
            };
            let digits = rest
                .strip_prefix('.')
                .map(|rest| rest.find(|c: char| !c.is_ascii_digit()));
            if wanted == ".000000" && digits == Some(Some(6)) {
                return None;
            }
            Some(format!(
                "parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \
             \"{rest}\" as \"{wanted}\""
            ))
        })
}

/// Fills in what the real server always adds to a new object of the kind.
pub fn default(resource: &Resource, object: &mut Value) {
    if resource.custom {
        return;
    }
    match resource.kind.as_str() {
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        "Pod" => object["status"] = json!({"phase": "Pending"}),
        "Lease" if object.get("spec").is_none() => object["spec"] = json!({}),
        "Event" if resource.group.is_empty() => super::events::fill(object),
        _ => {}
    }
}

/// The part of a new object that nobody owns: what a typed server prints in any case, and what
/// `default` added.
pub fn baseline(resource: &Resource, object: &Value) -> Value {
    let mut nothing = json!({"metadata": {}});
    if resource.custom {
        return nothing;
    }
    nothing["spec"] = json!({});
    nothing["status"] = json!({});
    match resource.kind.as_str() {
        "Namespace" => {
            nothing["spec"] = object["spec"].clone();
            nothing["status"] = object["status"].clone();
        }
        "Event" if resource.group.is_empty() => super::events::fill(&mut nothing),
        "CustomResourceDefinition" => {
            nothing["spec"]["names"] = json!({});
            nothing["status"] = object["status"].clone();
        }
        _ => {}
    }
    nothing
}

/// The rules of the kind that `object` breaks; `live` is what it replaces.
pub fn check(resource: &Resource, object: &Value, live: Option<&Value>) -> Vec<Cause> {
    if resource.custom {
        return Vec::new();
    }
    match resource.kind.as_str() {
        "Lease" => check_lease(&object["spec"]),
        "ConfigMap" => check_config_map(object),
        "Event" if resource.group == "events.k8s.io" => match live {
            None => check_event(object),
            Some(live) => check_event_change(object, live),
        },
        _ => Vec::new(),
    }
}

fn check_lease(spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut at_least = |name: &str, min: i64, detail: &str| {
        if spec[name].as_i64().is_some_and(|found| found < min) {
            causes.push(Cause::invalid(format!("spec.{name}"), &spec[name], detail));
        }
    };
    at_least("leaseDurationSeconds", 1, "must be greater than 0");
    at_least("leaseTransitions", 0, "must be greater than or equal to 0");
    causes
}

/// Of an Event only the series changes; upstream names the members as the old form does.
fn check_event_change(event: &Value, live: &Value) -> Vec<Cause> {
    const FIXED: [(&str, &str); 8] = [
        ("note", "message"),
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
    ];
    let changed = FIXED
        .into_iter()
        .filter(|(name, _)| event[name] != live[name]);
    changed
        .map(|(name, shown)| Cause::invalid(shown, &event[name], "field is immutable"))
        .collect()
}

fn check_config_map(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for key in object["data"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.is_empty() || !key.chars().all(is_legal) {
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &json!(key),
                CONFIG_KEY,
            ));
        }
    }
    let data = object["data"].as_object().into_iter().flatten();
    let bytes: usize = data
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > CONFIG_MAP_BYTES_MAX {
        causes.push(Cause::too_long("[]", CONFIG_MAP_BYTES_MAX as u64));
    }
    causes
}

fn check_event(event: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    for name in [
        "eventTime",
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if text(name).is_empty() {
            causes.push(Cause::required(name, ""));
        }
    }
    if text("note").len() > NOTE_BYTES_MAX {
        let detail = format!("can have at most {NOTE_BYTES_MAX} characters");
        causes.push(Cause::invalid("message", &json!(""), &detail));
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        let detail = format!("has invalid value: {}", text("type"));
        causes.push(Cause::invalid("type", &json!(""), &detail));
    }
    let regarding = event["regarding"]["namespace"].as_str().unwrap_or_default();
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    if regarding.is_empty() && namespace != "default" {
        let detail = "does not match event.namespace";
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(""),
            detail,
        ));
    }
    causes
}
