//! Quantities of a spec: a time that is drawn, a number of CPUs, a number or a share of replicas.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::config::unit::Span;

/// A time that is drawn anew each time: a log-normal body through three quantiles, or one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// One in ten is shorter, in seconds.
    pub p10: f64,
    /// The median, in seconds.
    pub p50: f64,
    /// One in twenty is longer, in seconds.
    pub p95: f64,
}

/// Thousandths of a CPU, written as cores (`2`, `0.5`) or in Kubernetes' `500m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu(pub u64);

/// A number of replicas, or a share of them in per cent (`"25%"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many.
    Count(u32),
    /// Per cent.
    Percent(u32),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantiles {
    p10: Span,
    p50: Span,
    p95: Span,
}

// === impl Draw ===

impl Draw {
    /// Always the same, in seconds.
    #[must_use]
    pub const fn always(seconds: f64) -> Self {
        Self::quantiles(seconds, seconds, seconds)
    }

    /// From quantiles in seconds.
    #[must_use]
    pub const fn quantiles(p10: f64, p50: f64, p95: f64) -> Self {
        Self { p10, p50, p95 }
    }
}

impl<'de> Deserialize<'de> for Draw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Times;

        impl<'de> Visitor<'de> for Times {
            type Value = Draw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\", or { p10 = \"20s\", p50 = \"30s\", p95 = \"90s\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Draw, E> {
                let span: Span = text.parse().map_err(E::custom)?;
                Ok(Draw::always(span.0.as_secs_f64()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Draw, A::Error> {
                let found = Quantiles::deserialize(MapAccessDeserializer::new(map))?;
                let seconds = |span: Span| span.0.as_secs_f64();
                Ok(Draw::quantiles(
                    seconds(found.p10),
                    seconds(found.p50),
                    seconds(found.p95),
                ))
            }
        }
        deserializer.deserialize_any(Times)
    }
}

// === impl Cpu ===

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cores;

        impl Visitor<'_> for Cores {
            type Value = Cpu;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("CPUs such as 2, 0.5 or \"500m\"")
            }

            fn visit_i64<E: de::Error>(self, cores: i64) -> Result<Cpu, E> {
                self.visit_f64(cores as f64)
            }

            fn visit_u64<E: de::Error>(self, cores: u64) -> Result<Cpu, E> {
                self.visit_f64(cores as f64)
            }

            fn visit_f64<E: de::Error>(self, cores: f64) -> Result<Cpu, E> {
                // 2^20 CPUs: more than any machine has, and far from where a f64 loses thousandths.
                if (0.0..=1_048_576.0).contains(&cores) {
                    Ok(Cpu((cores * 1000.0).round() as u64))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(cores), &self))
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpu, E> {
                let refused = || E::invalid_value(de::Unexpected::Str(text), &Self);
                match text.strip_suffix('m') {
                    Some(milli) => milli.parse().map(Cpu).map_err(|_| refused()),
                    None => self.visit_f64(text.parse().map_err(|_| refused())?),
                }
            }
        }
        deserializer.deserialize_any(Cores)
    }
}

// === impl Portion ===

impl Portion {
    /// Of `replicas`, rounded up as Kubernetes does for `maxSurge`.
    #[must_use]
    pub fn up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => Self::share(percent, replicas, 99),
        }
    }

    /// Of `replicas`, rounded down as Kubernetes does for `maxUnavailable`.
    #[must_use]
    pub fn down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => Self::share(percent, replicas, 0),
        }
    }

    fn share(percent: u32, replicas: u32, round: u64) -> u32 {
        let hundredths = u64::from(percent) * u64::from(replicas) + round;
        u32::try_from(hundredths / 100).unwrap_or(u32::MAX)
    }
}

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pods;

        impl Visitor<'_> for Pods {
            type Value = Portion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of pods, or a share such as \"25%\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Portion, E> {
                let refused = |_| E::invalid_value(de::Unexpected::Signed(count), &self);
                u32::try_from(count).map(Portion::Count).map_err(refused)
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Portion, E> {
                let refused = |_| E::invalid_value(de::Unexpected::Unsigned(count), &self);
                u32::try_from(count).map(Portion::Count).map_err(refused)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Portion, E> {
                let percent = text.strip_suffix('%').and_then(|n| n.trim().parse().ok());
                let percent = percent.filter(|percent| *percent <= 1000);
                let refused = || E::invalid_value(de::Unexpected::Str(text), &self);
                percent.map(Portion::Percent).ok_or_else(refused)
            }
        }
        deserializer.deserialize_any(Pods)
    }
}
