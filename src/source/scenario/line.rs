//! One line of a scenario as a signal, or the member that is wrong.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::signal::{Fact, Signal, SpecVersion};
use crate::domain::time::Timestamp;
use crate::source::scenario::SkipReason;

/// The envelope alone: [`Signal`] flattens its fact, and serde tracks no path through that.
#[derive(Deserialize)]
#[expect(
    dead_code,
    reason = "read for its errors only, after `Signal` was refused"
)]
struct Envelope {
    specversion: SpecVersion,
    id: String,
    source: String,
    subject: Option<String>,
    time: Timestamp,
    observedtime: Timestamp,
    #[serde(default)]
    truth: bool,
    #[serde(rename = "type")]
    kind: String,
}

/// What is wrong with a line: member path, reason, class.
type Fault = (String, String, SkipReason);

/// One line as a signal, or the member that is wrong, why, and the class of the fault.
pub fn parse_line(line: &[u8]) -> Result<Signal, Fault> {
    serde_json::from_slice(line).map_err(|error| diagnose(line, &error))
}

/// Reads a refused line once more, part by part, to name the member.
fn diagnose(line: &[u8], error: &serde_json::Error) -> Fault {
    let mut members = match serde_json::from_slice(line) {
        Ok(Value::Object(members)) => members,
        Ok(_) => {
            let reason = "not a JSON object".to_owned();
            return ("line".into(), reason, SkipReason::Malformed);
        }
        Err(e) => return ("line".into(), e.to_string(), SkipReason::Malformed),
    };
    let data = members.remove("data").unwrap_or(Value::Null);
    let kind = members.get("type").cloned().unwrap_or(Value::Null);
    if let Err(e) = serde_path_to_error::deserialize::<_, Envelope>(Value::Object(members)) {
        return (
            member_of(e.path()),
            e.inner().to_string(),
            SkipReason::BadMember,
        );
    }
    // The tag has to come first: only then does serde read the content with its path.
    let text = format!(r#"{{"type":{kind},"data":{data}}}"#);
    let json = &mut serde_json::Deserializer::from_str(&text);
    match serde_path_to_error::deserialize::<_, Fact>(json) {
        Err(e) => {
            let member = member_of(e.path());
            let class = if member == "type" {
                SkipReason::UnknownType
            } else {
                SkipReason::BadMember
            };
            (member, without_position(e.inner()), class)
        }
        Ok(_) => ("line".into(), error.to_string(), SkipReason::BadMember),
    }
}

/// `data.pod.uid`, or a word where serde has no path.
pub(super) fn member_of(path: &serde_path_to_error::Path) -> String {
    if path.iter().len() == 0 {
        "line".into()
    } else {
        path.to_string()
    }
}

/// serde_json's message without the position, which is one in the text put together here.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(cut) => text[..cut].to_owned(),
        None => text,
    }
}
