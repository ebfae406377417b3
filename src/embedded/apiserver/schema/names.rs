//! What the generated schemas of built-in kinds do not say, known by name.

use std::sync::Arc;

use super::{ListType, Schema, Type};

/// Definitions that upstream marks `x-kubernetes-map-type: atomic`.
const ATOMIC_STRUCTS: [&str; 11] = [
    "ConfigMapKeySelector",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "SecretKeySelector",
];

/// Lists that upstream marks `x-kubernetes-list-type: map`, with their keys.
const KEYED_LISTS: [(&str, &[&str]); 18] = [
    ("addresses", &["type"]),
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("podIPs", &["ip"]),
    ("ports", &["containerPort", "protocol"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("secrets", &["name"]),
    (
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// Whether the definition called `name` is owned as a whole.
pub(super) fn is_atomic(name: &str) -> bool {
    ATOMIC_STRUCTS
        .iter()
        .any(|s| name.ends_with(&format!(".{s}")))
}

/// The schema of a member called `name`, with the list or map type that upstream gives it.
pub(super) fn by_name(name: &str, schema: Arc<Schema>) -> Arc<Schema> {
    let list = if matches!(name, "finalizers" | "podCIDRs") {
        ListType::Set
    } else if let Some((_, keys)) = KEYED_LISTS.iter().find(|(list, _)| *list == name) {
        ListType::Map(keys.iter().map(|&key| key.to_owned()).collect())
    } else if name == "nodeSelector" && schema.kind == Type::Object {
        return Arc::new(Schema {
            atomic: true,
            ..(*schema).clone()
        });
    } else {
        return schema;
    };
    if schema.kind != Type::Array {
        return schema;
    }
    Arc::new(Schema {
        list,
        ..(*schema).clone()
    })
}
