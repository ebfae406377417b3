//! Whether an answer says what the recorded one says.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::correspondence::Correspondence;

/// Compares answers; collects the differences, each beginning with its place.
pub struct Comparer<'a> {
    known: &'a mut Correspondence,
    /// What differs, as `PLACE: how`.
    pub differences: Vec<String>,
}

/// Whose version a `resourceVersion` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Object,
    ListOrBookmark,
}

impl<'a> Comparer<'a> {
    pub fn new(known: &'a mut Correspondence) -> Self {
        Self {
            known,
            differences: Vec::new(),
        }
    }

    /// Compares two bodies.
    pub fn body(&mut self, recorded: &Value, actual: &Value) {
        let kind = recorded["kind"].as_str().unwrap_or_default();
        let whose = if kind.ends_with("List") {
            Whose::ListOrBookmark
        } else {
            Whose::Object
        };
        self.value("", recorded, actual, whose);
    }

    /// Compares two events of a watch.
    pub fn event(&mut self, index: usize, recorded: &Value, actual: &Value) {
        let is_bookmark = recorded["type"] == "BOOKMARK";
        let whose = if is_bookmark {
            Whose::ListOrBookmark
        } else {
            Whose::Object
        };
        self.value(&format!(".stream[{index}]"), recorded, actual, whose);
    }

    /// Notes a difference that was found elsewhere.
    pub fn differs(&mut self, path: &str, how: &str) {
        self.differences.push(format!("{path}: {how}"));
    }

    fn note(&mut self, path: &str, result: Result<(), String>) {
        if let Err(how) = result {
            self.differs(path, &how);
        }
    }

    fn value(&mut self, path: &str, recorded: &Value, actual: &Value, whose: Whose) {
        match (recorded, actual) {
            (Value::Object(recorded), Value::Object(actual)) => {
                self.object(path, recorded, actual, whose);
            }
            (Value::Array(recorded), Value::Array(actual)) => {
                if recorded.len() != actual.len() {
                    let how = format!("{} items instead of {}", actual.len(), recorded.len());
                    self.differs(path, &how);
                    return;
                }
                for (index, (recorded, actual)) in recorded.iter().zip(actual).enumerate() {
                    self.value(&format!("{path}[{index}]"), recorded, actual, Whose::Object);
                }
            }
            (Value::String(recorded), Value::String(actual)) => {
                if self.known.text(recorded) != *actual {
                    self.differs(path, &format!("{actual:?} instead of {recorded:?}"));
                }
            }
            (recorded, actual) if recorded == actual => {}
            (recorded, actual) => self.differs(path, &format!("{actual} instead of {recorded}")),
        }
    }

    fn object(
        &mut self,
        path: &str,
        recorded: &Map<String, Value>,
        actual: &Map<String, Value>,
        whose: Whose,
    ) {
        // The uid first: other members quote it.
        let mut names: Vec<&String> = recorded.keys().chain(actual.keys()).collect();
        names.sort_by_key(|name| (*name != "uid" && *name != "metadata", (*name).clone()));
        names.dedup();
        // Of use to storage migrations alone.
        names.retain(|name| *name != "storageVersionHash");
        let generated = recorded.get("generateName").and_then(Value::as_str);
        for name in names {
            let at = format!("{path}.{name}");
            if let (Some(prefix), "name") = (generated, name.as_str()) {
                if !actual[name]
                    .as_str()
                    .is_some_and(|name| name.starts_with(prefix))
                {
                    self.differs(
                        &at,
                        &format!("{} does not begin with {prefix}", actual[name]),
                    );
                }
                continue;
            }
            match (recorded.get(name), actual.get(name)) {
                (Some(recorded), Some(actual)) => self.member(&at, recorded, actual, whose),
                (Some(recorded), None) => self.differs(&at, &format!("missing, was {recorded}")),
                (None, Some(actual)) => self.differs(&at, &format!("not recorded, is {actual}")),
                (None, None) => {}
            }
        }
    }

