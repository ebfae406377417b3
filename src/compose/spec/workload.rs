//! `[[workloads]]`: whatever makes pods, with what they need and how they change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::compose::spec::{Cpu, Draw, Hpa, Load, Portion, Where};
use crate::config::unit::{Size, Span};
use crate::domain::image::ImageRef;
use crate::domain::workload::{ImageRole, Requirement, Toleration};

/// A Deployment, StatefulSet, DaemonSet, CronJob, or Jobs that arrive at the times of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Kubernetes name.
    pub name: String,
    /// Kubernetes namespace.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// What controls its pods.
    #[serde(default)]
    pub kind: Kind,
    /// So many alike, named `NAME-1` and on.
    pub copies: Option<u32>,
    /// Images in the order of need.
    pub containers: Vec<Container>,
    /// Sum over containers.
    #[serde(default)]
    pub requests: Requests,
    /// `spec.nodeSelector`
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must hold, each an AND of requirements.
    #[serde(default)]
    pub affinity: Vec<Vec<Requirement>>,
    /// `spec.tolerations`
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// `spec.topologySpreadConstraints`
    #[serde(default)]
    pub spread: Vec<Spread>,
    /// Deployment, StatefulSet: pods at the beginning; the HPA's `min` where missing.
    pub replicas: Option<u32>,
    /// Deployment: `maxSurge`.
    #[serde(default = "quarter")]
    pub surge: Portion,
    /// Deployment: `maxUnavailable`.
    #[serde(default = "quarter")]
    pub unavailable: Portion,
    /// New images.
    #[serde(default)]
    pub rollouts: Vec<Rollout>,
    /// Load that it carries.
    pub load: Option<Load>,
    /// Who sets its replicas.
    pub hpa: Option<Hpa>,
    /// CronJob: expression of five fields.
    pub schedule: Option<String>,
    /// CronJob: IANA zone; UTC where missing.
    pub time_zone: Option<String>,
    /// Jobs: when each is created.
    pub arrivals: Option<Arrivals>,
    /// CronJob, Jobs: pods of one Job, all at once.
    #[serde(default = "one")]
    pub parallelism: u32,
    /// CronJob, Jobs: from a pod's start to its end.
    #[serde(default = "run")]
    pub run: Draw,
    /// From a pod's images to its Ready: the application's own start.
    #[serde(default = "app_start")]
    pub app_start: Draw,
    /// From a pod's deletion to its end.
    #[serde(default = "grace")]
    pub grace: Draw,
    /// Whether its pods name pull secrets.
    #[serde(default)]
    pub pull_secrets: bool,
}

/// What controls pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Any number, alike.
    #[default]
    Deployment,
    /// Numbered, one after the other.
    StatefulSet,
    /// One on each node that admits it.
    DaemonSet,
    /// A Job at each time of a calendar.
    CronJob,
    /// A Job at each time of a table.
    Jobs,
}

/// One image of the pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Container name.
    pub name: String,
    /// Reference, from the catalogue or from `[images]`.
    pub image: ImageRef,
    /// `main`, `init` or `volume`.
    #[serde(default)]
    pub role: ImageRole,
    /// `imagePullPolicy: Always`.
    #[serde(default)]
    pub always_pull: bool,
}

/// What one pod requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    /// CPUs.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Option<Size>,
    /// Ephemeral storage.
    pub ephemeral: Option<Size>,
    /// Extended resources, in whole units.
    pub extended: BTreeMap<String, u64>,
}

/// One topology spread constraint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Over what.
    pub over: Topology,
    /// `maxSkew`
    #[serde(default = "one")]
    pub skew: u32,
    /// `DoNotSchedule`, not `ScheduleAnyway`.
    #[serde(default)]
    pub hard: bool,
}

/// Topology keys that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// `topology.kubernetes.io/zone`
    Zone,
    /// `kubernetes.io/hostname`
    Host,
}

/// A new image for a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// When the template changes, from `start`.
    pub at: Span,
    /// Which container.
    pub container: String,
    /// Its image from then on.
    pub image: ImageRef,
}

/// Times at which Jobs are created.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// CSV, also gzip; relative to the spec's folder.
    pub file: PathBuf,
    /// Column of the time, as for `load`.
    pub time: String,
    /// Only rows with this in that column.
    #[serde(rename = "where")]
    pub only: Option<Where>,
    /// The row's time that is played at `start`; the first row where missing.
    pub from: Option<String>,
    /// Seconds of the table that go by in one second.
    #[serde(default = "unit")]
    pub speed: f64,
    /// Every how many rows there is a Job.
    #[serde(default = "one")]
    pub every: u32,
    /// Most Jobs of this workload that run at once; others wait, suspended.
    pub at_once: Option<u32>,
}

fn namespace() -> String {
    "default".to_owned()
}

const fn quarter() -> Portion {
    Portion::Percent(25)
}

const fn one() -> u32 {
    1
}

const fn unit() -> f64 {
    1.0
}

const fn run() -> Draw {
    Draw::quantiles(20.0, 60.0, 240.0)
}

const fn app_start() -> Draw {
    Draw::quantiles(0.5, 1.5, 6.0)
}

const fn grace() -> Draw {
    Draw::quantiles(0.5, 1.5, 10.0)
}
