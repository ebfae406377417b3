//! Parameters read and results written as Prometheus 2.42 does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::time::Timestamp;
use crate::embedded::prometheus::millis;
use crate::embedded::prometheus::selector::{Selector, SelectorError};
use crate::embedded::prometheus::series::Seen;

/// Instants of one answer at most.
const POINTS: i64 = 11_000;

/// A request that is refused (`bad_data`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid timestamp")]
    Time { name: &'static str, text: String },
    #[error("invalid parameter \"step\": cannot parse \"{0}\" to a valid duration")]
    Step(String),
    #[error("invalid parameter \"end\": end timestamp must not be before start time")]
    Backwards,
    #[error(
        "invalid parameter \"step\": zero or negative query resolution step widths are not \
         accepted. Try a positive integer"
    )]
    NoStep,
    #[error(
        "exceeded maximum resolution of 11,000 points per timeseries. \
         Try decreasing the query resolution (?step=XX)"
    )]
    TooMany,
    #[error("invalid parameter \"query\": {0}")]
    Query(#[from] SelectorError),
}

/// An instant: seconds with a fraction, or RFC 3339.
pub(super) fn time(
    name: &'static str,
    text: Option<&str>,
    default: Option<Timestamp>,
) -> Result<i64, ApiError> {
    let text = match (text, default) {
        (None | Some(""), Some(default)) => return Ok(millis(default)),
        (text, _) => text.unwrap_or_default(),
    };
    let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite());
    seconds
        .map(|seconds| (seconds * 1e3).round() as i64)
        .or_else(|| text.parse().ok().map(millis))
        .ok_or_else(|| ApiError::Time {
            name,
            text: text.chars().take(100).collect(),
        })
}

/// The instants from `start` to `end`.
pub(super) fn steps(start: i64, end: i64, step: Option<&str>) -> Result<Vec<i64>, ApiError> {
    let step = duration(step.unwrap_or_default())?;
    if end < start {
        return Err(ApiError::Backwards);
    }
    if step <= 0 {
        return Err(ApiError::NoStep);
    }
    if end.saturating_sub(start) / step > POINTS {
        return Err(ApiError::TooMany);
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok((start..=end).step_by(step).collect())
}

/// Milliseconds of `15`, `0.5`, `15s`, `1m`.
fn duration(text: &str) -> Result<i64, ApiError> {
    const UNITS: [(&str, f64); 6] = [
        ("ms", 1.0),
        ("s", 1e3),
        ("m", 6e4),
        ("h", 3.6e6),
        ("d", 8.64e7),
        ("w", 6.048e8),
    ];
    let with_unit = || {
        UNITS.iter().find_map(|(unit, millis)| {
            let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(f64::from(count) * millis)
        })
    };
    let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite());
    seconds
        .map(|seconds| seconds * 1e3)
        .or_else(with_unit)
        .map(|millis| millis.round() as i64)
        .ok_or_else(|| ApiError::Step(text.chars().take(100).collect()))
}

pub(super) fn selector(text: Option<&str>) -> Result<Selector, ApiError> {
    Ok(text.unwrap_or_default().parse()?)
}

/// A `vector`: the value of each selected series at one instant.
pub(super) fn instant(seen: &Seen<'_>, selector: &Selector, at: i64) -> Value {
    let result: Vec<Value> = seen
        .values(selector, &[at])
        .into_iter()
        .flat_map(|(metric, values)| {
            values
                .into_iter()
                .map(move |value| json!({"metric": metric, "value": pair(value)}))
        })
        .collect();
    json!({"resultType": "vector", "result": result})
}

/// A `matrix`: the values of each selected series at every instant that has one.
pub(super) fn range(seen: &Seen<'_>, selector: &Selector, instants: &[i64]) -> Value {
    let result: Vec<Value> = seen
        .values(selector, instants)
        .into_iter()
        .map(|(metric, values)| {
            let values: Vec<Value> = values.into_iter().map(pair).collect();
            json!({"metric": metric, "values": values})
        })
        .collect();
    json!({"resultType": "matrix", "result": result})
}

/// `[seconds, "value"]`, whole seconds without a fraction.
fn pair((at, value): (i64, f64)) -> Value {
    let seconds = if at % 1_000 == 0 {
        json!(at / 1_000)
    } else {
        json!(Duration::from_millis(at.unsigned_abs()).as_secs_f64())
    };
    let value = match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    json!([seconds, value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_steps_are_read_in_all_their_forms() {
        assert_eq!(time("time", Some("12.5"), None), Ok(12_500));
        assert_eq!(time("time", Some("1970-01-01T00:00:01Z"), None), Ok(1_000));
        assert_eq!(time("time", None, Some(Timestamp::ZERO)), Ok(0));
        assert!(time("start", None, None).is_err());
        assert!(time("start", Some("Inf"), None).is_err());
        for (text, millis) in [
            ("15", 15_000),
            ("0.5", 500),
            ("90s", 90_000),
            ("2m", 120_000),
        ] {
            assert_eq!(duration(text), Ok(millis));
        }
        assert_eq!(steps(0, 3_000, Some("1")), Ok(vec![0, 1_000, 2_000, 3_000]));
        assert_eq!(steps(0, 1, Some("-1")), Err(ApiError::NoStep));
        assert_eq!(steps(1, 0, Some("1")), Err(ApiError::Backwards));
        assert_eq!(steps(0, i64::MAX, Some("1")), Err(ApiError::TooMany));
    }

    #[test]
    fn values_are_written_without_exponents() {
        assert_eq!(pair((1_000, 1e21)), json!([1, "1000000000000000000000"]));
        assert_eq!(pair((1_500, 0.25)), json!([1.5, "0.25"]));
    }
}
