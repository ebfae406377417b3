//! Load forecasts on real series that nothing was tuned on, against persistence.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use forelay::forecast::backtest::{Score, backtest};
use forelay::forecast::load::LoadSettings;

/// Five-minute series of the Numenta Anomaly Benchmark (NOTICE, section 2): machines, a database, an
/// autoscaling group, mentions of a share.
const SERIES: [&str; 6] = [
    "Twitter_volume_AAPL",
    "ec2_cpu_utilization_24ae8d",
    "ec2_cpu_utilization_5f5533",
    "ec2_network_in_257a54",
    "grok_asg_anomaly",
    "rds_cpu_utilization_cc0c53",
];

fn values(name: &str) -> Vec<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/load/{name}.csv.gz"));
    let mut rows = csv::Reader::from_reader(GzDecoder::new(File::open(path).unwrap()));
    rows.records()
        .map(|row| row.unwrap()[1].parse().unwrap())
        .collect()
}

/// 5, 10 and 15 minutes ahead, after two days of warming up.
fn scores(name: &str) -> Vec<Score> {
    let settings = LoadSettings {
        step: Duration::from_mins(5),
        period: Duration::from_hours(24),
        horizons: vec![1, 2, 3],
    };
    backtest(&values(name), &settings, 2 * 288)
}

#[test]
fn quantiles_lose_less_than_those_of_persistence_and_intervals_hold_what_they_say() {
    let mut logs = Vec::new();
    let mut coverage = Vec::new();
    for name in SERIES {
        for score in scores(name) {
            let [p90, p99] = score.ratios();
            println!(
                "{name} +{} min: p90 {p90:.3}, p99 {p99:.3}, 90 % interval {:.3}, width {:.2}",
                5 * score.steps,
                score.coverage,
                score.sharpness
            );
            logs.extend([p90.ln(), p99.ln()]);
            coverage.push(score.coverage);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let ratio = mean(&logs).exp();
    println!(
        "geometric mean {ratio:.3}, mean coverage {:.3}",
        mean(&coverage)
    );
    // 0.86 when this was written; the goal is 0.88. Minute series with a daily shape lose far less: this
    // is the hard end.
    assert!(ratio <= 0.88, "{ratio}");
    assert!(
        (0.87..=0.93).contains(&mean(&coverage)),
        "{}",
        mean(&coverage)
    );
}
