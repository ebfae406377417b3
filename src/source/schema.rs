//! The JSON Schemas of what Forelay reads, as they are committed in `docs/schema`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::domain::scenario::Header;
use crate::domain::signal::Signal;

/// One signal: the value of a structured Kafka message, or any line but the first of a scenario.
///
/// It says what the decoder of Kafka messages takes: `time` and `observedtime` may be missing (a
/// scenario has both), extensions are accepted, an empty `id` or `source` is not.
#[must_use]
pub fn signal_schema() -> String {
    let mut schema = generate::<Signal>("Forelay signal");
    let optional = ["time", "observedtime"];
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !optional.iter().any(|optional| name == optional));
    }
    for attribute in ["/properties/id", "/properties/source"] {
        if let Some(Value::Object(attribute)) = schema.pointer_mut(attribute) {
            attribute.insert("minLength".into(), 1.into());
        }
    }
    text(&schema)
}

/// The first line of a scenario file.
#[must_use]
pub fn scenario_schema() -> String {
    text(&generate::<Header>("Forelay scenario: header line"))
}

fn generate<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    schema
}

fn text(schema: &Schema) -> String {
    let mut text =
        serde_json::to_string_pretty(schema).expect("a schema's maps have texts as keys");
    text.push('\n');
    text
}
