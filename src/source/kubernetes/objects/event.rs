//! Kubernetes Events in both API versions, read into one type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde::Deserialize;

use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::{instant, or_default};

/// `v1.Event` and `events.k8s.io/v1.Event`: one stored object, served under two sets of names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// The same uid and resourceVersion in both.
    pub metadata: ObjectMeta,
    /// What it is about.
    #[serde(alias = "regarding")]
    pub involved_object: Involved,
    /// One word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// A sentence.
    #[serde(alias = "note", deserialize_with = "or_default")]
    pub message: String,
    /// Old-style reporter.
    #[serde(alias = "deprecatedSource", deserialize_with = "or_default")]
    pub source: EventSource,
    /// New-style reporter.
    #[serde(alias = "reportingController", deserialize_with = "or_default")]
    pub reporting_component: String,
    /// Its host, for the kubelet.
    #[serde(deserialize_with = "or_default")]
    pub reporting_instance: String,
    /// Of a new-style event.
    pub event_time: Option<MicroTime>,
    /// Of an old-style event.
    #[serde(alias = "deprecatedFirstTimestamp")]
    pub first_timestamp: Option<Time>,
    /// Of its last repetition.
    #[serde(alias = "deprecatedLastTimestamp")]
    pub last_timestamp: Option<Time>,
    /// Of a repeated new-style event.
    pub series: Option<EventSeries>,
}

/// `v1.ObjectReference`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Involved {
    /// Kind.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// `spec.containers{name}`
    pub field_path: String,
}

/// `v1.EventSource`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventSource {
    /// `kubelet`, `cluster-autoscaler`, ...
    pub component: String,
    /// Node name, for the kubelet.
    pub host: String,
}

/// `v1.EventSeries`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSeries {
    /// When it was last seen.
    pub last_observed_time: Option<MicroTime>,
}

impl Event {
    /// Who reports, under whichever name it is written.
    #[must_use]
    pub fn component(&self) -> &str {
        if self.source.component.is_empty() {
            &self.reporting_component
        } else {
            &self.source.component
        }
    }

    /// The reporter's node.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.source.host.is_empty() {
            &self.reporting_instance
        } else {
            &self.source.host
        }
    }

    /// When it (last) happened; exporters and the scheduler leave any of these empty.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        let micro = |t: Option<&MicroTime>| t.map(|t| Timestamp::from_micros(t.0.as_microsecond()));
        micro(
            self.series
                .as_ref()
                .and_then(|s| s.last_observed_time.as_ref()),
        )
        .or_else(|| instant(self.last_timestamp.as_ref()))
        .or_else(|| micro(self.event_time.as_ref()))
        .or_else(|| instant(self.first_timestamp.as_ref()))
        .or_else(|| instant(self.metadata.creation_timestamp.as_ref()))
    }
}
