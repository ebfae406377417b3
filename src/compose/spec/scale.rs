//! `load` and `hpa` of a workload: where the load comes from, and what an HPA makes of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::compose::spec::Draw;
use crate::config::unit::Span;

/// Load of a workload over time: a column of a table, or points.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// CSV, also gzip; relative to the spec's folder.
    pub file: Option<PathBuf>,
    /// `[["0s", 100], ["10m", 400]]`: times from `start`, straight lines between.
    pub points: Vec<(Span, f64)>,
    /// Column of the time: unix seconds, RFC 3339, or `2014-02-14 14:30:00` in UTC.
    pub time: String,
    /// Column of the value.
    pub value: String,
    /// Only rows with this in that column.
    #[serde(rename = "where")]
    pub only: Option<Where>,
    /// The row's time that is played at `start`; the first row where missing.
    pub from: Option<String>,
    /// Seconds of the table that go by in one second.
    pub speed: f64,
    /// Factor of all values.
    pub scale: f64,
    /// Sigma of a log-normal factor on each sample.
    pub noise: f64,
    /// Load that one replica carries at a usage of 1.
    pub per_replica: f64,
    /// Time between two samples.
    pub sample: Span,
    /// What stands in holes.
    pub fill: Fill,
    /// The longest hole, in the table's own time, that is filled.
    pub hole_max: Span,
    /// Sort rows, take the mean of doubled ones and fill text as holes, in place of refusing them.
    pub mend: bool,
    /// Name of the series; the file's without its ending where missing.
    pub series: Option<String>,
    /// No monitoring sees it: no `load.sampled`.
    pub hidden: bool,
    /// With `copies`: each copy reads the table so much later than the one before.
    pub stagger: Span,
}

/// `{ column = "pool", is = "cluster1" }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Where {
    /// Column.
    pub column: String,
    /// Its text.
    pub is: String,
}

/// What stands in a hole of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// A straight line.
    #[default]
    Line,
    /// The value before it.
    Hold,
    /// Nothing: it is refused with its row.
    Refuse,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hpa {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Wished usage of a replica: the share of `per_replica`.
    #[serde(default = "target")]
    pub target: f64,
    /// Whether pods that are not ready count (CPU), or not (an external metric).
    #[serde(default)]
    pub metric: Metric,
    /// Usage of one replica beyond which it cannot grow: what a CPU limit does.
    pub saturation: Option<f64>,
    /// Relative distance from the target that is left alone.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// Time between two looks.
    #[serde(default = "sync")]
    pub sync: Span,
    /// Age of the metric that it sees.
    #[serde(default = "lag")]
    pub lag: Draw,
    /// `behavior.scaleUp`
    #[serde(default = "Behaviour::up")]
    pub up: Behaviour,
    /// `behavior.scaleDown`
    #[serde(default = "Behaviour::down")]
    pub down: Behaviour,
}

/// Kinds of metrics that an HPA treats differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Usage of the pods' own CPU, in whole per cent.
    #[default]
    Resource,
    /// A number from elsewhere with an average per pod as its target.
    External,
}

/// One direction of `behavior`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// `stabilizationWindowSeconds`
    #[serde(default)]
    pub stabilisation: Option<Span>,
    /// Which policy counts.
    #[serde(default)]
    pub select: Select,
    /// Steps that are allowed.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// `selectPolicy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Select {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest.
    Min,
    /// No change at all in this direction.
    Disabled,
}

/// So much within a period.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub kind: PolicyKind,
    /// Pods, or per cent of the replicas at the period's beginning.
    pub value: u32,
    /// `periodSeconds`
    pub period: Span,
}

/// `type` of a scaling policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PolicyKind {
    /// Absolute.
    Pods,
    /// Relative.
    Percent,
}

const fn target() -> f64 {
    0.65
}

const fn tolerance() -> f64 {
    0.1
}

fn sync() -> Span {
    Span(Duration::from_secs(15))
}

/// metrics-server scrapes every 15 s and answers with the last window: 5 to 30 s old.
const fn lag() -> Draw {
    Draw::quantiles(6.0, 15.0, 30.0)
}

// === impl Behaviour ===

impl Behaviour {
    /// Kubernetes' default: no window; the larger of +100 % and +4 pods per 15 s.
    #[must_use]
    pub fn up() -> Self {
        let period = Span(Duration::from_secs(15));
        let policy = |kind, value| Policy {
            kind,
            value,
            period,
        };
        Self {
            stabilisation: None,
            select: Select::Max,
            policies: vec![
                policy(PolicyKind::Percent, 100),
                policy(PolicyKind::Pods, 4),
            ],
        }
    }

    /// Kubernetes' default: a window of five minutes; all of them per 15 s.
    #[must_use]
    pub fn down() -> Self {
        Self {
            stabilisation: None,
            select: Select::Max,
            policies: vec![Policy {
                kind: PolicyKind::Percent,
                value: 100,
                period: Span(Duration::from_secs(15)),
            }],
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            file: None,
            points: Vec::new(),
            time: "ts".to_owned(),
            value: "value".to_owned(),
            only: None,
            from: None,
            speed: 1.0,
            scale: 1.0,
            noise: 0.0,
            per_replica: 1.0,
            sample: Span(Duration::from_secs(15)),
            fill: Fill::default(),
            hole_max: Span(Duration::from_hours(1)),
            mend: false,
            series: None,
            hidden: false,
            stagger: Span(Duration::ZERO),
        }
    }
}
