//! The metrics of every process, by names from one closed list.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::telemetry::metric::name::Name;

pub mod name;

/// What `/metrics` is answered with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Distinct label values per metric; what comes later is counted under [`OTHER`]. Reasons,
/// statuses and families are closed lists far below it, so it stops mistakes and hostile input.
pub const LABEL_VALUES_MAX: usize = 64;

/// The label value of all values beyond the bound.
pub const OTHER: &str = "other";

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    registered: Vec<Name>,
}

/// Counters of one name, told apart by the value of its label.
pub type Counters = Labelled<Counter>;

/// Gauges of one name, told apart by the value of its label.
pub type Gauges = Labelled<Gauge<f64, AtomicU64>>;

/// Metrics of one name, one per value of its label, at most [`LABEL_VALUES_MAX`] of them.
#[derive(Clone, Debug)]
pub struct Labelled<M> {
    label: &'static str,
    family: Family<[(&'static str, String); 1], M>,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

// === impl Metrics ===

impl Metrics {
    /// Metrics of the process `role` (`controller`, `agent`, `cache`), with the build's own.
    pub fn new(role: &'static str) -> Self {
        let mut registry = Registry::with_prefix("forelay");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
        registry.register("build", "Version and role of this process", build);
        Self {
            registry,
            registered: Vec::new(),
        }
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: Name) -> Counter {
        let counter = Counter::default();
        self.register(name, counter.clone());
        counter
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: Name) -> Gauge<f64, AtomicU64> {
        let gauge = Gauge::default();
        self.register(name, gauge.clone());
        gauge
    }

    /// Durations: buckets from half a millisecond to 40 minutes, each twice the one before. The
    /// shortest things measured are engine steps, the longest are image transfers.
    pub fn histogram(&mut self, name: Name) -> Histogram {
        let buckets = (0..23).map(|step| 0.0005 * f64::from(1u32 << step));
        let histogram = Histogram::new(buckets);
        self.register(name, histogram.clone());
        histogram
    }

    /// A counter per value of the label that belongs to the name.
    pub fn counters(&mut self, name: Name) -> Counters {
        self.labelled(name)
    }

    /// A gauge per value of the label that belongs to the name.
    pub fn gauges(&mut self, name: Name) -> Gauges {
        self.labelled(name)
    }

    /// The page in OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    fn labelled<M>(&mut self, name: Name) -> Labelled<M>
    where
        M: Default + Clone + fmt::Debug + Send + Sync + 'static,
        Family<[(&'static str, String); 1], M>: Metric,
    {
        let family = Family::default();
        self.register(name, family.clone());
        Labelled {
            label: name.label().unwrap_or("kind"),
            family,
            seen: Arc::default(),
        }
    }

    fn register(&mut self, name: Name, metric: impl Metric) {
        // Two of one name make a page that no scraper takes: a defect, found by any test.
        debug_assert!(
            !self.registered.contains(&name),
            "{name:?} is registered twice"
        );
        self.registered.push(name);
        match name.unit() {
            Some(unit) => {
                let unit = Unit::Other(unit.to_owned());
                self.registry
                    .register_with_unit(name.stem(), name.help(), unit, metric);
            }
            None => self.registry.register(name.stem(), name.help(), metric),
        }
    }
}

// === impl Labelled ===

impl<M: Default + Clone> Labelled<M> {
    /// The metric of this value, or of [`OTHER`] when there are too many.
    pub fn of(&self, value: &str) -> M {
        // A panic elsewhere leaves the set whole: each change is one insertion.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(value) {
            if seen.len() >= LABEL_VALUES_MAX {
                return self
                    .family
                    .get_or_create_owned(&[(self.label, OTHER.to_owned())]);
            }
            seen.insert(value.to_owned());
        }
        self.family
            .get_or_create_owned(&[(self.label, value.to_owned())])
    }

    /// Takes all of them off the page: for what is one thing at a time.
    pub fn clear(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clear();
        self.family.clear();
    }
}

/// The table of all metrics, for `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "<!-- Generated by `forelay generate metrics`; a test compares it. -->\n\
         # Metrics\n\n\
         Served as OpenMetrics text at `/metrics` of the admin address. A label has at most 64 \
         values; what comes later is counted under `other`.\n\n\
         | metric | label | meaning |\n| --- | --- | --- |\n",
    );
    for name in Name::ALL {
        let label = name
            .label()
            .map_or_else(String::new, |label| format!("`{label}`"));
        let _ = writeln!(page, "| `{}` | {label} | {} |", name.full(), name.help());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_prefix_the_unit_and_the_end_mark() {
        let mut metrics = Metrics::new("agent");
        metrics.counters(Name::FetchedBytes).of("cache").inc_by(7);
        metrics.gauge(Name::QueuedBlobs).set(2.0);
        metrics.histogram(Name::StepSeconds).observe(0.001);
        let page = metrics.encode().unwrap();
        for line in [
            "forelay_build_info{version=",
            "forelay_fetched_bytes_total{from=\"cache\"} 7",
            "forelay_queued_blobs 2.0",
            "forelay_step_seconds_bucket{le=\"0.001\"} 1",
            "# UNIT forelay_step_seconds seconds",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} is not in:\n{page}");
        }
    }

    #[test]
    fn every_full_name_is_the_one_on_the_page() {
        for name in Name::ALL {
            let mut metrics = Metrics::new("test");
            if name.full().ends_with("_total") {
                metrics.counters(name).of("x").inc();
            } else {
                metrics.gauge(name).set(1.0);
            }
            let page = metrics.encode().unwrap();
            let start = format!("\n{}", name.full());
            assert!(page.contains(&start), "{start} is not in:\n{page}");
        }
    }

    #[test]
    fn label_values_beyond_the_bound_are_counted_together() {
        let mut metrics = Metrics::new("test");
        let counters = metrics.counters(Name::SkippedSignals);
        for value in 0..LABEL_VALUES_MAX + 3 {
            counters.of(&format!("v{value}")).inc();
        }
        counters.of("v0").inc();
        assert_eq!((counters.of("v0").get(), counters.of(OTHER).get()), (2, 3));
    }
}
