//! Which partitions there are, and where in each the history begins.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::domain::time::Timestamp;
use crate::source::admission::Lane;
use crate::source::kafka::Quiet;

/// How long one request may take: they block the reading thread.
const REQUEST: Duration = Duration::from_secs(3);

/// Topic and partition.
pub(super) type Key = (String, i32);

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The next offset to read.
    pub next: i64,
    /// Where the history of the start ends.
    pub history_end: i64,
    /// Its lane in the order while it is in its history.
    pub lane: Lane,
}

/// Every partition of those topics that exist.
pub(super) fn discover(consumer: &BaseConsumer<Quiet>, topics: &[String]) -> KafkaResult<Vec<Key>> {
    let mut keys = Vec::new();
    for name in topics {
        let metadata = consumer.fetch_metadata(Some(name), REQUEST)?;
        for topic in metadata.topics() {
            if topic.error().is_some() {
                tracing::debug!(topic = name, "does not exist, or not yet");
                continue;
            }
            let partitions = topic.partitions().iter();
            keys.extend(partitions.map(|partition| (name.clone(), partition.id())));
        }
    }
    Ok(keys)
}

/// Where each of the partitions is to be read from.
pub(super) fn locate(
    consumer: &BaseConsumer<Quiet>,
    keys: &[Key],
    since: Timestamp,
    history_max: i64,
) -> KafkaResult<Vec<(Key, Position)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut times = TopicPartitionList::new();
    // Offsets are negative for symbols: the epoch is the earliest instant that can be asked for.
    let millis = (since.as_micros() / 1_000).max(0);
    for (topic, partition) in keys {
        times.add_partition_offset(topic, *partition, Offset::Offset(millis))?;
    }
    let answers = consumer.offsets_for_times(times, REQUEST)?.to_topic_map();
    let mut found = Vec::new();
    for key in keys {
        let (low, high) = consumer.fetch_watermarks(&key.0, key.1, REQUEST)?;
        let answer = answers.get(key).copied().unwrap_or(Offset::Invalid);
        let position = Position {
            next: first_offset(low, high, answer, history_max),
            history_end: high,
            lane: Lane(0),
        };
        found.push((key.clone(), position));
    }
    Ok(found)
}

/// Messages that are there and not read yet.
pub(super) fn lag(
    consumer: &BaseConsumer<Quiet>,
    positions: &BTreeMap<Key, Position>,
) -> KafkaResult<u64> {
    let mut lag = 0;
    for ((topic, partition), position) in positions {
        let (_, high) = consumer.fetch_watermarks(topic, *partition, REQUEST)?;
        lag += u64::try_from(high - position.next).unwrap_or(0);
    }
    Ok(lag)
}

/// The assignment that reads on at every position.
pub(super) fn assignment(positions: &BTreeMap<Key, Position>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for ((topic, partition), position) in positions {
        list.add_partition_offset(topic, *partition, Offset::Offset(position.next))?;
    }
    Ok(list)
}

/// The broker's answer to "first offset since then", within what is there and what is bearable.
///
/// "None" (`End`) has two meanings: every message is older, or the broker keeps no index of times
/// (librdkafka's mock cluster, topics without timestamps). The last `history_max` messages are read
/// in both cases, and each is looked at: those that say they are older are left out.
fn first_offset(low: i64, high: i64, answer: Offset, history_max: i64) -> i64 {
    let bearable = low.max(high.saturating_sub(history_max));
    match answer {
        Offset::Offset(first) => first.clamp(bearable, high.max(bearable)),
        _ => bearable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_begins_at_the_asked_time_within_what_is_kept_and_bearable() {
        let first = |answer| first_offset(100, 1000, answer, 500);
        assert_eq!(first(Offset::Offset(900)), 900);
        assert_eq!(first(Offset::Offset(20)), 500);
        assert_eq!(first(Offset::Offset(2000)), 1000);
        assert_eq!(first(Offset::End), 500);
        assert_eq!(first(Offset::Invalid), 500);
        assert_eq!(first_offset(900, 1000, Offset::End, 500), 900);
        assert_eq!(first_offset(1000, 1000, Offset::End, 500), 1000);
    }
}
