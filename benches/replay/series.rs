//! Load forecasts on real series that nothing was tuned on, against persistence.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use forelay::forecast::backtest::backtest;
use forelay::forecast::load::LoadSettings;
use serde::Serialize;

/// Five-minute series of the Numenta Anomaly Benchmark, as `tests/forecast_series.rs` has them.
const SERIES: [&str; 6] = [
    "Twitter_volume_AAPL",
    "ec2_cpu_utilization_24ae8d",
    "ec2_cpu_utilization_5f5533",
    "ec2_network_in_257a54",
    "grok_asg_anomaly",
    "rds_cpu_utilization_cc0c53",
];

/// Outcomes that warm a forecaster up: two days.
const WARM_UP: usize = 2 * 288;

/// Pinball losses relative to persistence with residual quantiles, geometric means over series and
/// 5, 10 and 15 minutes.
#[derive(Debug, Serialize)]
pub struct Forecast {
    /// Of both levels together.
    pub ratio: f64,
    /// At the 90 % quantile.
    p90_ratio: f64,
    /// At the 99 % quantile.
    p99_ratio: f64,
    /// Mean share of outcomes within the 90 % interval.
    pub coverage: f64,
    /// By series and minutes ahead.
    series: BTreeMap<String, One>,
}

#[derive(Debug, Serialize)]
struct One {
    p90_ratio: f64,
    p99_ratio: f64,
    coverage: f64,
    width_ratio: f64,
}

/// Backtests with a rolling origin.
pub fn measure() -> anyhow::Result<Forecast> {
    let settings = LoadSettings {
        step: Duration::from_mins(5),
        period: Duration::from_hours(24),
        horizons: vec![1, 2, 3],
    };
    let mut series = BTreeMap::new();
    for name in SERIES {
        for score in backtest(&values(name)?, &settings, WARM_UP) {
            let [p90_ratio, p99_ratio] = score.ratios();
            let one = One {
                p90_ratio,
                p99_ratio,
                coverage: score.coverage,
                width_ratio: score.sharpness,
            };
            series.insert(format!("{name} +{} min", 5 * score.steps), one);
        }
    }
    let mean = |of: &dyn Fn(&One) -> f64| {
        let values = series.values().map(of);
        values.sum::<f64>() / series.len() as f64
    };
    let p90 = mean(&|one| one.p90_ratio.ln());
    let p99 = mean(&|one| one.p99_ratio.ln());
    Ok(Forecast {
        ratio: f64::midpoint(p90, p99).exp(),
        p90_ratio: p90.exp(),
        p99_ratio: p99.exp(),
        coverage: mean(&|one| one.coverage),
        series,
    })
}

fn values(name: &str) -> anyhow::Result<Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/load/{name}.csv.gz"));
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let mut rows = csv::Reader::from_reader(GzDecoder::new(file));
    let value = |row: csv::Result<csv::StringRecord>| -> anyhow::Result<f64> {
        let row = row?;
        Ok(row.get(1).context("two columns")?.parse()?)
    };
    rows.records().map(value).collect()
}
