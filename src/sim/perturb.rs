//! Signals as a watcher in trouble hears them: lost, doubled, late, out of order.

use std::borrow::Cow;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;

/// What happens to signals on their way; nothing by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {}

/// The signals in the order in which they are heard.
#[must_use]
pub fn perturbed<'a>(
    signals: &'a [Signal],
    _start: Timestamp,
    _trouble: &Trouble,
) -> Cow<'a, [Signal]> {
    Cow::Borrowed(signals)
}
