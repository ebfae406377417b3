//! The generated schemas describe what the decoders read: examples and scenarios.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use forelay::domain::time::Timestamp;
use forelay::source::cloudevents::{Limits, encode, structured};
use forelay::source::schema;
use serde_json::{Value, json};

fn committed(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// As much of JSON Schema 2020-12 as the generated schemas use; an unknown keyword panics. (The
/// validators on crates.io switch on features of serde_json or idna that the product does not have:
/// tests would run another build of half the dependencies.)
struct Validator {
    root: Value,
}

impl Validator {
    fn of(schema: &str) -> Self {
        Self {
            root: serde_json::from_str(schema).unwrap(),
        }
    }

    #[track_caller]
    fn accepts(&self, value: &Value) {
        if let Err(problem) = self.check(&self.root, value) {
            panic!("{problem} in {value}");
        }
    }

    #[track_caller]
    fn refuses(&self, value: &Value) {
        assert!(self.check(&self.root, value).is_err(), "{value}");
    }

    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let Value::Object(keywords) = schema else {
            let is_true = schema.as_bool().unwrap();
            return if is_true {
                Ok(())
            } else {
                Err("not allowed".into())
            };
        };
        for (keyword, rule) in keywords {
            self.keyword(schema, keyword, rule, value)
                .map_err(|inner| format!("{keyword}: {inner}"))?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        schema: &Value,
        keyword: &str,
        rule: &Value,
        value: &Value,
    ) -> Result<(), String> {
        let holds = match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                return self.check(self.root.pointer(pointer).unwrap(), value);
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| is_type(one, value)),
                one => is_type(one, value),
            },
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= rule.as_f64().unwrap()),
            "format" => match (rule.as_str().unwrap(), value.as_str()) {
                ("date-time", Some(text)) => text.parse::<Timestamp>().is_ok(),
                ("date-time" | "double" | "uint32" | "uint64", _) => true,
                (other, _) => panic!("format {other}"),
            },
            // Digests and workloads: the decoder's own tests are about them.
            "pattern" => true,
            "required" => {
                let names = rule.as_array().unwrap();
                names
                    .iter()
                    .all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "oneOf" | "anyOf" => {
                let options = rule.as_array().unwrap().iter();
                let fitting = options.filter(|one| self.check(one, value).is_ok()).count();
                fitting == 1 || (fitting > 1 && keyword == "anyOf")
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                return items.try_for_each(|item| self.check(rule, item));
            }
            "properties" | "additionalProperties" => {
                return self.members(schema, keyword, rule, value);
            }
            other => panic!("keyword {other} is not understood by this test"),
        };
        if holds { Ok(()) } else { Err(rule.to_string()) }
    }

    fn members(
        &self,
        schema: &Value,
        keyword: &str,
        rule: &Value,
        value: &Value,
    ) -> Result<(), String> {
        for (name, member) in value.as_object().into_iter().flatten() {
            let named = schema["properties"].get(name);
            let rule = match keyword {
                "properties" => named,
                _ => Some(rule).filter(|_| named.is_none()),
            };
            rule.map_or(Ok(()), |rule| self.check(rule, member))
                .map_err(|inner| format!("{name}: {inner}"))?;
        }
        Ok(())
    }
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("type {other}"),
    }
}

fn validator() -> Validator {
    Validator::of(&schema::signal_schema())
}

fn examples() -> Vec<Value> {
    committed("docs/examples/signals.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn decodes(event: &Value) -> bool {
    let bytes = serde_json::to_vec(event).unwrap();
    structured(&bytes, Timestamp::ZERO, &Limits::default()).is_ok()
}

#[test]
fn there_is_an_example_of_every_type_and_each_is_valid_and_read() {
    let validator = validator();
    let mut types = BTreeSet::new();
    for event in examples() {
        validator.accepts(&event);
        let bytes = serde_json::to_vec(&event).unwrap();
        let signal = structured(&bytes, Timestamp::ZERO, &Limits::default()).unwrap();
        types.insert(signal.fact.event_type().to_owned());
        let written: Value = serde_json::from_slice(&encode(&signal).value).unwrap();
        validator.accepts(&written);
    }
    let schema: Value = serde_json::from_str(&schema::signal_schema()).unwrap();
    let known = schema["oneOf"].as_array().unwrap().iter();
    let known: BTreeSet<String> = known
        .map(|fact| {
            fact["properties"]["type"]["const"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(types, known);
}

#[test]
fn what_the_schema_refuses_the_decoder_refuses_too() {
    let validator = validator();
    for mut event in examples() {
        assert!(decodes(&event));
        for (pointer, value) in [
            ("/id", json!("")),
            ("/source", json!(7)),
            ("/specversion", json!("0.3")),
            ("/type", json!("com.example.other")),
            ("/data", json!({"colour": "red"})),
            ("/time", json!("yesterday")),
        ] {
            let good = event
                .pointer_mut(pointer)
                .map(|place| std::mem::replace(place, value));
            validator.refuses(&event);
            assert!(!decodes(&event), "{pointer} of {event}");
            *event.pointer_mut(pointer).unwrap() = good.unwrap();
        }
        event["traceparent"] = json!("00-1");
        validator.accepts(&event);
        assert!(decodes(&event), "{event}");
    }
}

#[test]
fn the_headers_of_the_scenarios_are_what_the_schema_says() {
    let validator = Validator::of(&schema::scenario_schema());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "zst") {
            let bytes = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
            let first = bytes.split(|b| *b == b'\n').next().unwrap();
            let header: Value = serde_json::from_slice(first).unwrap();
            validator.accepts(&header);
            seen += 1;
        }
    }
    assert!(seen > 0, "no scenarios");
}
