//! The built-in kinds that Forelay reads or writes.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, events};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::resource::{CRDS, EVENTS, Resource};
use super::schema::{Reader, Schema};
use super::status::qualified;

/// One row of the table: what the schema does not say of a kind.
struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    all: bool,
    namespaced: bool,
    status: bool,
    generation: bool,
    selectable: &'static [&'static str],
    schema: fn(&mut SchemaGenerator) -> String,
}

impl Row {
    const fn new(
        place: (&'static str, &'static str),
        plural: &'static str,
        kind: &'static str,
        schema: fn(&mut SchemaGenerator) -> String,
    ) -> Self {
        Self {
            group: place.0,
            version: place.1,
            plural,
            kind,
            short: &[],
            all: false,
            namespaced: true,
            status: false,
            generation: false,
            selectable: &[],
            schema,
        }
    }

    const fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }

    /// Has a status endpoint, counts generations and belongs to the category `all`.
    const fn workload(self) -> Self {
        Self {
            status: true,
            generation: true,
            all: true,
            ..self
        }
    }

    const fn status(self) -> Self {
        Self {
            status: true,
            ..self
        }
    }

    const fn cluster(self) -> Self {
        Self {
            namespaced: false,
            ..self
        }
    }

    const fn selectable(self, selectable: &'static [&'static str]) -> Self {
        Self { selectable, ..self }
    }
}

/// Registers the schema of `T` and its parts; returns the name of its definition.
fn defined<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const NEW_EVENT_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

fn rows() -> Vec<Row> {
    [core_rows(), workload_rows(), other_rows()]
        .into_iter()
        .flatten()
        .collect()
}

fn core_rows() -> Vec<Row> {
    vec![
        Row::new(
            CORE,
            "configmaps",
            "ConfigMap",
            defined::<core::v1::ConfigMap>,
        )
        .short(&["cm"]),
        Row::new(CORE, "events", "Event", defined::<core::v1::Event>)
            .short(&["ev"])
            .selectable(EVENT_FIELDS),
        Row::new(
            CORE,
            "namespaces",
            "Namespace",
            defined::<core::v1::Namespace>,
        )
        .short(&["ns"])
        .cluster()
        .status()
        .selectable(&["status.phase"]),
        Row::new(CORE, "nodes", "Node", defined::<core::v1::Node>)
            .short(&["no"])
            .cluster()
            .status()
            .selectable(&["spec.unschedulable"]),
        Row::new(CORE, "pods", "Pod", defined::<core::v1::Pod>)
            .short(&["po"])
            .workload()
            .selectable(POD_FIELDS),
        Row::new(
            CORE,
            "podtemplates",
            "PodTemplate",
            defined::<core::v1::PodTemplate>,
        ),
    ]
}

fn workload_rows() -> Vec<Row> {
    vec![
        Row::new(
            APPS,
            "daemonsets",
            "DaemonSet",
            defined::<apps::v1::DaemonSet>,
        )
        .short(&["ds"])
        .workload(),
        Row::new(
            APPS,
            "deployments",
            "Deployment",
            defined::<apps::v1::Deployment>,
        )
        .short(&["deploy"])
        .workload(),
        Row::new(
            APPS,
            "replicasets",
            "ReplicaSet",
            defined::<apps::v1::ReplicaSet>,
        )
        .short(&["rs"])
        .workload()
        .selectable(&["status.replicas"]),
        Row::new(
            APPS,
            "statefulsets",
            "StatefulSet",
            defined::<apps::v1::StatefulSet>,
        )
        .short(&["sts"])
        .workload(),
        Row::new(BATCH, "cronjobs", "CronJob", defined::<batch::v1::CronJob>)
            .short(&["cj"])
            .workload(),
        Row::new(BATCH, "jobs", "Job", defined::<batch::v1::Job>)
            .workload()
            .selectable(&["status.successful"]),
    ]
}

fn other_rows() -> Vec<Row> {
    vec![
        Row::new(
            ("autoscaling", "v2"),
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            defined::<autoscaling::v2::HorizontalPodAutoscaler>,
        )
        .short(&["hpa"])
        .status(),
        Row::new(
            ("coordination.k8s.io", "v1"),
            "leases",
            "Lease",
            defined::<coordination::v1::Lease>,
        ),
        Row::new(
            ("events.k8s.io", "v1"),
            "events",
            "Event",
            defined::<events::v1::Event>,
        )
        .short(&["ev"])
        .selectable(NEW_EVENT_FIELDS),
        Row::new(
            ("apiextensions.k8s.io", "v1"),
            "customresourcedefinitions",
            "CustomResourceDefinition",
            defined::<CustomResourceDefinition>,
        )
        .short(&["crd", "crds"])
        .cluster()
        .status(),
    ]
}

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
