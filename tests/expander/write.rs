//! Kubernetes objects from JSON into protobuf, by definitions that are not those under test.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde_json::{Map, Value as Json};

/// Members of these fields stand in the JSON of the message that holds them (Go's `json:",inline"`).
const INLINE: [&str; 4] = [
    "volumeSource",
    "handler",
    "ephemeralContainerCommon",
    "localObjectReference",
];

/// Reads the definitions in `tests/expander`.
pub struct Writer(DescriptorPool);

impl Writer {
    pub fn new() -> Self {
        Self(definitions("tests/expander", "whole.proto"))
    }

    /// `message` is `Pod` or `Node`.
    pub fn write(&self, message: &str, object: &Json) -> Vec<u8> {
        let descriptor = self.message(message);
        written(&descriptor, object).encode_to_vec()
    }

    pub fn message(&self, name: &str) -> MessageDescriptor {
        let name = format!("whole.{name}");
        self.0.get_message_by_name(&name).expect(&name)
    }
}

/// A compiled definition of this repository.
pub fn definitions(folder: &str, file: &str) -> DescriptorPool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.open_file(file).unwrap();
    compiler.descriptor_pool()
}

fn written(descriptor: &MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match (descriptor.name(), json) {
        ("Quantity", json) => {
            let text = json
                .as_str()
                .map_or_else(|| json.to_string(), str::to_owned);
            message.set_field_by_name("string", Value::String(text));
        }
        ("Time", Json::String(text)) => {
            let time: jiff::Timestamp = text.parse().unwrap();
            message.set_field_by_name("seconds", Value::I64(time.as_second()));
            message.set_field_by_name("nanos", Value::I32(0));
        }
        ("FieldsV1", json) => {
            let raw = json.to_string().into_bytes();
            message.set_field_by_name("Raw", Value::Bytes(raw.into()));
        }
        ("IntOrString", Json::Number(number)) => {
            let number = number.as_i64().unwrap() as i32;
            message.set_field_by_name("type", Value::I64(0));
            message.set_field_by_name("intVal", Value::I32(number));
        }
        ("IntOrString", Json::String(text)) => {
            message.set_field_by_name("type", Value::I64(1));
            message.set_field_by_name("strVal", Value::String(text.clone()));
        }
        (_, Json::Object(members)) => {
            for field in descriptor.fields() {
                member(&mut message, &field, members);
            }
        }
        (name, json) => panic!("{name} cannot be made of {json}"),
    }
    message
}

fn member(message: &mut DynamicMessage, field: &FieldDescriptor, members: &Map<String, Json>) {
    let found = members.get(field.name()).filter(|json| !json.is_null());
    let value = match found {
        Some(json) if field.is_map() => map(field, json),
        Some(json) if field.is_list() => {
            let items = json.as_array().unwrap().iter();
            Value::List(items.map(|item| single(&field.kind(), item)).collect())
        }
        Some(json) => single(&field.kind(), json),
        None => match field.kind() {
            // Kubernetes writes texts that are not set as empty ones.
            Kind::String if !field.is_list() && !field.is_map() => Value::String(String::new()),
            Kind::Message(inner) if INLINE.contains(&field.name()) => {
                Value::Message(written(&inner, &Json::Object(members.clone())))
            }
            _ => return,
        },
    };
    message.set_field(field, value);
}

fn map(field: &FieldDescriptor, json: &Json) -> Value {
    let Kind::Message(entry) = field.kind() else {
        panic!("{} is no map", field.name());
    };
    let kind = entry.map_entry_value_field().kind();
    let entries = json.as_object().unwrap().iter();
    let entries: HashMap<MapKey, Value> = entries
        .map(|(key, value)| (MapKey::String(key.clone()), single(&kind, value)))
        .collect();
    Value::Map(entries)
}

fn single(kind: &Kind, json: &Json) -> Value {
    match kind {
        Kind::String => Value::String(json.as_str().unwrap().to_owned()),
        Kind::Bool => Value::Bool(json.as_bool().unwrap()),
        Kind::Int32 => Value::I32(json.as_i64().unwrap() as i32),
        Kind::Int64 => Value::I64(json.as_i64().unwrap()),
        Kind::Message(inner) => Value::Message(written(inner, json)),
        other => panic!("{other:?} is in no object of these tests"),
    }
}
