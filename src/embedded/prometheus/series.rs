//! Load samples by series, in the order of their times.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::signal::{Fact, Signal};
use crate::domain::time::Timestamp;
use crate::embedded::prometheus::Selector;
use crate::embedded::prometheus::millis;

/// How far back an instant looks for a sample (Prometheus' `--query.lookback-delta`).
const LOOKBACK_MS: i64 = 5 * 60 * 1_000;

/// Names and values; the metric's name is one of them.
pub(super) type Labels = BTreeMap<String, String>;

/// Milliseconds and values.
pub(super) type Values = Vec<(i64, f64)>;

/// Every `load.sampled` of a scenario.
#[derive(Clone, Debug, Default)]
pub struct LoadSeries {
    series: BTreeMap<Selector, Vec<Point>>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: i64,
    observed: Timestamp,
    value: f64,
}

/// The series as a watcher sees them at some instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    series: &'a LoadSeries,
    now: Timestamp,
}

impl<'a> FromIterator<&'a Signal> for LoadSeries {
    fn from_iter<I: IntoIterator<Item = &'a Signal>>(signals: I) -> Self {
        let mut series: BTreeMap<Selector, Vec<Point>> = BTreeMap::new();
        for signal in signals {
            if let Fact::LoadSampled(sample) = &signal.fact {
                let points = series
                    .entry(Selector::of_series(&sample.series))
                    .or_default();
                points.push(Point {
                    at: millis(signal.time),
                    observed: signal.observedtime,
                    value: sample.value,
                });
            }
        }
        for points in series.values_mut() {
            points.sort_by_key(|point| point.at);
        }
        Self { series }
    }
}

impl LoadSeries {
    /// What selects each series.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.series.keys()
    }

    pub(super) const fn seen_by(&self, now: Timestamp) -> Seen<'_> {
        Seen { series: self, now }
    }
}

impl Seen<'_> {
    /// For every selected series that has one, its value at each of the instants (milliseconds).
    pub(super) fn values(&self, selector: &Selector, instants: &[i64]) -> Vec<(&Labels, Values)> {
        let selected = self.series.series.iter();
        selected
            .filter(|(series, _)| selector.selects(series.labels()))
            .map(|(series, points)| {
                let values = instants.iter();
                let values = values.filter_map(|at| Some((*at, self.value(points, *at)?)));
                (series.labels(), values.collect::<Vec<_>>())
            })
            .filter(|(_, values)| !values.is_empty())
            .collect()
    }

    /// The last sample that is not older than the look-back.
    fn value(&self, points: &[Point], at: i64) -> Option<f64> {
        let end = points.partition_point(|point| point.at <= at);
        points[..end]
            .iter()
            .rev()
            .take_while(|point| point.at >= at - LOOKBACK_MS)
            .find(|point| point.observed <= self.now)
            .map(|point| point.value)
    }

    pub(super) fn label_names(&self) -> BTreeSet<&str> {
        self.visible()
            .flat_map(|labels| labels.keys())
            .map(String::as_str)
            .collect()
    }

    pub(super) fn label_values(&self, name: &str) -> BTreeSet<&str> {
        self.visible()
            .filter_map(|labels| labels.get(name))
            .map(String::as_str)
            .collect()
    }

    fn visible(&self) -> impl Iterator<Item = &Labels> {
        self.series
            .series
            .iter()
            .filter(|(_, points)| points.iter().any(|point| point.observed <= self.now))
            .map(|(series, _)| series.labels())
    }
}
