//! Which value of the embedded server stands for which recorded one.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// Versions, uids, names and tokens differ between two servers; where one stands for another, it
/// has to do so everywhere, and versions have to keep their order.
#[derive(Debug, Default, Clone)]
pub struct Correspondence {
    /// Versions of objects: one stands for one.
    objects: BTreeMap<u64, u64>,
    /// Versions of lists and bookmarks, which other writes of the recorded server moved along.
    others: BTreeMap<u64, u64>,
    uids: HashMap<String, String>,
    tokens: HashMap<String, String>,
}

impl Correspondence {
    /// Notes the version of an object; the error says how it contradicts what is known.
    pub fn object_version(&mut self, recorded: &Value, actual: &Value) -> Result<(), String> {
        let (recorded, actual) = (number(recorded)?, number(actual)?);
        for (&r, &a) in &self.objects {
            if r.cmp(&recorded) != a.cmp(&actual) {
                return Err(format!(
                    "version {recorded} is {actual}, which is not to {a} as {recorded} is to {r}"
                ));
            }
        }
        self.in_order(recorded, actual)?;
        self.objects.insert(recorded, actual);
        Ok(())
    }

    /// Notes the version of a list or bookmark.
    pub fn other_version(&mut self, recorded: &Value, actual: &Value) -> Result<(), String> {
        let (recorded, actual) = (number(recorded)?, number(actual)?);
        self.in_order(recorded, actual)?;
        self.others.insert(recorded, actual);
        Ok(())
    }

    fn in_order(&self, recorded: u64, actual: u64) -> Result<(), String> {
        for (&r, &a) in self.objects.iter().chain(&self.others) {
            if (r < recorded && a > actual) || (r > recorded && a < actual) {
                return Err(format!("version {recorded} is {actual}, but {r} is {a}"));
            }
        }
        Ok(())
    }

    /// Notes a uid.
    pub fn uid(&mut self, recorded: &str, actual: &str) -> Result<(), String> {
        let known = self
            .uids
            .entry(recorded.to_owned())
            .or_insert_with(|| actual.to_owned());
        if known == actual {
            Ok(())
        } else {
            Err(format!("uid {recorded} is {known} and {actual}"))
        }
    }

    /// Notes a continue token.
    pub fn token(&mut self, recorded: &str, actual: &str) {
        self.tokens.insert(recorded.to_owned(), actual.to_owned());
    }

    /// A recorded version in the words of the embedded server.
    pub fn version(&self, recorded: &str) -> String {
        let number: Option<u64> = recorded.parse().ok();
        let found = number.and_then(|r| self.objects.get(&r).or_else(|| self.others.get(&r)));
        found.map_or_else(|| recorded.to_owned(), u64::to_string)
    }

    /// A recorded text with its uids and tokens replaced.
    pub fn text(&self, recorded: &str) -> String {
        let mut text = recorded.to_owned();
        for (from, to) in self.uids.iter().chain(&self.tokens) {
            text = text.replace(from, to);
        }
        text
    }

    /// A recorded request path, versions and tokens replaced.
    pub fn path(&self, recorded: &str) -> String {
        let Some((path, query)) = recorded.split_once('?') else {
            return recorded.to_owned();
        };
        let query: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some(("resourceVersion", version)) => {
                    format!("resourceVersion={}", self.version(version))
                }
                _ => self.text(pair),
            })
            .collect();
        format!("{path}?{}", query.join("&"))
    }

    /// A recorded body, versions and uids replaced.
    pub fn body(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.body(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| match value {
                    Value::String(version) if name == "resourceVersion" => {
                        (name.clone(), Value::String(self.version(version)))
                    }
                    value => (self.text(name), self.body(value)),
                })
                .collect(),
            other => other.clone(),
        }
    }
}

fn number(version: &Value) -> Result<u64, String> {
    let text = version.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("{version} is no version"))
}
