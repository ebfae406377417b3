//! What an agent counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::metric::name::Name;
use crate::telemetry::metric::{Counters, Metrics};

/// Metrics of one agent.
#[derive(Clone)]
pub(super) struct Measures {
    /// By `cache`, `peer`, `origin`.
    pub(super) fetched_bytes: Counters,
    /// Their sum, for a progress bar.
    pub(super) moved: Arc<AtomicU64>,
    /// By reason.
    pub(super) failed: Counters,
    pub(super) queued_blobs: Gauge<f64, AtomicU64>,
    pub(super) present_images: Gauge<f64, AtomicU64>,
    /// Of the runtime, whoever brought them.
    pub(super) stored_images: Gauge<f64, AtomicU64>,
    pub(super) image_bytes: Gauge<f64, AtomicU64>,
}

impl Measures {
    pub(super) fn new(metrics: &mut Metrics) -> Self {
        Self {
            fetched_bytes: metrics.counters(Name::FetchedBytes),
            moved: Arc::default(),
            failed: metrics.counters(Name::FailedFetches),
            queued_blobs: metrics.gauge(Name::QueuedBlobs),
            present_images: metrics.gauge(Name::PresentImages),
            stored_images: metrics.gauge(Name::StoredImages),
            image_bytes: metrics.gauge(Name::ImageBytes),
        }
    }
}
