//! Everything that has a pod template.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use crate::source::kubernetes::objects::pod::Template;
use crate::source::kubernetes::objects::{Condition, or_default};

/// `apps/v1 ReplicaSet`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReplicaSet {
    /// Its owner is the Deployment.
    pub metadata: ObjectMeta,
    /// Template of one without an owner.
    pub spec: ScaledSpec,
}

/// `apps/v1 Deployment`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Name, generation.
    pub metadata: ObjectMeta,
    /// Template and strategy.
    pub spec: ScaledSpec,
    /// How far a rollout is.
    pub status: ScaledStatus,
}

/// `apps/v1 StatefulSet`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatefulSet {
    /// Name, generation.
    pub metadata: ObjectMeta,
    /// Template.
    pub spec: ScaledSpec,
    /// How far a rollout is.
    pub status: ScaledStatus,
}

/// The parts that Deployment, StatefulSet and ReplicaSet specs share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScaledSpec {
    /// One, where missing.
    pub replicas: Option<u32>,
    /// Of its pods.
    pub template: Template,
    /// How a Deployment replaces pods.
    pub strategy: Strategy,
    /// A paused Deployment makes no new pods.
    pub paused: bool,
}

/// `apps/v1 DeploymentStrategy`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// `Recreate` or `RollingUpdate`
    pub r#type: String,
    /// Steps.
    #[serde(deserialize_with = "or_default")]
    pub rolling_update: RollingUpdate,
}

/// `apps/v1 RollingUpdateDeployment`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// Pods above the wanted number, absolute or in per cent.
    pub max_surge: Option<IntOrString>,
}

/// The parts that Deployment and StatefulSet statuses share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledStatus {
    /// The spec that the rest is about.
    pub observed_generation: i64,
    /// Pods of any template.
    pub replicas: u32,
    /// Pods of the current template.
    pub updated_replicas: u32,
}

/// `apps/v1 DaemonSet`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DaemonSet {
    /// Name, generation.
    pub metadata: ObjectMeta,
    /// Template.
    pub spec: TemplateSpec,
    /// Counts over nodes.
    pub status: DaemonSetStatus,
}

/// A spec of which only the template is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TemplateSpec {
    /// Of its pods.
    pub template: Template,
}

/// `apps/v1 DaemonSetStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    /// The spec that the rest is about.
    pub observed_generation: i64,
    /// Nodes that should run it.
    pub desired_number_scheduled: u32,
    /// Nodes that do.
    pub current_number_scheduled: u32,
    /// Nodes that run the current template.
    pub updated_number_scheduled: u32,
}

/// `batch/v1 Job`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its owner may be a CronJob.
    pub metadata: ObjectMeta,
    /// Template and parallelism.
    pub spec: JobSpec,
    /// Whether it is over.
    pub status: JobStatus,
}

/// `batch/v1 JobSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobSpec {
    /// Of its pods.
    pub template: Template,
    /// Pods at a time; one, where missing.
    pub parallelism: Option<u32>,
    /// Makes no pods for now.
    pub suspend: bool,
}

/// `batch/v1 JobStatus`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// `Complete`, `Failed`, `Suspended`
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
}

/// `batch/v1 CronJob`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CronJob {
    /// Name.
    pub metadata: ObjectMeta,
    /// When and what.
    pub spec: CronJobSpec,
}

/// `batch/v1 CronJobSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    /// Cron expression.
    pub schedule: String,
    /// IANA name.
    pub time_zone: Option<String>,
    /// Starts no jobs for now.
    pub suspend: bool,
    /// The job that it starts.
    pub job_template: JobTemplate,
}

/// `batch/v1 JobTemplateSpec`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    /// Of the job.
    pub spec: JobSpec,
}
