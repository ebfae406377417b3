//! Durations, sizes, rates, counts and lists as people write them in a configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::quantity::{Bandwidth, ByteSize};

/// Why a written quantity was refused; the text says what was expected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// The text is no duration in jiff's friendly format.
    #[error("`{0}` is not a duration such as `250ms`, `15s` or `1h 30m`")]
    Duration(String),
    /// The text is no size.
    #[error("`{0}` is not a size such as `512MiB`, `20GiB` or `1.5TB`")]
    Size(String),
    /// The text is no rate.
    #[error("`{0}` is not a rate such as `50MiB/s` or `1Gbit/s`")]
    Rate(String),
}

/// A span of time, never negative; jiff's friendly format, for example `15s` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes; decimal (`kB` to `TB`) or binary (`KiB` to `TiB`, also Kubernetes' `Ki`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub ByteSize);

/// Bytes per second, written as a size per second or in bits (`100Mbit/s`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub Bandwidth);

/// A whole number that is refused, not rounded, when it is written as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Count(pub u32);

/// A list of words: a sequence in a file, separated by commas in an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List(pub Vec<String>);

// === impl Span ===

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim()
            .parse::<SignedDuration>()
            .ok()
            .and_then(|span| Duration::try_from(span).ok())
            .map(Self)
            .ok_or_else(|| UnitError::Duration(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        write!(f, "{span:#}")
    }
}

// === impl Size ===

/// Bytes per unit. The longest spelling that matches wins, so `KiB` is not read as `K` + `iB`.
const UNITS: [(&str, f64); 14] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("Ki", 1024.0),
    ("MiB", 1_048_576.0),
    ("Mi", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("Gi", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("Ti", 1_099_511_627_776.0),
];

/// Bits per second come in decimal units only, as link rates do.
const BIT_UNITS: [(&str, f64); 4] = [
    ("bit", 0.125),
    ("kbit", 125.0),
    ("Mbit", 125_000.0),
    ("Gbit", 125_000_000.0),
];

/// Value of `<number><unit>`, with the number not negative and finite.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor);
    let value = number * factor.or((number == 0.0 && unit.is_empty()).then_some(1.0))?;
    value.is_finite().then_some(value)
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        // 2^53: above it a f64 no longer tells two sizes apart, and no disk is that large.
        scaled(text, &UNITS)
            .filter(|bytes| *bytes <= 9_007_199_254_740_992.0)
            .map(|bytes| Self(ByteSize(bytes.round() as u64)))
            .ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.0;
        let exact = UNITS
            .iter()
            .filter(|(name, _)| name.ends_with('B'))
            .rev()
            .find(|(_, factor)| bytes.is_multiple_of(*factor as u64));
        match exact {
            Some((name, factor)) if bytes > 0 => write!(f, "{}{name}", bytes / *factor as u64),
            _ => write!(f, "{bytes}B"),
        }
    }
}

// === impl Rate ===

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError::Rate(text.to_owned());
        let amount = text.trim().strip_suffix("/s").ok_or_else(refused)?;
        scaled(amount, &UNITS)
            .or_else(|| scaled(amount, &BIT_UNITS))
            .filter(|rate| *rate > 0.0)
            .map(|rate| Self(Bandwidth(rate)))
            .ok_or_else(refused)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size(ByteSize(self.0.0.max(0.0) as u64)))
    }
}

// === serde ===

/// A text that parses with `FromStr`: reading, writing and schema are the same for all three.
macro_rules! as_text {
    ($unit:ident, $format:literal) => {
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $unit {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($unit).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": $format})
            }
        }
    };
}

as_text!(Span, "duration");
as_text!(Size, "size");
as_text!(Rate, "rate");

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl Visitor<'_> for Whole {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number up to 4294967295")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                u32::try_from(value)
                    .map(Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                u32::try_from(value)
                    .map(Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Count, E> {
                value
                    .trim()
                    .parse()
                    .map(Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

impl schemars::JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "format": "number"})
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or words separated by commas")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<List, E> {
                let words = value
                    .split(',')
                    .map(str::trim)
                    .filter(|word| !word.is_empty());
                Ok(List(words.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(word) = words.next_element::<String>()? {
                    list.push(word);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl schemars::JsonSchema for List {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "List".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "array", "format": "list", "items": {"type": "string"}})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_in_decimal_binary_and_kubernetes_units() {
        for (text, bytes) in [
            ("20GiB", 20 << 30),
            ("1.5TB", 1_500_000_000_000),
            ("3Mi", 3 << 20),
            ("0", 0),
            ("7 kB", 7000),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(ByteSize(bytes))), "{text}");
        }
    }

    #[test]
    fn a_size_without_a_unit_or_with_a_wrong_one_is_refused() {
        for text in [
            "20",
            "20 gigs",
            "-1GiB",
            "",
            "GiB",
            "1e400GB",
            "1.2.3MB",
            "99999999TiB",
        ] {
            assert_eq!(
                text.parse::<Size>(),
                Err(UnitError::Size(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn rates_are_read_in_bytes_or_bits_per_second() {
        assert_eq!("50MiB/s".parse(), Ok(Rate(Bandwidth(52_428_800.0))));
        assert_eq!("1Gbit/s".parse(), Ok(Rate(Bandwidth(125_000_000.0))));
        for text in ["50MiB", "0MiB/s", "fast/s"] {
            assert_eq!(
                text.parse::<Rate>(),
                Err(UnitError::Rate(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_is_refused_when_negative_or_without_a_unit() {
        assert_eq!("1h 30m".parse(), Ok(Span(Duration::from_mins(90))));
        for text in ["-1s", "15", "soon"] {
            assert_eq!(
                text.parse::<Span>(),
                Err(UnitError::Duration(text.into())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(bytes in 0u64..1 << 53, millis in 0u64..1 << 40) {
            let size = Size(ByteSize(bytes));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let span = Span(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_makes_a_unit_panic(text in "\\PC{0,24}") {
            let _ = (text.parse::<Size>(), text.parse::<Rate>(), text.parse::<Span>());
        }
    }
}
