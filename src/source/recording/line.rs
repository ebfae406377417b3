//! One line of a recorded collection as observations.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::time::Timestamp;
use crate::source::kubernetes::Change;
use crate::source::kubernetes::objects::{Kind, Object};

/// One observation.
#[derive(Debug)]
pub struct Entry {
    /// When it was received.
    pub received: Timestamp,
    /// What.
    pub what: What,
}

/// What was received.
#[derive(Debug)]
pub enum What {
    /// One object, and what happened to it.
    Object(Change, Box<Object>),
    /// A later LIST ended: these uids are all that is left of the kind.
    Relisted(Kind, HashSet<String>),
}

#[derive(Deserialize)]
struct RawLine<'a> {
    t: f64,
    op: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What one line holds, and what is wrong with it: member and reason.
pub(super) type Fault = (String, String);

/// One line of a collection of this kind: what it says, or why it says nothing.
pub fn read_line(kind: Kind, line: &[u8]) -> Result<(Vec<Entry>, Option<&'static str>), Fault> {
    let raw = raw_line(line)?;
    let received = Timestamp::from_secs_f64(raw.t);
    match raw.op.as_str() {
        "LIST" => {
            let mut entries = list(kind, received, raw.body)?;
            let kept = entries.iter().filter_map(|entry| match &entry.what {
                What::Object(_, object) => object.metadata().uid.clone(),
                What::Relisted(..) => None,
            });
            let what = What::Relisted(kind, kept.collect());
            entries.push(Entry { received, what });
            Ok((entries, None))
        }
        "EVENT" => event(kind, received, raw.event),
        "WATCH" => Ok((Vec::new(), Some("watch opened"))),
        "END" => Ok((Vec::new(), Some("watch ended"))),
        other => Err((
            "op".into(),
            format!("`{other}` is not LIST, WATCH, EVENT or END"),
        )),
    }
}

fn raw_line(line: &[u8]) -> Result<RawLine<'_>, Fault> {
    let json = &mut serde_json::Deserializer::from_slice(line);
    serde_path_to_error::deserialize(json)
        .map_err(|e| (e.path().to_string(), e.inner().to_string()))
}

/// The first line of a file: kind, time of receipt, objects.
#[allow(clippy::type_complexity, reason = "read in one place, right above")]
pub(super) fn list_line(line: &[u8]) -> Result<Option<(Kind, (Timestamp, Vec<Entry>))>, Fault> {
    let raw = raw_line(line)?;
    if raw.op != "LIST" {
        let reason = format!("`{}`: the file must begin with a LIST", raw.op);
        return Err(("op".into(), reason));
    }
    let Some(kind) = kind_of(raw.path.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    let received = Timestamp::from_secs_f64(raw.t);
    let entries = list(kind, received, raw.body)?;
    Ok(Some((kind, (received, entries))))
}

/// `/api/v1/[namespaces/NS/]PLURAL` or `/apis/GROUP/VERSION/[namespaces/NS/]PLURAL`.
fn kind_of(path: &str) -> Option<Kind> {
    let path = path.split('?').next()?;
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let group = match parts.as_slice() {
        ["api", ..] => "",
        ["apis", group, ..] => group,
        _ => return None,
    };
    Kind::of(group, parts.last()?)
}

fn list(kind: Kind, received: Timestamp, body: Option<&RawValue>) -> Result<Vec<Entry>, Fault> {
    let fault = |member: &str, e: serde_json::Error| (member.to_owned(), e.to_string());
    let Some(body) = body else {
        return Err(("body".into(), "a LIST needs one".into()));
    };
    let raw: RawList<'_> = serde_json::from_str(body.get()).map_err(|e| fault("body", e))?;
    let items = raw.items.unwrap_or_default().into_iter().enumerate();
    items
        .map(|(index, item)| {
            let object = Object::from_json(kind, item.get())
                .map_err(|e| fault(&format!("body.items[{index}]"), e))?;
            Ok(Entry {
                received,
                what: What::Object(Change::Applied, Box::new(object)),
            })
        })
        .collect()
}

fn event(
    kind: Kind,
    received: Timestamp,
    event: Option<&RawValue>,
) -> Result<(Vec<Entry>, Option<&'static str>), Fault> {
    let fault = |member: &str, e: serde_json::Error| (member.to_owned(), e.to_string());
    let Some(event) = event else {
        return Err(("event".into(), "an EVENT needs one".into()));
    };
    let raw: RawEvent<'_> = serde_json::from_str(event.get()).map_err(|e| fault("event", e))?;
    let change = match raw.r#type.as_str() {
        "ADDED" | "MODIFIED" => Change::Applied,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => return Ok((Vec::new(), Some("bookmark"))),
        "ERROR" => return Ok((Vec::new(), Some("watch error"))),
        other => {
            let reason = format!("`{other}` is no watch event");
            return Err(("event.type".into(), reason));
        }
    };
    let object = Object::from_json(kind, raw.object.get()).map_err(|e| fault("event.object", e))?;
    let what = What::Object(change, Box::new(object));
    Ok((vec![Entry { received, what }], None))
}
