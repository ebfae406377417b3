//! What a cache counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::metric::name::Name;
use crate::telemetry::metric::{Counters, Metrics};

/// Counters shared by all parts of one cache.
#[derive(Clone)]
pub(super) struct Measures {
    pub(super) upstream_bytes: Counter,
    /// By `whole`, `failed`, `revalidated`, `stale`.
    pub(super) upstream: Counters,
    pub(super) served_bytes: Counter,
    /// By status.
    pub(super) requests: Counters,
    pub(super) evicted_bytes: Counter,
    pub(super) stored_bytes: Gauge<f64, AtomicU64>,
    /// Blob fetches begun; not on the metrics page, where outcomes say more.
    pub(super) begun: Counter,
}

impl Measures {
    pub(super) fn new(metrics: &mut Metrics) -> Self {
        Self {
            upstream_bytes: metrics.counter(Name::UpstreamBytes),
            upstream: metrics.counters(Name::UpstreamFetches),
            served_bytes: metrics.counter(Name::ServedBytes),
            requests: metrics.counters(Name::ServedRequests),
            evicted_bytes: metrics.counter(Name::EvictedBytes),
            stored_bytes: metrics.gauge(Name::StoredBytes),
            begun: Counter::default(),
        }
    }
}
