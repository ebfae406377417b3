//! The two forms of an Event, which are one object.

use serde_json::{Map, Value, json};

/// (name in events.k8s.io/v1, name in v1)
const RENAMED: [(&str, &str); 7] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Members that the real server prints even when they are empty.
fn core_always() -> Value {
    json!({
        "source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null,
        "reportingComponent": "", "reportingInstance": "",
    })
}

/// The v1 form of an events.k8s.io/v1 Event.
pub fn to_core(event: &Value) -> Value {
    let mut core = renamed(event, |(new, old)| (new, old));
    core["apiVersion"] = json!("v1");
    fill(&mut core);
    core
}

/// The events.k8s.io/v1 form of a v1 Event.
pub fn from_core(core: &Value) -> Value {
    let mut event = renamed(core, |(new, old)| (old, new));
    event["apiVersion"] = json!("events.k8s.io/v1");
    // Upstream leaves these out of the new form when they are empty.
    if let Some(map) = event.as_object_mut() {
        let is_void = |name: &str, value: &Value| {
            matches!(name, "reportingController" | "reportingInstance") && value == &json!("")
        };
        map.retain(|name, value| !is_void(name, value));
    }
    event
}

/// Adds the members that a v1 Event always shows.
pub fn fill(core: &mut Value) {
    let Some(map) = core.as_object_mut() else {
        return;
    };
    for (name, empty) in core_always().as_object().into_iter().flatten() {
        map.entry(name).or_insert_with(|| empty.clone());
    }
}

fn renamed(
    event: &Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    let mut out = Map::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        let pair = RENAMED
            .iter()
            .map(|&pair| direction(pair))
            .find(|(from, _)| from == name);
        let name = pair.map_or(name.as_str(), |(_, to)| to);
        out.insert(name.to_owned(), value.clone());
    }
    Value::Object(out)
}
