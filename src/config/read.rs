//! From leaves to the raw structs, one leaf at a time, so that no problem hides another.

use config::{ConfigError, Map, Value, ValueKind};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::layer::{Layers, Leaf};
use crate::config::problem::{Origin, Problem, Problems};
use crate::config::raw::Raw;
use crate::config::reference;

/// The raw configuration with what the checks need to report.
pub(crate) struct Read {
    pub(crate) raw: Raw,
    pub(crate) problems: Problems,
    leaves: Vec<Leaf>,
}

/// Reads all layers; a leaf that is refused is reported and leaves its default in place.
pub(crate) fn read(layers: &Layers) -> Read {
    let mut problems = Problems::default();
    let schema = reference::schema();
    let leaves = layers.leaves(&mut problems);
    let mut sound = Value::new(None, ValueKind::Table(Map::new()));
    for leaf in &leaves {
        match judge(&schema, leaf) {
            Ok(()) => insert(&mut sound, &leaf.0, leaf.1.clone()),
            Err(found) => problems.0.extend(found.0),
        }
    }
    let raw = Raw::deserialize(sound).unwrap_or_else(|e| {
        // Leaves that are sound alone but not together (a list entry and a table of one name).
        problems
            .0
            .push(problem("", None, &Origin::Default, message(e)));
        Raw::default()
    });
    Read {
        raw,
        problems,
        leaves,
    }
}

impl Read {
    /// Where the value of a key came from.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.leaf(key)
            .map_or(Origin::Default, |leaf| Origin::decode(leaf.1.origin()))
    }

    /// Reports what a check found about `key`.
    pub(crate) fn report(
        &mut self,
        key: &str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let value = self.leaf(key).map(|(_, value)| shown(value));
        let mend = mend.into();
        let origin = self.origin(key);
        let message = message.into();
        self.problems.0.push(Problem {
            key: key.to_owned(),
            value,
            origin,
            message,
            mend,
        });
    }

    /// Whether some layer gives a value for exactly this key.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.leaf(key).is_some()
    }

    fn leaf(&self, key: &str) -> Option<&Leaf> {
        self.leaves.iter().find(|(path, _)| dotted(path) == key)
    }
}

/// A key as it is written in a TOML file.
pub(crate) fn dotted(path: &[String]) -> String {
    let quoted = path.iter().map(|part| {
        if part.contains('.') {
            format!("\"{part}\"")
        } else {
            part.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(".")
}

fn judge(schema: &Json, (path, value): &Leaf) -> Result<(), Problems> {
    let key = dotted(path);
    let origin = Origin::decode(value.origin());
    let Some(entry) = reference::find(schema, path) else {
        let mend = match reference::nearest(schema, &key) {
            Some(near) => format!("did you mean `{near}`? All keys are in docs/configuration.md"),
            None => "remove it; all keys are in docs/configuration.md".into(),
        };
        let unknown = problem(&key, Some(shown(value)), &origin, "no such key".into());
        return Err(Problem { mend, ..unknown }.into());
    };
    let mut alone = Value::new(None, ValueKind::Table(Map::new()));
    insert(&mut alone, path, value.clone());
    Raw::deserialize(alone).map(|_| ()).map_err(|e| {
        let refused = problem(&key, Some(shown(value)), &origin, message(e));
        Problem {
            mend: entry.mend(&origin),
            ..refused
        }
        .into()
    })
}

fn problem(key: &str, value: Option<String>, origin: &Origin, message: String) -> Problem {
    let mend = "compare with docs/configuration.md".into();
    Problem {
        key: key.to_owned(),
        value,
        origin: origin.clone(),
        message,
        mend,
    }
}

fn insert(root: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if !matches!(root.kind, ValueKind::Table(_)) {
        root.kind = ValueKind::Table(Map::new());
    }
    if let ValueKind::Table(table) = &mut root.kind {
        let child = table
            .entry(first.clone())
            .or_insert_with(|| Value::new(None, ValueKind::Nil));
        insert(child, rest, value);
    }
}

/// The error without key and origin: both are reported in their own places.
fn message(error: ConfigError) -> String {
    match error {
        ConfigError::Type {
            unexpected,
            expected,
            ..
        } => {
            format!("expected {expected}, found {unexpected}")
        }
        ConfigError::At { error, key, .. } => {
            let inner = message(*error);
            let entry = key.and_then(|key| key.find('[').map(|at| key[at..].to_owned()));
            entry.map_or_else(|| inner.clone(), |entry| format!("entry {entry}: {inner}"))
        }
        ConfigError::NotFound(field) => {
            let field = field.rsplit('.').next().unwrap_or(&field).to_owned();
            format!("`{field}` is missing")
        }
        other => other.to_string(),
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "null".into(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(shown).collect::<Vec<_>>().join(", ")
            )
        }
        ValueKind::Table(table) => {
            let mut members: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", shown(value)))
                .collect();
            members.sort();
            format!("{{{}}}", members.join(", "))
        }
        kind => kind.to_string(),
    }
}
