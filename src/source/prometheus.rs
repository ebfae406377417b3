//! Load series from Prometheus: the history once, then every step.
//!
//! Every instant asked for lies on a grid of the interval, so that replicas and restarts ask for
//! the same instants and get the same identities. What has not been answered is asked again with
//! the next step: start, outage and ordinary poll are the same code. A Prometheus that is slow or
//! dead costs its own knowledge only.

mod ask;
mod grid;
mod samples;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::domain::signal::Signal;
use crate::domain::workload::WorkloadRef;
use crate::port::Clock;
use crate::source::health::Health;
use crate::source::prometheus::ask::{AskError, Asker};
use crate::source::prometheus::grid::Grid;
use crate::source::rejection::Reason;

/// Queries under way at the same time.
const CONCURRENCY: usize = 4;

/// What to ask, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Base URL.
    pub url: String,
    /// The series.
    pub queries: Vec<LoadQuery>,
    /// Time between two samples, in whole seconds, at least one.
    pub interval: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// How far back the first request goes.
    pub history: Duration,
}

/// A query that gives one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadQuery {
    /// Name of the series in signals.
    pub name: String,
    /// PromQL.
    pub query: String,
    /// The workload that scales with it.
    pub workload: Option<WorkloadRef>,
}

/// Asks Prometheus until it is told to stop.
pub struct PrometheusSource {
    settings: PrometheusSettings,
    /// Queries beside those of the settings; they come and go.
    more: Option<watch::Receiver<Vec<LoadQuery>>>,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
}

/// A source that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// No client can be made of the settings.
    #[error("prometheus: {0}")]
    Settings(String),
}

/// How far one query has been answered.
struct Progress {
    query: LoadQuery,
    /// The next instant to ask for, in seconds; none before the first answer.
    next: Option<i64>,
}

impl PrometheusSettings {
    /// From the configuration, with a day of history: one season of the load models.
    #[must_use]
    pub fn new(prometheus: &config::Prometheus) -> Self {
        let queries = prometheus.queries.iter().map(|query| LoadQuery {
            name: query.name.clone(),
            query: query.query.clone(),
            workload: query.workload.clone(),
        });
        Self {
            url: prometheus.url.clone(),
            queries: queries.collect(),
            interval: prometheus.interval,
            timeout: prometheus.timeout,
            history: Duration::from_hours(24),
        }
    }
}

impl PrometheusSource {
    /// Nothing is connected before `run`.
    #[must_use]
    pub fn new(settings: PrometheusSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            more: None,
            clock,
            health: Arc::default(),
        }
    }

    /// Asks for these queries too, as they are at each step. A name that is taken already, in the
    /// settings or by an earlier one, is left out.
    #[must_use]
    pub fn with(mut self, more: watch::Receiver<Vec<LoadQuery>>) -> Self {
        self.more = Some(more);
        self
    }

    /// Its counts and state, readable while it runs.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Asks until `stop` or until nobody receives.
    pub async fn run(
        self,
        out: mpsc::Sender<Signal>,
        stop: CancellationToken,
    ) -> Result<(), PrometheusError> {
        let asker = Asker::new(&self.settings.url, self.settings.timeout)
            .map_err(PrometheusError::Settings)?;
        let grid = Grid::new(self.settings.interval);
        let mut queries = Vec::new();
        while !out.is_closed() {
            queries = self.renewed(queries);
            let round = stream::iter(&mut queries).for_each_concurrent(CONCURRENCY, |query| {
                self.catch_up(&asker, grid, query, &out)
            });
            tokio::select! {
                () = round => self.health.caught_up(),
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = self.clock.sleep_until(grid.after(self.clock.now())) => {}
                () = stop.cancelled() => break,
            }
        }
        Ok(())
    }

    /// The queries of now, each as far as it was if it was there before.
    fn renewed(&self, mut before: Vec<Progress>) -> Vec<Progress> {
        let more = self.more.as_ref().map(|more| more.borrow().clone());
        let mut names = BTreeSet::new();
        self.settings
            .queries
            .iter()
            .cloned()
            .chain(more.into_iter().flatten())
            .filter(|query| names.insert(query.name.clone()))
            .map(|query| {
                let known = before.iter().position(|progress| progress.query == query);
                known.map_or(Progress { query, next: None }, |at| before.swap_remove(at))
            })
            .collect()
    }

    /// Asks for every instant since the last answer, oldest first.
    async fn catch_up(
        &self,
        asker: &Asker,
        grid: Grid,
        progress: &mut Progress,
        out: &mpsc::Sender<Signal>,
    ) {
        let now = self.clock.now();
        let oldest = grid.at(now - self.settings.history);
        let from = progress.next.map_or(oldest, |next| next.max(oldest));
        for window in grid.windows(from, grid.at(now)) {
            let data = match asker.ask(&progress.query.query, window).await {
                Ok(data) => data,
                Err(error) => return self.failed(&progress.query, &error),
            };
            self.health.answered();
            let read = samples::read(&progress.query, data, self.clock.now());
            self.count(&progress.query, &read);
            for signal in read.signals {
                if out.send(signal).await.is_err() {
                    return;
                }
                self.health.tally.take();
            }
            progress.next = Some(window.end + grid.step());
        }
    }

    fn count(&self, query: &LoadQuery, read: &samples::Read) {
        for _ in 0..read.not_finite {
            let _ = self.health.tally.refuse(Reason::NotFinite);
        }
        for _ in 0..read.too_many {
            if let Some(count) = self.health.tally.refuse(Reason::TooManySeries) {
                tracing::warn!(
                    query = query.name,
                    count,
                    "samples skipped: the query gives several series at once; \
                     make it one, for example with sum(..)"
                );
            }
        }
    }

    fn failed(&self, query: &LoadQuery, error: &AskError) {
        if let Some(count) = self.health.failed() {
            tracing::warn!(
                query = query.name,
                url = self.settings.url,
                count,
                "no load samples: {error}; asked again with the next step"
            );
        }
    }
}
