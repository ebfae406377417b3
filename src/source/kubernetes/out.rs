//! The signals of one observation, and the small things that every kind needs to make them.

use std::hash::{DefaultHasher, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::source::kubernetes::objects::instant;

/// The signals of one observation, with what they have in common.
pub(super) struct Out<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) plural: &'static str,
    pub(super) observed: Timestamp,
    pub(super) signals: Vec<Signal>,
}

// === impl Out ===

impl Out<'_> {
    /// Adds one signal; `what` tells apart the signals that one version of an object gives.
    pub(super) fn push(&mut self, what: &str, time: Option<Timestamp>, fact: Fact) {
        let uid = self.meta.uid.as_deref().unwrap_or_default();
        let version = self.meta.resource_version.as_deref().unwrap_or_default();
        let source = format!("/kubernetes/{}", self.plural);
        let id = format!("{uid}/{version}/{what}");
        let mut signal = Signal::new(&source, id, self.observed, fact);
        signal.time = time.unwrap_or(self.observed);
        signal.subject = self.meta.name.as_ref().map(|_| full_name(self.meta));
        self.signals.push(signal);
    }

    /// Adds one signal that only the scorer may see.
    pub(super) fn push_truth(&mut self, what: &str, time: Option<Timestamp>, fact: Fact) {
        self.push(what, time, fact);
        if let Some(signal) = self.signals.last_mut() {
            signal.truth = true;
        }
    }

    /// Adds the removal of something that a new list no longer has.
    pub(super) fn push_lost(&mut self, uid: &str, fact: Fact) {
        let source = format!("/kubernetes/{}", self.plural);
        let id = format!("{uid}/relist/removed");
        self.signals
            .push(Signal::new(&source, id, self.observed, fact));
    }

    /// When the object was made.
    pub(super) fn created(&self) -> Option<Timestamp> {
        instant(self.meta.creation_timestamp.as_ref())
    }
}

/// `namespace/name`, or the name of a cluster-scoped object.
pub(super) fn full_name(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

/// Name alone.
pub(super) fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Uid, empty where there is none.
pub(super) fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// A short stand-in for a value that is only compared with its next form: 8 bytes instead of a copy
/// of every node and workload. A collision (1 in 2^64 a change) would hide one change.
pub(super) fn fingerprint(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(bytes) = serde_json::to_vec(value) {
        hasher.write(&bytes);
    }
    hasher.finish()
}
