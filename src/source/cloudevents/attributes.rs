//! The context attributes of an event, taken out of members or headers.

use serde_json::{Map, Value};

use crate::domain::signal::{Fact, Signal, SpecVersion};
use crate::domain::time::Timestamp;
use crate::source::cloudevents::{Limits, is_attribute};
use crate::source::rejection::Rejection;

/// How much of a foreign text is repeated in a message.
const QUOTED: usize = 100;

/// Attributes as texts, with the prefix that their names had where they came from.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    prefix: &'static str,
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    observedtime: Option<String>,
    truth: Option<String>,
    datacontenttype: Option<String>,
}

pub(super) fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Rejection {
    Rejection::Malformed {
        place: place.into(),
        problem: problem.into(),
    }
}

/// A foreign text, short enough for a log line.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

impl Attributes {
    /// Takes the attributes out of a structured event; `data` and extensions are left.
    pub(super) fn from_members(
        members: &mut Map<String, Value>,
        limits: &Limits,
    ) -> Result<Self, Rejection> {
        let mut attributes = Self::default();
        for name in [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "observedtime",
            "truth",
            "datacontenttype",
        ] {
            let text = match members.remove(name) {
                // JSON event format 1.0.2, section 2.2: a null member is an absent one.
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text,
                Some(Value::Bool(flag)) if name == "truth" => flag.to_string(),
                Some(_) => return Err(malformed(name, "not a text")),
            };
            attributes.set(name, text, limits)?;
        }
        attributes.check()?;
        Ok(attributes)
    }

    /// Reads the attributes of a binary event.
    pub(super) fn from_headers(
        headers: &[(&str, Option<&[u8]>)],
        limits: &Limits,
    ) -> Result<Self, Rejection> {
        let mut attributes = Self {
            prefix: "ce_",
            ..Self::default()
        };
        for (header, value) in headers {
            let header = header.to_ascii_lowercase();
            let name = match header.as_str() {
                "content-type" => "datacontenttype",
                header if is_attribute(header) => &header[3..],
                _ => continue,
            };
            let Some(value) = value else { continue };
            let text = std::str::from_utf8(value)
                .map_err(|e| malformed(header.as_str(), e.to_string()))?;
            attributes.set(name, text.to_owned(), limits)?;
        }
        attributes.check()?;
        Ok(attributes)
    }

    fn set(&mut self, name: &str, text: String, limits: &Limits) -> Result<(), Rejection> {
        let slot = match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "observedtime" => &mut self.observedtime,
            "truth" => &mut self.truth,
            "datacontenttype" => &mut self.datacontenttype,
            _ => return Ok(()),
        };
        if text.len() > limits.attribute {
            return Err(Rejection::TooLarge {
                place: format!("{}{name}", self.prefix),
                bytes: text.len(),
                limit: limits.attribute,
            });
        }
        if slot.as_ref().is_some_and(|before| *before != text) {
            let place = format!("{}{name}", self.prefix);
            return Err(malformed(place, "given twice, with two values"));
        }
        *slot = Some(text);
        Ok(())
    }

    /// What decides whether the rest can be read at all.
    fn check(&self) -> Result<(), Rejection> {
        let version = self.required("specversion", self.specversion.as_ref())?;
        if version != "1.0" {
            return Err(Rejection::UnknownVersion(quoted(version)));
        }
        match &self.datacontenttype {
            Some(text) if !is_json(text) => {
                let problem = format!("`{}`: data is read as JSON only", quoted(text));
                Err(malformed(
                    format!("{}datacontenttype", self.prefix),
                    problem,
                ))
            }
            _ => Ok(()),
        }
    }

    /// The CloudEvents `type`.
    pub(super) fn kind(&self) -> Result<&str, Rejection> {
        self.required("type", self.kind.as_ref())
    }

    /// The whole signal; a missing time is the other one, or the receipt.
    pub(super) fn signal(self, fact: Fact, received: Timestamp) -> Result<Signal, Rejection> {
        let time = self.instant("time", self.time.as_ref())?;
        let observedtime = self.instant("observedtime", self.observedtime.as_ref())?;
        let truth = match self.truth.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                let place = format!("{}truth", self.prefix);
                return Err(malformed(place, "neither true nor false"));
            }
        };
        Ok(Signal {
            specversion: SpecVersion::V1,
            id: self.required("id", self.id.as_ref())?.to_owned(),
            source: self.required("source", self.source.as_ref())?.to_owned(),
            time: time.or(observedtime).unwrap_or(received),
            observedtime: observedtime.or(time).unwrap_or(received),
            subject: self.subject,
            truth,
            fact,
        })
    }

    fn required<'a>(&self, name: &str, text: Option<&'a String>) -> Result<&'a str, Rejection> {
        match text.map(String::as_str) {
            None => Err(malformed(format!("{}{name}", self.prefix), "missing")),
            Some("") => Err(malformed(format!("{}{name}", self.prefix), "empty")),
            Some(text) => Ok(text),
        }
    }

    fn instant(&self, name: &str, text: Option<&String>) -> Result<Option<Timestamp>, Rejection> {
        text.map(|text| {
            text.parse().map_err(|e| {
                let problem = format!("`{}` is not an RFC 3339 instant: {e}", quoted(text));
                malformed(format!("{}{name}", self.prefix), problem)
            })
        })
        .transpose()
    }
}

/// `application/json`, `text/json`, or anything whose structured suffix is `+json`.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.split_once('/').map_or("", |(_, sub)| sub);
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}
