//! The `data` of an event, read as its `type` says.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::domain::signal::Fact;
use crate::source::cloudevents::attributes::{malformed, quoted};
use crate::source::rejection::Rejection;

/// One arm per type: the type is known before the data is looked at, so a wrong member can be
/// named with its path (serde loses it in an adjacently tagged enum).
macro_rules! facts {
    ($($kind:literal => $variant:ident,)*) => {
        /// Every CloudEvents `type` that is read.
        #[cfg(test)]
        pub(super) const TYPES: &[&str] = &[$($kind),*];

        fn read<'de, D: Deserializer<'de>>(kind: &str, data: D) -> Result<Fact, Rejection>
        where
            D::Error: std::fmt::Display,
        {
            match kind {
                $($kind => member(data).map(Fact::$variant),)*
                _ => Err(Rejection::UnknownType(quoted(kind))),
            }
        }

        /// Refuses types that are not read.
        pub(super) fn check_known(kind: &str) -> Result<(), Rejection> {
            match kind {
                $($kind)|* => Ok(()),
                _ => Err(Rejection::UnknownType(quoted(kind))),
            }
        }
    };
}

facts! {
    "dev.forelay.node.offered.v1" => NodeOffered,
    "dev.forelay.node.requested.v1" => NodeRequested,
    "dev.forelay.node.launched.v1" => NodeLaunched,
    "dev.forelay.node.joined.v1" => NodeJoined,
    "dev.forelay.node.ready.v1" => NodeReady,
    "dev.forelay.node.interrupted.v1" => NodeInterrupted,
    "dev.forelay.node.inventory.v1" => NodeInventory,
    "dev.forelay.node.removed.v1" => NodeRemoved,
    "dev.forelay.pod.pending.v1" => PodPending,
    "dev.forelay.pod.gated.v1" => PodGated,
    "dev.forelay.pod.nominated.v1" => PodNominated,
    "dev.forelay.pod.bound.v1" => PodBound,
    "dev.forelay.pod.started.v1" => PodStarted,
    "dev.forelay.pod.removed.v1" => PodRemoved,
    "dev.forelay.workload.applied.v1" => WorkloadApplied,
    "dev.forelay.workload.removed.v1" => WorkloadRemoved,
    "dev.forelay.scaler.observed.v1" => ScalerObserved,
    "dev.forelay.capacity.announced.v1" => CapacityAnnounced,
    "dev.forelay.load.sampled.v1" => LoadSampled,
    "dev.forelay.image.resolved.v1" => ImageResolved,
    "dev.forelay.image.pulled.v1" => ImagePulled,
    "dev.forelay.transfer.finished.v1" => TransferFinished,
    "dev.forelay.plan.published.v1" => PlanPublished,
    "dev.forelay.prefetch.finished.v1" => PrefetchFinished,
}

/// From data that is parsed already.
pub(super) fn decode(kind: &str, data: Value) -> Result<Fact, Rejection> {
    read(kind, data)
}

/// From the bytes of a JSON text.
pub(super) fn decode_bytes(kind: &str, data: &[u8]) -> Result<Fact, Rejection> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let fact = read(kind, &mut json)?;
    json.end().map_err(|e| malformed("data", e.to_string()))?;
    Ok(fact)
}

fn member<'de, T, D>(data: D) -> Result<T, Rejection>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    serde_path_to_error::deserialize(data).map_err(|e| {
        let path = e.path().to_string();
        let place = match path.as_str() {
            "." => "data".to_owned(),
            path if path.starts_with('[') => format!("data{path}"),
            path => format!("data.{path}"),
        };
        malformed(quoted(&place), e.inner().to_string())
    })
}
