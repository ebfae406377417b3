//! An answer of Prometheus, read into signals.

use std::collections::BTreeMap;

use prometheus_http_query::response::{Data, RangeVector, Sample};

use crate::domain::signal::{Fact, LoadSample, Signal};
use crate::domain::time::Timestamp;
use crate::source::prometheus::LoadQuery;

/// The `source` of the signals.
const SOURCE: &str = "/prometheus";

/// What an answer held.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    /// In the order of their times.
    pub signals: Vec<Signal>,
    /// Samples that are NaN or infinite.
    pub not_finite: u64,
    /// Samples of instants at which there was more than one series.
    pub too_many: u64,
}

/// One sample per instant; `now` is when the answer came.
pub(super) fn read(query: &LoadQuery, data: Data, now: Timestamp) -> Read {
    let mut instants: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    let mut add = |sample: &Sample| {
        // Prometheus' own resolution: identities must not hang on a float's last bit.
        let millis = (sample.timestamp() * 1e3).round() as i64;
        instants.entry(millis).or_default().push(sample.value());
    };
    match data {
        Data::Vector(series) => series.iter().for_each(|one| add(one.sample())),
        Data::Matrix(series) => series.iter().flat_map(RangeVector::samples).for_each(add),
        Data::Scalar(sample) => add(&sample),
    }
    let mut read = Read::default();
    for (millis, values) in instants {
        match values[..] {
            [value] if value.is_finite() => read.signals.push(signal(query, millis, value, now)),
            [_] => read.not_finite += 1,
            _ => read.too_many += values.len() as u64,
        }
    }
    read
}

fn signal(query: &LoadQuery, millis: i64, value: f64, now: Timestamp) -> Signal {
    let time = Timestamp::from_micros(millis.saturating_mul(1_000));
    let fact = Fact::LoadSampled(LoadSample {
        series: query.name.clone(),
        workload: query.workload.clone(),
        value,
    });
    let mut signal = Signal::new(SOURCE, format!("{}@{millis}", query.name), time, fact);
    signal.subject = Some(query.name.clone());
    signal.observedtime = now.max(time);
    signal
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(result_type: &str, result: serde_json::Value) -> Read {
        let data = json!({"resultType": result_type, "result": result});
        let query = LoadQuery {
            name: "checkout".into(),
            query: "x".into(),
            workload: Some("Deployment/shop/checkout".parse().unwrap()),
        };
        let now = Timestamp::from_secs_f64(2_000.0);
        read(&query, serde_json::from_value(data).unwrap(), now)
    }

    #[test]
    fn a_sample_keeps_its_own_time_and_is_observed_when_it_comes() {
        let vector = answer(
            "vector",
            json!([{"metric": {"pod": "a"}, "value": [1500.5, "12.5"]}]),
        );
        let [signal] = &vector.signals[..] else {
            panic!("{vector:?}");
        };
        assert_eq!(signal.time, Timestamp::from_secs_f64(1500.5));
        assert_eq!(signal.observedtime, Timestamp::from_secs_f64(2000.0));
        assert_eq!(signal.id, "checkout@1500500");
        assert_eq!(answer("scalar", json!([1500.5, "12.5"])), vector);
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_counted() {
        let values = json!([
            [10, "1"],
            [20, "NaN"],
            [30, "+Inf"],
            [40, "-Inf"],
            [50, "5"]
        ]);
        let matrix = answer("matrix", json!([{"metric": {}, "values": values}]));
        assert_eq!(matrix.not_finite, 3);
        let times: Vec<f64> = matrix
            .signals
            .iter()
            .map(|s| s.time.as_secs_f64())
            .collect();
        assert_eq!(times, [10.0, 50.0]);
    }

    #[test]
    fn series_that_follow_each_other_are_one_and_series_at_once_are_refused() {
        let matrix = answer(
            "matrix",
            json!([
                {"metric": {"instance": "new"}, "values": [[30, "3"], [40, "4"]]},
                {"metric": {"instance": "old"}, "values": [[10, "1"], [20, "2"], [30, "2"]]},
            ]),
        );
        let times: Vec<f64> = matrix
            .signals
            .iter()
            .map(|s| s.time.as_secs_f64())
            .collect();
        assert_eq!(times, [10.0, 20.0, 40.0]);
        assert_eq!(matrix.too_many, 2);
    }
}
