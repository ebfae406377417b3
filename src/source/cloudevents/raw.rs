//! The decoders as functions of bytes alone, for fuzzing.

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::cloudevents::{Limits, Message, structured};
use crate::source::rejection::Rejection;

/// A structured event from any bytes; the receipt is the epoch.
pub fn cloudevents_structured(value: &[u8]) -> Result<Signal, Rejection> {
    structured(value, Timestamp::ZERO, &Limits::default())
}

/// A message from any bytes: lines of `name:value` are its headers (a line without a colon is a
/// null header), what follows the first empty line is its value; no empty line, no value.
pub fn cloudevents_binary(packed: &[u8]) -> Result<Signal, Rejection> {
    let mut headers = Vec::new();
    let mut value = None;
    let mut rest = packed;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let (line, after) = (&rest[..end], rest.get(end + 1..).unwrap_or(&[]));
        if line.is_empty() {
            value = Some(after);
            break;
        }
        let (name, text) = match line.iter().position(|b| *b == b':') {
            Some(colon) => (&line[..colon], Some(&line[colon + 1..])),
            None => (line, None),
        };
        // Header names are texts already when a client hands them out.
        if let Ok(name) = std::str::from_utf8(name) {
            headers.push((name, text));
        }
        rest = after;
    }
    let message = Message {
        headers: &headers,
        value,
        received: Timestamp::ZERO,
    };
    message.decode(&Limits::default())
}
