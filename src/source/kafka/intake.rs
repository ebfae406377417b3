//! What happens to one message: decoded, admitted or counted by reason.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rdkafka::message::Headers;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::source::admission::{Admission, Lane};
use crate::source::cloudevents::{Limits, Message};
use crate::source::health::Health;
use crate::source::kafka::partitions::{Key, Position};
use crate::source::rejection::{Reason, Rejection};

/// Headers of a message: names and values.
type HeaderList<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

/// The pure half of the reader: positions, decoding, order.
pub(super) struct Intake {
    pub admission: Admission,
    pub positions: BTreeMap<Key, Position>,
    pub health: Arc<Health>,
    limits: Limits,
    since: Timestamp,
    lanes: u32,
}

impl Intake {
    pub(super) fn new(
        admission: Admission,
        limits: Limits,
        since: Timestamp,
        health: Arc<Health>,
    ) -> Self {
        Self {
            admission,
            positions: BTreeMap::new(),
            health,
            limits,
            since,
            lanes: 0,
        }
    }

    /// Instants before which nothing is taken.
    pub(super) const fn since(&self) -> Timestamp {
        self.since
    }

    /// A partition will be read; what it holds now is history.
    pub(super) fn add(&mut self, key: Key, mut position: Position) {
        self.lanes += 1;
        position.lane = Lane(self.lanes);
        if position.next < position.history_end {
            self.admission.order_mut().open_lane(position.lane);
        }
        self.positions.insert(key, position);
    }

    /// Gives up waiting for histories that do not come to their end (offsets that hold no message
    /// for a reader: transaction markers, compacted tails).
    pub(super) fn end_histories(&mut self) {
        for position in self.positions.values() {
            self.admission.order_mut().close_lane(position.lane);
        }
    }

    /// Takes one message.
    pub(super) fn take<M: rdkafka::Message>(&mut self, message: &M, now: Timestamp) {
        let key = (message.topic().to_owned(), message.partition());
        let lane = self.positions.get_mut(&key).map(|position| {
            position.next = message.offset() + 1;
            position.lane
        });
        let stamp = message.timestamp().to_millis();
        let stamp = stamp.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000)));
        if stamp.is_some_and(|stamp| stamp < self.since) {
            let _ = self.health.tally.refuse(Reason::BeforeHistory);
        } else if let Err(rejection) = self
            .signal(message, stamp.unwrap_or(now))
            .and_then(|signal| self.admission.offer(signal, now, lane))
        {
            self.refuse(message, &rejection);
        }
        let at_end = |position: &&Position| position.next >= position.history_end;
        if let Some(position) = self.positions.get(&key).filter(at_end) {
            self.admission.order_mut().close_lane(position.lane);
        }
    }

    fn signal<M: rdkafka::Message>(
        &self,
        message: &M,
        received: Timestamp,
    ) -> Result<Signal, Rejection> {
        let headers = message.headers().map_or(Ok(Vec::new()), headers)?;
        let message = Message {
            headers: &headers,
            value: message.payload(),
            received,
        };
        message.decode(&self.limits)
    }

    fn refuse<M: rdkafka::Message>(&self, message: &M, rejection: &Rejection) {
        if let Some(count) = self.health.tally.refuse(rejection.reason()) {
            tracing::warn!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                reason = rejection.reason().label(),
                count,
                "message skipped: {rejection}"
            );
        }
    }
}

/// All headers. rdkafka 0.39 panics on a header name that is not UTF-8
/// (`BorrowedHeaders::try_get`), and one producer's mistake must not end the stream.
fn headers<H: Headers>(headers: &H) -> Result<HeaderList<'_>, Rejection> {
    catch_unwind(AssertUnwindSafe(|| {
        (0..headers.count())
            .filter_map(|i| headers.try_get(i))
            .map(|header| (header.key, header.value))
            .collect()
    }))
    .map_err(|_| Rejection::Malformed {
        place: "headers".into(),
        problem: "a name that is not UTF-8".into(),
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Header;

    use super::*;

    struct Poison;

    impl Headers for Poison {
        fn count(&self) -> usize {
            1
        }

        fn try_get(&self, _: usize) -> Option<Header<'_, &[u8]>> {
            std::panic::resume_unwind(Box::new("as rdkafka does"))
        }
    }

    #[test]
    fn a_header_name_that_rdkafka_panics_on_is_a_malformed_message() {
        assert_eq!(
            headers(&Poison).unwrap_err().to_string(),
            "headers: a name that is not UTF-8"
        );
    }
}
