//! The table of built-in kinds: those that Forelay reads or writes.

use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, events};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::{JsonSchema, SchemaGenerator};

/// One row of the table: what the schema does not say of a kind.
pub(super) struct Row {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static [&'static str],
    pub(super) all: bool,
    pub(super) namespaced: bool,
    pub(super) status: bool,
    pub(super) generation: bool,
    pub(super) selectable: &'static [&'static str],
    pub(super) schema: fn(&mut SchemaGenerator) -> String,
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
pub(super) fn defined<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
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

/// All rows.
pub(super) fn rows() -> Vec<Row> {
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
