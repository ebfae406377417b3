//! Whom another Lease prefers: in a sidecar, the replica beside the autoscaler that leads.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::FollowedLease;

/// How long a Lease that does not say it counts without a change: client-go's default.
const DURATION: Duration = Duration::from_secs(15);

/// The other Lease, as it was last seen.
pub(super) struct Preference {
    api: Api<Lease>,
    name: String,
    seen: Option<(LeaseSpec, Instant)>,
}

impl Preference {
    pub(super) fn new(client: kube::Client, followed: &FollowedLease) -> Self {
        Self {
            api: Api::namespaced(client, &followed.namespace),
            name: followed.name.clone(),
            seen: None,
        }
    }

    /// Its holder, while it renews. An API server that does not answer `within` changes nothing until what was seen
    /// last has run out, counted on this machine alone.
    pub(super) async fn look(&mut self, within: Duration) -> Option<String> {
        match timeout(within, self.api.get_opt(&self.name)).await {
            Ok(Ok(found)) => {
                let spec = found.and_then(|lease| lease.spec)?;
                if self.seen.as_ref().is_none_or(|(old, _)| *old != spec) {
                    self.seen = Some((spec, Instant::now()));
                }
            }
            Ok(Err(reason)) => debug!(%reason, "the followed Lease cannot be read"),
            Err(_) => debug!("the followed Lease is not told in time"),
        }
        let (spec, since) = self.seen.as_ref()?;
        let duration = spec
            .lease_duration_seconds
            .and_then(|secs| u64::try_from(secs).ok());
        let duration = duration.map_or(DURATION, Duration::from_secs);
        let holder = spec.holder_identity.as_ref();
        let holder = holder.filter(|holder| !holder.is_empty() && since.elapsed() < duration);
        holder.cloned()
    }
}
