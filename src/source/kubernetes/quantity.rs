//! Kubernetes quantities (`1500m`, `3Gi`, `29715m`, `1e3`) as exact thousandths.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// An amount in thousandths of its unit, rounded up as the API server does; never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    milli: u128,
}

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a quantity: write a number with an optional suffix such as m, k, Mi or e3")]
pub struct QuantityError(String);

/// Suffixes of `resource.Quantity` with their factor as (numerator, denominator).
const SUFFIXES: [(&str, u128, u128); 15] = [
    ("", 1, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
];

impl Quantity {
    /// Thousandths: a CPU request's own unit.
    #[must_use]
    pub fn milli(self) -> u64 {
        u64::try_from(self.milli).unwrap_or(u64::MAX)
    }

    /// Whole units, rounded up: bytes, devices.
    #[must_use]
    pub fn units(self) -> u64 {
        u64::try_from(self.milli.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            milli: self.milli.saturating_add(other.milli),
        }
    }

    /// As a number: metric values and targets.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.milli as f64 / 1000.0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError(text.chars().take(60).collect()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // 20 digits before and 15 after the point are beyond every resource there is; the product with
    // the largest factor stays below 2^127.
    let fraction = &fraction[..fraction.len().min(15)];
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.len() > 20 {
        return Some(Quantity {
            milli: if negative { 0 } else { u128::MAX },
        });
    }
    let mantissa: u128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let (up, down) = factor(suffix)?;
    let down = down.checked_mul(10u128.pow(fraction.len() as u32))?;
    let milli = mantissa
        .checked_mul(1000)
        .and_then(|m| m.checked_mul(up))
        .map_or(u128::MAX, |m| m.div_ceil(down));
    Some(Quantity {
        milli: if negative { 0 } else { milli },
    })
}

fn factor(suffix: &str) -> Option<(u128, u128)> {
    if suffix == "Ei" {
        return Some((1 << 60, 1));
    }
    if let Some((_, up, down)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((*up, *down));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10u128.pow(exponent.unsigned_abs().min(18));
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// Custom resources may carry quantities as JSON numbers (`x-kubernetes-int-or-string`).
struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as 1500m or 3Gi")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, units: u64) -> Result<Quantity, E> {
        Ok(Quantity {
            milli: u128::from(units) * 1000,
        })
    }

    fn visit_i64<E: de::Error>(self, units: i64) -> Result<Quantity, E> {
        self.visit_u64(u64::try_from(units).unwrap_or(0))
    }

    fn visit_f64<E: de::Error>(self, units: f64) -> Result<Quantity, E> {
        Ok(Quantity {
            milli: (units * 1000.0).ceil().max(0.0) as u128,
        })
    }
}

#[cfg(test)]
mod tests;
