//! The built-in kinds, with the schemas of the generated types.

mod table;

use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use self::table::{Row, defined, rows};
use super::resource::{CRDS, EVENTS, Resource};
use super::schema::{Reader, Schema};
use super::status::qualified;

struct Tables {
    resources: Vec<Arc<Resource>>,
    metadata: Arc<Schema>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut generator = SchemaGenerator::default();
    let rows: Vec<(Row, String)> = rows()
        .into_iter()
        .map(|row| {
            let name = (row.schema)(&mut generator);
            (row, name)
        })
        .collect();
    let metadata_name = defined::<ObjectMeta>(&mut generator);
    let definitions: Map<String, Value> = generator.take_definitions(true);
    let mut reader = Reader::built_in(&definitions);
    let mut read = |name: &str| {
        reader
            .definition(name)
            .expect("generated schemas have known types")
    };
    let metadata = read(&metadata_name);
    let resources = rows
        .into_iter()
        .map(|(row, name)| Arc::new(resource(row, &name, &mut read)));
    Tables {
        resources: resources.collect(),
        metadata: Arc::clone(&metadata),
    }
});

fn resource(row: Row, definition: &str, read: &mut impl FnMut(&str) -> Arc<Schema>) -> Resource {
    // The kind's own requirements are checked by hand, in upstream's words.
    let schema = Schema {
        required: Vec::new(),
        ..(*read(definition)).clone()
    };
    let group_plural = qualified(row.plural, row.group);
    let (collection, stored_version) = match row.plural {
        "events" => (EVENTS.to_owned(), "v1".to_owned()),
        _ if row.group.is_empty() => (group_plural, row.version.to_owned()),
        _ => (group_plural, format!("{}/{}", row.group, row.version)),
    };
    let is_lease = row.plural == "leases";
    Resource {
        group: row.group.to_owned(),
        version: row.version.to_owned(),
        plural: row.plural.to_owned(),
        singular: row.kind.to_lowercase(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        short_names: row.short.iter().map(|&name| name.to_owned()).collect(),
        categories: if row.all {
            vec!["all".to_owned()]
        } else {
            Vec::new()
        },
        namespaced: row.namespaced,
        has_status: row.status,
        has_generation: row.generation || collection == CRDS,
        custom: false,
        unconditional_update: !is_lease && collection != CRDS,
        create_on_update: is_lease || collection == EVENTS,
        schema: Arc::new(schema),
        selectable: row
            .selectable
            .iter()
            .map(|&field| field.to_owned())
            .collect(),
        collection,
        stored_version,
    }
}

/// The built-in resources.
pub fn resources() -> &'static [Arc<Resource>] {
    &TABLES.resources
}

/// The schema of `metadata`, the same for every kind.
pub fn metadata_schema() -> Arc<Schema> {
    Arc::clone(&TABLES.metadata)
}