    fn member(&mut self, path: &str, recorded: &Value, actual: &Value, whose: Whose) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let texts = (recorded.as_str(), actual.as_str());
        match (name, texts) {
            ("resourceVersion", _) if path.ends_with(".metadata.resourceVersion") => {
                let noted = match whose {
                    Whose::Object => self.known.object_version(recorded, actual),
                    Whose::ListOrBookmark => self.known.other_version(recorded, actual),
                };
                self.note(path, noted);
            }
            ("uid", (Some(recorded), Some(actual))) => {
                let noted = self.known.uid(recorded, actual);
                self.note(path, noted);
            }
            ("continue", (Some(recorded), Some(actual))) if !recorded.is_empty() => {
                self.known.token(recorded, actual);
            }
            (
                "creationTimestamp" | "deletionTimestamp" | "lastTransitionTime",
                (Some(_), Some(actual)),
            ) => {
                if actual.parse::<Timestamp>().is_err() {
                    self.differs(path, &format!("{actual:?} is no time"));
                }
            }
            ("message", (Some(recorded), Some(actual))) => self.message(path, recorded, actual),
            ("managedFields", _) => self.managed_fields(path, recorded, actual),
            ("causes", _) => self.causes(path, recorded, actual),
            ("resources" | "groups", _) => self.named(path, recorded, actual),
            ("verbs", _) => self.unordered(path, recorded, actual),
            _ => self.value(path, recorded, actual, whose),
        }
    }

    /// Numbers in a message may be versions, which differ.
    fn message(&mut self, path: &str, recorded: &str, actual: &str) {
        let masked = |text: &str| -> String {
            text.chars()
                .map(|c| if c.is_ascii_digit() { '#' } else { c })
                .collect()
        };
        let squeezed = |text: String| {
            let mut text = text;
            while text.contains("##") {
                text = text.replace("##", "#");
            }
            text
        };
        let speaks_of_versions = recorded.contains("resource version");
        let recorded = self.known.text(recorded);
        let same = recorded == actual
            || (recorded.contains("ResourceVersion") || speaks_of_versions)
                && squeezed(masked(&recorded)) == squeezed(masked(actual));
        if !same {
            self.differs(path, &format!("{actual:?} instead of {recorded:?}"));
        }
    }

    fn managed_fields(&mut self, path: &str, recorded: &Value, actual: &Value) {
        let owned = |entries: &Value| -> Vec<String> {
            let mut owned: Vec<String> = entries
                .as_array()
                .into_iter()
                .flatten()
                .map(|entry| {
                    format!(
                        "{} {} {} {}",
                        entry["manager"],
                        entry["operation"],
                        entry["subresource"],
                        entry["fieldsV1"]
                    )
                })
                .collect();
            owned.sort();
            owned
        };
        let (recorded, actual) = (owned(&self.known.body(recorded)), owned(actual));
        if recorded != actual {
            self.differs(path, &format!("{actual:#?} instead of {recorded:#?}"));
        }
    }

    /// Entries of discovery documents, which come in any order.
    fn named(&mut self, path: &str, recorded: &Value, actual: &Value) {
        let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let (recorded, actual) = (entries(recorded), entries(actual));
        for entry in &recorded {
            let name = entry["name"].as_str().unwrap_or_default();
            match actual.iter().find(|other| other["name"] == entry["name"]) {
                Some(other) => self.value(&format!("{path}[{name}]"), entry, other, Whose::Object),
                None => self.differs(&format!("{path}.missing"), name),
            }
        }
        let known = |entry: &&Value| recorded.iter().any(|other| other["name"] == entry["name"]);
        for entry in actual.iter().filter(|entry| !known(entry)) {
            self.differs(path, &format!("{} is not recorded", entry["name"]));
        }
    }

    fn unordered(&mut self, path: &str, recorded: &Value, actual: &Value) {
        let sorted = |list: &Value| {
            let mut items = list.as_array().cloned().unwrap_or_default();
            items.sort_by_key(ToString::to_string);
            items
        };
        let (recorded, actual) = (sorted(recorded), sorted(actual));
        if recorded != actual {
            self.differs(path, &format!("{actual:?} instead of {recorded:?}"));
        }
    }

    /// Causes come in any order; their texts are compared apart from what decides behaviour.
    fn causes(&mut self, path: &str, recorded: &Value, actual: &Value) {
        let part = |causes: &Value, members: &[&str]| -> Vec<String> {
            let mut parts: Vec<String> = causes
                .as_array()
                .into_iter()
                .flatten()
                .map(|cause| {
                    members
                        .iter()
                        .map(|name| cause[*name].to_string())
                        .collect()
                })
                .collect();
            parts.sort();
            parts
        };
        let recorded = self.known.body(recorded);
        for (place, members) in [
            (path.to_owned(), &["reason", "field"][..]),
            (format!("{path}.message"), &["message"]),
        ] {
            let (recorded, actual) = (part(&recorded, members), part(actual, members));
            if recorded != actual {
                self.differs(&place, &format!("{actual:?} instead of {recorded:?}"));
            }
        }
    }
}
