//! CloudEvents 1.0 as Kafka carries them, read into signals.
//!
//! Strict where a mistake would be believed (version, type, members of `data`), lenient where the
//! specification wants it (unknown extensions, letter case of header names). A missing
//! `observedtime` is `time`, a missing `time` is `observedtime`, and where both are missing the
//! receipt stands for both.
//!
//! Which mode a message is in: a `content-type` header that begins with `application/cloudevents`
//! says structured (Kafka protocol binding 1.0.2, section 3); `ce_` headers say binary; a message
//! with neither is read as structured, which is what `kcat -P -l scenario.jsonl` sends.

mod attributes;
mod encode;
mod fact;
mod raw;

pub use encode::{Encoded, encode};
pub use raw::{cloudevents_binary, cloudevents_structured};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::cloudevents::attributes::{Attributes, malformed};
use crate::source::rejection::Rejection;

/// The media type of a structured event, before any parameter.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// Bounds on what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message's value. Kafka's own default for a message is 1 MiB.
    pub value: usize,
    /// Bytes of one attribute (`id`, `source`, `subject`, ...).
    pub attribute: usize,
}

/// A message as a broker hands it out.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Names and values; a value may be null.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// When it was received, by the broker's stamp where it has one: a second reading then gives
    /// the same signal.
    pub received: Timestamp,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value: 1 << 20,
            attribute: 2 << 10,
        }
    }
}

impl Message<'_> {
    /// The signal in this message, in whichever mode it is.
    pub fn decode(&self, limits: &Limits) -> Result<Signal, Rejection> {
        let value = self.value.ok_or(Rejection::Tombstone)?;
        let content_type = self.header("content-type").unwrap_or_default();
        let media_type = content_type.split(|b| *b == b';').next().unwrap_or(&[]);
        let media_type = media_type.trim_ascii().to_ascii_lowercase();
        if media_type.starts_with(b"application/cloudevents") {
            if media_type != STRUCTURED.as_bytes() && media_type != b"application/cloudevents" {
                let problem = format!("`{}`: only {STRUCTURED} is read", media_type.escape_ascii());
                return Err(malformed("content-type", problem));
            }
            structured(value, self.received, limits)
        } else if self.headers.iter().any(|(name, _)| is_attribute(name)) {
            binary(self, value, limits)
        } else if content_type.is_empty() {
            structured(value, self.received, limits)
        } else {
            let problem = "no ce_ headers beside it: not a CloudEvent";
            Err(malformed("content-type", problem))
        }
    }

    /// The value of the first header of that name which is not null.
    fn header(&self, wanted: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(name, value)| name.eq_ignore_ascii_case(wanted) && value.is_some())
            .and_then(|(_, value)| *value)
    }
}

/// Reads a JSON object that is a whole event.
pub fn structured(value: &[u8], received: Timestamp, limits: &Limits) -> Result<Signal, Rejection> {
    check_size(value, limits)?;
    let mut members: Map<String, Value> =
        serde_json::from_slice(value).map_err(|e| malformed("value", e.to_string()))?;
    let attributes = Attributes::from_members(&mut members, limits)?;
    let kind = attributes.kind()?;
    let fact = match (members.remove("data"), members.remove("data_base64")) {
        (Some(_), Some(_)) => {
            return Err(malformed("data_base64", "given beside data: one of them"));
        }
        (Some(data), None) => fact::decode(kind, data)?,
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|e| malformed("data_base64", e.to_string()))?;
            fact::decode_bytes(kind, &bytes)?
        }
        (None, Some(_)) => return Err(malformed("data_base64", "not a text")),
        (None, None) => {
            fact::check_known(kind)?;
            return Err(malformed("data", "missing"));
        }
    };
    attributes.signal(fact, received)
}

/// Reads an event whose attributes are headers and whose data is the value.
fn binary(message: &Message<'_>, value: &[u8], limits: &Limits) -> Result<Signal, Rejection> {
    check_size(value, limits)?;
    let attributes = Attributes::from_headers(message.headers, limits)?;
    let fact = fact::decode_bytes(attributes.kind()?, value)?;
    attributes.signal(fact, message.received)
}

fn check_size(value: &[u8], limits: &Limits) -> Result<(), Rejection> {
    if value.len() <= limits.value {
        return Ok(());
    }
    Err(Rejection::TooLarge {
        place: "value".into(),
        bytes: value.len(),
        limit: limits.value,
    })
}

fn is_attribute(header: &str) -> bool {
    header
        .as_bytes()
        .get(..3)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"ce_"))
}

#[cfg(test)]
mod tests;
