//! Field managers: who owns which field, and who may take it.

use serde_json::{Value, json};

use super::apply;
use super::fields::FieldSet;
use super::schema::Schema;
use super::status::ApiError;

/// Update managers kept per object before the oldest are folded into one, as upstream does.
const UPDATE_MANAGERS_MAX: usize = 10;

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Name of the field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// apiVersion the object was written in.
    pub api_version: String,
    /// Subresource written through; empty for the main resource.
    pub subresource: String,
    /// Time of the write, as managedFields print it.
    pub time: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

impl Manager {
    fn is(&self, writer: &Writer) -> bool {
        self.name == writer.manager
            && self.operation == writer.operation
            && self.subresource == writer.subresource
            && (writer.operation == "Apply" || self.api_version == writer.api_version)
    }

    /// As conflicts name it.
    fn described(&self) -> String {
        let mut text = format!("\"{}\"", self.name);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource \"{}\"", self.subresource);
        }
        if self.operation == "Update" {
            text = format!("{text} using {}", self.api_version);
        }
        text
    }
}

/// Sets `managedFields` of `new` after a create or update that led from `old` to it.
pub fn track_update(old: &Value, new: &mut Value, schema: &Schema, writer: &Writer) {
    let mut managers = read(old);
    let changes = apply::compare(&bare(old), &bare(new), schema);
    let taken = changes.modified.union(&changes.added);
    for manager in managers.iter_mut().filter(|manager| !manager.is(writer)) {
        manager.fields = manager
            .fields
            .difference(&taken)
            .difference(&changes.removed);
    }
    let own = managers.iter().position(|manager| manager.is(writer));
    let held = own
        .map(|at| managers[at].fields.clone())
        .unwrap_or_default();
    let held = without_system_fields(held.difference(&changes.removed).union(&taken));
    put(&mut managers, own, writer, held);
    fold_old(&mut managers);
    write(new, managers);
}

/// What an apply makes of `live`, managedFields included.
///
/// Fails with 409 when the applied object changes a field that another manager holds, unless
/// `force`d.
pub fn apply_to(
    live: &Value,
    applied: &Value,
    schema: &Schema,
    writer: &Writer,
    force: bool,
) -> Result<Value, ApiError> {
    let mut managers = read(live);
    let (live, applied) = (bare(live), bare(applied));
    let own = managers.iter().position(|manager| manager.is(writer));
    let last = own
        .map(|at| managers[at].fields.clone())
        .unwrap_or_default();
    let set = without_system_fields(apply::fields_of(&applied, schema));
    let mut merged = apply::merge(&live, &applied, schema);
    let kept = managers
        .iter()
        .filter(|manager| !manager.is(writer))
        .fold(set.clone(), |kept, manager| kept.union(&manager.fields));
    apply::drop_unowned(&mut merged, &last, &kept, schema);
    let changes = apply::compare(&live, &merged, schema);
    let taken = changes.modified.union(&changes.added);
    let mut conflicts = Vec::new();
    for manager in managers.iter_mut().filter(|manager| !manager.is(writer)) {
        let contested = manager.fields.intersection(&taken);
        conflicts.extend(
            contested
                .paths()
                .into_iter()
                .map(|path| (manager.described(), path)),
        );
        manager.fields = manager
            .fields
            .difference(&contested)
            .difference(&changes.removed);
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict_error(&conflicts));
    }
    put(&mut managers, own, writer, set);
    write(&mut merged, managers);
    Ok(merged)
}

fn put(managers: &mut Vec<Manager>, own: Option<usize>, writer: &Writer, fields: FieldSet) {
    match own {
        Some(at) => {
            let manager = &mut managers[at];
            if manager.fields != fields || manager.api_version != writer.api_version {
                manager.time.clone_from(&writer.time);
                manager.api_version.clone_from(&writer.api_version);
                manager.fields = fields;
            }
        }
        None => managers.push(Manager {
            name: writer.manager.clone(),
            operation: writer.operation.to_owned(),
            api_version: writer.api_version.clone(),
            subresource: writer.subresource.clone(),
            time: writer.time.clone(),
            fields,
        }),
    }
    managers.retain(|manager| !manager.fields.is_empty());
}

fn fold_old(managers: &mut Vec<Manager>) {
    let updates = |managers: &[Manager]| {
        let mut at: Vec<usize> = (0..managers.len())
            .filter(|&i| managers[i].operation == "Update")
            .collect();
        at.sort_by(|&a, &b| managers[a].time.cmp(&managers[b].time));
        at
    };
    loop {
        let oldest = updates(managers);
        if oldest.len() <= UPDATE_MANAGERS_MAX {
            return;
        }
        let first = managers.remove(oldest[0].max(oldest[1]));
        let second = &mut managers[oldest[0].min(oldest[1])];
        second.fields = second.fields.union(&first.fields);
        "ancient-changes".clone_into(&mut second.name);
    }
}

fn conflict_error(conflicts: &[(String, String)]) -> ApiError {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(who, path)| {
            let message = format!("conflict with {who}");
            json!({"reason": "FieldManagerConflict", "message": message, "field": path})
        })
        .collect();
    let listed = match conflicts {
        [(who, path)] => format!("1 conflict: conflict with {who}: {path}"),
        many => {
            let mut names: Vec<&String> = many.iter().map(|(who, _)| who).collect();
            names.sort();
            names.dedup();
            let mut lines = Vec::new();
            for name in names {
                lines.push(format!("conflicts with {name}:"));
                let own = many.iter().filter(|(who, _)| who == name);
                lines.extend(own.map(|(_, path)| format!("- {path}")));
            }
            format!("{} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let message = format!("Apply failed with {listed}");
    ApiError {
        details: Some(json!({"causes": causes})),
        ..ApiError::new(409, "Conflict", message)
    }
}

/// The object without its managedFields.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// Nobody owns what the server writes.
fn without_system_fields(mut set: FieldSet) -> FieldSet {
    const SYSTEM: [&str; 9] = [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
        "f:deletionTimestamp",
    ];
    set.remove(&["f:apiVersion"]);
    set.remove(&["f:kind"]);
    for field in SYSTEM {
        set.remove(&["f:metadata", field]);
    }
    set.unmark("f:metadata");
    set
}

fn read(object: &Value) -> Vec<Manager> {
    let entries = object["metadata"]["managedFields"].as_array();
    let manager = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        Manager {
            name: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::from_value(&entry["fieldsV1"]),
        }
    };
    entries.into_iter().flatten().map(manager).collect()
}

fn write(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|manager| !manager.fields.is_empty());
    managers.sort_by(|a, b| {
        let key = |m: &Manager| {
            (
                m.operation.clone(),
                m.time.clone(),
                m.name.clone(),
                m.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if managers.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let entries = managers.iter().map(|manager| {
        let mut entry = json!({
            "manager": manager.name, "operation": manager.operation,
            "apiVersion": manager.api_version, "time": manager.time,
            "fieldsType": "FieldsV1", "fieldsV1": manager.fields.to_value(),
        });
        if !manager.subresource.is_empty() {
            entry["subresource"] = json!(manager.subresource);
        }
        entry
    });
    metadata.insert("managedFields".to_owned(), entries.collect());
}
