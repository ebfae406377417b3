//! The controller's sources beside the API server, and what `/metrics` tells of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::domain::signal::Signal;
use crate::port::Clock;
use crate::source::expander::{ExpanderCounters, ExpanderSettings, ExpanderSource};
use crate::source::health::Health;
use crate::source::kafka::{KafkaSettings, KafkaSource};
use crate::source::kubernetes::offers::Offer;
use crate::source::prometheus::{LoadQuery, PrometheusSettings, PrometheusSource};
use crate::telemetry::metric::name::Name;
use crate::telemetry::metric::{Counters, Gauges, Metrics};

/// Time between two looks at the sources: well below any usual scrape interval.
const LOOK: Duration = Duration::from_secs(2);

/// Sources that run, and the metrics that show them.
pub struct Sources {
    clock: Arc<dyn Clock>,
    signals: mpsc::Sender<Signal>,
    running: Vec<(&'static str, Arc<Health>)>,
    reachable: Gauges,
    backlog: Gauges,
    failures: Counters,
    refused: Counters,
    expander: ExpanderCounters,
}

impl Sources {
    /// None yet; those to come send to `signals`. Objects that cannot be decoded are counted with the watches'.
    pub fn new(
        metrics: &mut Metrics,
        clock: Arc<dyn Clock>,
        signals: mpsc::Sender<Signal>,
        skipped: Counters,
    ) -> Self {
        Self {
            clock,
            signals,
            running: Vec::new(),
            reachable: metrics.gauges(Name::ReachableSources),
            backlog: metrics.gauges(Name::SourceBacklog),
            failures: metrics.counters(Name::SourceFailures),
            refused: metrics.counters(Name::RefusedSignals),
            expander: ExpanderCounters {
                calls: metrics.counters(Name::ExpanderCalls),
                skipped,
            },
        }
    }

    /// Begins to hear Kafka.
    pub fn kafka(&mut self, settings: &config::Kafka, identity: &str, stop: &CancellationToken) {
        let settings = KafkaSettings::new(settings, identity);
        let source = KafkaSource::new(settings, self.clock.clone());
        self.running.push(("kafka", source.health()));
        told("kafka", source.run(self.signals.clone(), stop.clone()));
    }

    /// Begins to ask Prometheus: the configuration's queries, and those of the policies.
    pub fn prometheus(
        &mut self,
        settings: &config::Prometheus,
        more: watch::Receiver<Vec<LoadQuery>>,
        stop: &CancellationToken,
    ) {
        let settings = PrometheusSettings::new(settings);
        let source = PrometheusSource::new(settings, self.clock.clone()).with(more);
        self.running.push(("prometheus", source.health()));
        told("prometheus", source.run(self.signals.clone(), stop.clone()));
    }

    /// Begins to answer cluster-autoscaler; what it tells goes to `offers`.
    pub fn expander(
        &mut self,
        settings: &config::Expander,
        listener: TcpListener,
        offers: mpsc::Sender<Offer>,
        stop: &CancellationToken,
    ) {
        let settings = ExpanderSettings::new(settings);
        let counters = self.expander.clone();
        let source = ExpanderSource::new(settings, self.clock.clone(), counters);
        self.running.push(("expander", source.health()));
        told("expander", source.run(listener, offers, stop.clone()));
    }

    /// Keeps the metrics up to date until `stop`.
    pub fn show(mut self, stop: &CancellationToken) {
        // The last sender has to be a source's, or the controller would wait for signals for ever.
        let (nobody, _) = mpsc::channel(1);
        self.signals = nobody;
        let stop = stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut shown = BTreeMap::new();
            loop {
                self.look(&mut shown);
                tokio::time::sleep(LOOK).await;
            }
        }));
    }

    /// Health counts from the start; counters are told what came since the last look.
    fn look(&self, shown: &mut BTreeMap<(&'static str, &'static str), u64>) {
        let mut since = |key, total: u64| {
            let before = shown.insert(key, total).unwrap_or(0);
            total.saturating_sub(before)
        };
        for (source, health) in &self.running {
            let reachable = f64::from(u8::from(health.is_reachable()));
            self.reachable.of(source).set(reachable);
            self.backlog.of(source).set(health.lag() as f64);
            let failures = since((*source, ""), health.failures());
            self.failures.of(source).inc_by(failures);
            for (reason, count) in health.tally.refusals() {
                let reason = reason.label();
                self.refused
                    .of(reason)
                    .inc_by(since((*source, reason), count));
            }
        }
    }
}

/// Runs a source; that it ended with an error is a log line, never the controller's end.
fn told<E: Display>(
    name: &'static str,
    running: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::error!(%error, "{name} is heard no more");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rejection::Reason;
    use crate::telemetry::clock::SystemClock;

    #[test]
    fn counters_grow_by_what_came_since_the_last_look() {
        let mut metrics = Metrics::new("test");
        let (signals, _heard) = mpsc::channel(1);
        let skipped = metrics.counters(Name::SkippedObjects);
        let mut sources = Sources::new(&mut metrics, Arc::new(SystemClock), signals, skipped);
        let health = Arc::new(Health::default());
        sources.running.push(("kafka", health.clone()));
        let mut shown = BTreeMap::new();
        let _ = health.failed();
        let _ = health.tally.refuse(Reason::NotFinite);
        sources.look(&mut shown);
        let _ = health.tally.refuse(Reason::NotFinite);
        health.answered();
        health.set_lag(7);
        sources.look(&mut shown);
        let page = metrics.encode().unwrap();
        let reason = Reason::NotFinite.label();
        for line in [
            "forelay_reachable_sources{source=\"kafka\"} 1.0".to_owned(),
            "forelay_source_backlog{source=\"kafka\"} 7.0".to_owned(),
            "forelay_source_failures_total{source=\"kafka\"} 1".to_owned(),
            format!("forelay_refused_signals_total{{reason=\"{reason}\"}} 2"),
        ] {
            assert!(page.contains(&line), "{line} is not in:\n{page}");
        }
    }
}
