//! Sets of field paths, in the form that managedFields carry.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A set of paths into an object.
///
/// A path element is the FieldsV1 text of one step: `f:name` for a member, `k:{..}` for an item of
/// a list with keys, `v:..` for an item of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<String, Entry>);

/// What a set holds at and below one path element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The path up to here is itself a member of the set.
    pub member: bool,
    /// The paths that go on from here.
    pub below: FieldSet,
}

impl FieldSet {
    /// Whether the set has no path.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the set holds at `element`.
    pub fn get(&self, element: &str) -> Option<&Entry> {
        self.0.get(element)
    }

    /// The path elements at the top, with what is below them.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter()
    }

    /// Puts `entry` at `element` unless it is void.
    pub fn insert(&mut self, element: String, entry: Entry) {
        if entry.member || !entry.below.is_empty() {
            self.0.insert(element, entry);
        }
    }

    /// Removes everything at and below `path`.
    pub fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.0.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(entry) = self.0.get_mut(*first) {
                    entry.below.remove(rest);
                    if !entry.member && entry.below.is_empty() {
                        self.0.remove(*first);
                    }
                }
            }
        }
    }

    /// Removes the membership of `path` itself, keeping what is below it.
    pub fn unmark(&mut self, element: &str) {
        if let Some(entry) = self.0.get_mut(element) {
            entry.member = false;
            if entry.below.is_empty() {
                self.0.remove(element);
            }
        }
    }

    /// The paths of either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (element, theirs) in &other.0 {
            let ours = out.0.entry(element.clone()).or_default();
            ours.member |= theirs.member;
            ours.below = ours.below.union(&theirs.below);
        }
        out
    }

    /// The paths of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, ours) in &self.0 {
            let entry = match other.0.get(element) {
                None => ours.clone(),
                Some(theirs) => Entry {
                    member: ours.member && !theirs.member,
                    below: ours.below.difference(&theirs.below),
                },
            };
            out.insert(element.clone(), entry);
        }
        out
    }

    /// The paths that both sets hold.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, ours) in &self.0 {
            if let Some(theirs) = other.0.get(element) {
                let entry = Entry {
                    member: ours.member && theirs.member,
                    below: ours.below.intersection(&theirs.below),
                };
                out.insert(element.clone(), entry);
            }
        }
        out
    }

    /// Every member path, printed the way conflicts name them: `.spec.parts[name="a"].qty`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, prefix: &str, out: &mut Vec<String>) {
        for (element, entry) in &self.0 {
            let path = format!("{prefix}{}", printed(element));
            if entry.member {
                out.push(path.clone());
            }
            entry.below.collect_paths(&path, out);
        }
    }

    /// The FieldsV1 value.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (element, entry) in &self.0 {
            let mut value = entry.below.to_value();
            if entry.member && !entry.below.is_empty() {
                value["."] = json!({});
            }
            map.insert(element.clone(), value);
        }
        Value::Object(map)
    }

    /// Reads a FieldsV1 value; members of a form it does not know are left out.
    pub fn from_value(value: &Value) -> Self {
        let mut out = Self::default();
        for (element, inner) in value.as_object().into_iter().flatten() {
            if element == "." {
                continue;
            }
            let below = Self::from_value(inner);
            let member = below.is_empty() || inner.get(".").is_some();
            out.insert(canonical(element), Entry { member, below });
        }
        out
    }
}

/// `k:` elements are compared as text, so their members must be in one order.
fn canonical(element: &str) -> String {
    match element
        .strip_prefix("k:")
        .map(serde_json::from_str::<BTreeMap<String, Value>>)
    {
        Some(Ok(keys)) => key_element(&keys),
        _ => element.to_owned(),
    }
}

/// The path element of a list item with these key values.
pub fn key_element(keys: &BTreeMap<String, Value>) -> String {
    let members: Vec<String> = keys
        .iter()
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    format!("k:{{{}}}", members.join(","))
}

fn printed(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) = element.strip_prefix("k:") {
        let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        let keys: Vec<String> = keys
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        return format!("[{}]", keys.join(","));
    }
    match element.strip_prefix("v:") {
        Some(value) => format!("[={value}]"),
        None => format!("[{element}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_its_own_text_form() {
        let text = json!({
            "f:data": {".": {}, "f:a": {}},
            "f:list": {"k:{\"name\":\"a\",\"port\":1}": {".": {}, "f:name": {}}, "v:\"x\"": {}},
        });
        assert_eq!(FieldSet::from_value(&text).to_value(), text);
    }

    #[test]
    fn difference_keeps_what_is_below_a_removed_member() {
        let all = FieldSet::from_value(&json!({"f:a": {".": {}, "f:b": {}}}));
        let parent = FieldSet::from_value(&json!({"f:a": {}}));
        assert_eq!(all.difference(&parent).paths(), [".a.b"]);
        assert_eq!(all.intersection(&parent).paths(), [".a"]);
    }

    #[test]
    fn keys_are_compared_whatever_their_order() {
        let one = FieldSet::from_value(&json!({"k:{\"b\":1,\"a\":2}": {}}));
        let two = FieldSet::from_value(&json!({"k:{\"a\":2,\"b\":1}": {}}));
        assert_eq!(one, two);
        assert_eq!(one.paths(), ["[a=2,b=1]"]);
    }
}
