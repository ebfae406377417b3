//! A signal written as a structured event.

use crate::domain::signal::Signal;
use crate::source::cloudevents::STRUCTURED;

/// What a producer hands to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The `content-type` header.
    pub content_type: String,
    /// The subject: signals about one thing keep their order in one partition.
    pub key: Option<String>,
    /// The event as JSON.
    pub value: Vec<u8>,
}

/// The structured form.
#[must_use]
pub fn encode(signal: &Signal) -> Encoded {
    Encoded {
        content_type: format!("{STRUCTURED}; charset=UTF-8"),
        key: signal.subject.clone(),
        value: serde_json::to_vec(signal).expect("a signal's maps have texts as keys"),
    }
}
