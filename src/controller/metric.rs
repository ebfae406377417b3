//! What the controller counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::controller::publish::PublishError;
use crate::domain::plan::Target;
use crate::domain::signal::{Fact, Signal};
use crate::engine::cluster::{Applied, Sizes};
use crate::source::kubernetes::watch::WatchCounters;
use crate::telemetry::metric::name::Name;
use crate::telemetry::metric::{Counters, Gauges, Metrics};

/// The controller's metrics.
#[derive(Clone, Debug)]
pub struct Instruments {
    applied: Counters,
    skipped: Counters,
    lag: Gauges,
    known: Gauges,
    made: Counters,
    published: Counters,
    refused: Counters,
    models: Counters,
    in_force: Gauges,
    /// Seconds of one engine step.
    pub step: Histogram,
    /// 1 while leading.
    pub leader: Gauge<f64, AtomicU64>,
    /// The epoch written with.
    pub epoch: Gauge<f64, AtomicU64>,
    /// Plans that wait to be written.
    pub waiting_writes: Gauge<f64, AtomicU64>,
    /// Signals that wait to be taken in.
    pub waiting_signals: Gauge<f64, AtomicU64>,
    /// What the watches count.
    pub watches: WatchCounters,
}

impl Instruments {
    /// Registers all of them.
    pub fn register(metrics: &mut Metrics) -> Self {
        let skipped = metrics.counters(Name::SkippedSignals);
        Self {
            applied: metrics.counters(Name::AppliedSignals),
            skipped: skipped.clone(),
            lag: metrics.gauges(Name::SourceLagSeconds),
            known: metrics.gauges(Name::KnownObjects),
            made: metrics.counters(Name::MadePlans),
            published: metrics.counters(Name::PublishedPlans),
            refused: metrics.counters(Name::RefusedWrites),
            models: metrics.counters(Name::LoadedModels),
            in_force: metrics.gauges(Name::ModelInForce),
            step: metrics.histogram(Name::StepSeconds),
            leader: metrics.gauge(Name::Leader),
            epoch: metrics.gauge(Name::Epoch),
            waiting_writes: metrics.gauge(Name::WaitingWrites),
            waiting_signals: metrics.gauge(Name::WaitingSignals),
            watches: WatchCounters {
                skipped: metrics.counters(Name::SkippedObjects),
                failed: metrics.counters(Name::FailedWatches),
                untold: skipped,
            },
        }
    }

    pub(super) fn taken_in(&self, signal: &Signal, applied: Applied, lag_s: f64) {
        match applied {
            Applied::Changed => self.applied.of(family(&signal.fact)).inc(),
            Applied::Ignored(reason) => self.skipped.of(reason).inc(),
        };
        self.lag.of(origin(&signal.source)).set(lag_s.max(0.0));
    }

    pub(super) fn known(&self, sizes: &Sizes) {
        for (kind, count) in [
            ("node", sizes.nodes),
            ("request", sizes.requests),
            ("pod", sizes.pods),
            ("workload", sizes.workloads),
            ("scaler", sizes.scalers),
            ("announcement", sizes.announcements),
            ("image", sizes.images),
            ("plan", sizes.plans),
        ] {
            self.known.of(kind).set(count as f64);
        }
    }

    pub(super) fn made(&self, target: &Target) {
        self.made.of(kind(target)).inc();
    }

    pub(super) fn published(&self, target: &Target) {
        self.published.of(kind(target)).inc();
    }

    pub(super) fn refused(&self, error: &PublishError) {
        let reason = match error {
            PublishError::NotLeading => "not_leading",
            PublishError::Outdated(_) => "epoch",
            PublishError::Refused(_) => "invalid",
            PublishError::Missing(_) => "not_installed",
            PublishError::Unavailable(_) => "unavailable",
        };
        self.refused.of(reason).inc();
    }

    pub(super) fn model_taken(&self) {
        self.models.of("taken").inc();
    }

    pub(super) fn model_refused(&self) {
        self.models.of("refused").inc();
    }

    pub(super) fn model_in_force(&self, digest: &str) {
        self.in_force.clear();
        self.in_force.of(digest).set(1.0);
    }

    /// Whether the model whose file has this digest is in force.
    #[must_use]
    pub fn has_model(&self, digest: &str) -> bool {
        self.in_force.of(digest).get() > 0.0
    }

    /// Model files that were refused.
    #[must_use]
    pub fn refused_models(&self) -> u64 {
        self.models.of("refused").get()
    }

    /// Writes that the API server refused because a newer leader had written.
    #[must_use]
    pub fn outdated_writes(&self) -> u64 {
        self.refused.of("epoch").get()
    }

    /// Writes that failed because the definitions were not installed.
    #[must_use]
    pub fn undefined_writes(&self) -> u64 {
        self.refused.of("not_installed").get()
    }

    /// Plans of nodes that were made, published or not.
    #[must_use]
    pub fn node_plans_made(&self) -> u64 {
        self.made.of("node").get()
    }
}

fn kind(target: &Target) -> &'static str {
    match target {
        Target::Node(_) => "node",
        Target::Pool(_) => "pool",
    }
}

/// `node`, `pod`, ...: the word after `dev.forelay.`
fn family(fact: &Fact) -> &'static str {
    let name = fact.event_type();
    let name = name.strip_prefix("dev.forelay.").unwrap_or(name);
    name.split_once('.').map_or(name, |(family, _)| family)
}

/// The first part of a source: `kubernetes` of `/kubernetes/pods`.
fn origin(source: &str) -> &str {
    let source = source.trim_start_matches('/');
    source.split_once('/').map_or(source, |(first, _)| first)
}
