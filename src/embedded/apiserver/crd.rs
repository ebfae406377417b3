//! Custom resource definitions: what makes one valid, and what it makes the server serve.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::builtin;
use super::resource::{Registry, Resource};
use super::schema::{Schema, SchemaError, strings};
use super::status::{Cause, qualified};

/// Fills in what the real server adds to every definition.
pub fn default(crd: &mut Value) {
    let kind = crd["spec"]["names"]["kind"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let names = &mut crd["spec"]["names"];
    if names.get("singular").is_none() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names.get("listKind").is_none() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if crd["spec"].get("conversion").is_none() {
        crd["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// The status of a definition that was just created.
pub fn initial_status(crd: &Value) -> Value {
    let stored: Vec<&Value> = versions(crd)
        .iter()
        .filter(|version| version["storage"] == json!(true))
        .map(|version| &version["name"])
        .collect();
    json!({
        "conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored,
    })
}

/// The status once its names are accepted, which here is at once.
pub fn established_status(crd: &Value, time: &str) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "lastTransitionTime": time, "reason": reason,
            "message": message,
        })
    };
    let mut status = initial_status(crd);
    status["acceptedNames"] = crd["spec"]["names"].clone();
    status["conditions"] = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition(
            "Established",
            "InitialNamesAccepted",
            "the initial names have been accepted"
        ),
    ]);
    status
}

/// The collection that holds the objects of a definition.
pub fn collection(crd: &Value) -> String {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    qualified(&text(&spec["names"]["plural"]), &text(&spec["group"]))
}

/// The resources that a definition makes the server serve, or what is wrong with it.
pub fn resources(crd: &Value, registry: &Registry) -> Result<Vec<Resource>, Vec<Cause>> {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut causes = Vec::new();
    for (field, value) in [
        ("spec.group", &spec["group"]),
        ("spec.names.plural", &spec["names"]["plural"]),
        ("spec.names.kind", &spec["names"]["kind"]),
    ] {
        if text(value).is_empty() {
            causes.push(Cause::required(field, ""));
        }
    }
    if !matches!(text(&spec["scope"]).as_str(), "Cluster" | "Namespaced") {
        let known = [json!("Cluster"), json!("Namespaced")];
        causes.push(Cause::not_supported("spec.scope", &spec["scope"], &known));
    }
    let stored_name = collection(crd);
    if crd["metadata"]["name"] != json!(stored_name) {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid(
            "metadata.name",
            &crd["metadata"]["name"],
            detail,
        ));
    }
    let stored: Vec<&Value> = versions(crd)
        .iter()
        .filter(|version| version["storage"] == json!(true))
        .collect();
    if stored.len() != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &spec["versions"], detail));
    }
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    if registry.name_taken(&group, &text(&spec["names"]["plural"]), &kind) {
        let detail = format!("{kind} is already served in {group}");
        causes.push(Cause::invalid("spec.names.kind", &json!(kind), &detail));
    }
    let mut resources = Vec::new();
    for (index, version) in versions(crd).iter().enumerate() {
        match schema(version) {
            Ok(schema) if version["served"] == json!(true) => {
                let stored_version = stored.first().map_or(&version["name"], |v| &v["name"]);
                resources.push(resource(crd, version, &text(stored_version), schema));
            }
            Ok(_) => {}
            Err(error) => {
                // One version alone is validated in the place where v1beta1 had its schema.
                let place = match versions(crd).len() {
                    1 => "spec.validation".to_owned(),
                    _ => format!("spec.versions[{index}].schema"),
                };
                let field = format!("{place}.openAPIV3Schema.{}", error.path);
                causes.push(Cause::invalid(field, &error.value, &error.why));
            }
        }
    }
    if causes.is_empty() {
        Ok(resources)
    } else {
        Err(causes)
    }
}

fn versions(crd: &Value) -> &[Value] {
    crd["spec"]["versions"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// The schema of a version, with the members that every object has.
fn schema(version: &Value) -> Result<Schema, SchemaError> {
    let mut openapi = version["schema"]["openAPIV3Schema"].clone();
    if !openapi.is_object() {
        let why = "schemas are required".to_owned();
        return Err(SchemaError {
            path: String::new(),
            value: openapi,
            why,
        });
    }
    if let Some(map) = openapi.as_object_mut() {
        let properties = map
            .entry("properties")
            .or_insert_with(|| Value::Object(Map::new()));
        properties["apiVersion"] = json!({"type": "string"});
        properties["kind"] = json!({"type": "string"});
        // What a rule may see of the metadata.
        properties["metadata"] = json!({
            "type": "object",
            "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
        });
    }
    let mut schema = Schema::parse(&openapi)?;
    schema
        .properties
        .insert("metadata".to_owned(), builtin::metadata_schema());
    Ok(schema)
}

fn resource(crd: &Value, version: &Value, stored_version: &str, schema: Schema) -> Resource {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&spec["group"]);
    let has_status = version["subresources"].get("status").is_some();
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    Resource {
        version: text(&version["name"]),
        plural: text(&spec["names"]["plural"]),
        singular: text(&spec["names"]["singular"]),
        kind: text(&spec["names"]["kind"]),
        list_kind: text(&spec["names"]["listKind"]),
        short_names: strings(spec["names"].get("shortNames")),
        categories: strings(spec["names"].get("categories")),
        namespaced: spec["scope"] == json!("Namespaced"),
        has_status,
        has_generation: true,
        custom: true,
        unconditional_update: false,
        create_on_update: false,
        schema: Arc::new(schema),
        selectable: selectable
            .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        collection: collection(crd),
        stored_version: format!("{group}/{stored_version}"),
        group,
    }
}
