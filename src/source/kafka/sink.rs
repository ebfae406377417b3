//! Signals written to a topic as structured CloudEvents.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use crate::domain::signal::Signal;
use crate::source::cloudevents::encode;
use crate::source::kafka::Quiet;

/// How long a signal may take from here to all replicas of its partition, retries included.
const DELIVERY: Duration = Duration::from_secs(30);

/// A producer for one topic; clones share its connection.
#[derive(Clone)]
pub struct KafkaSink {
    producer: FutureProducer<Quiet>,
    topic: String,
}

/// A signal that did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// librdkafka refuses the settings.
    #[error("kafka: {0}")]
    Settings(String),
    /// Not delivered within the time allowed.
    #[error("signal `{id}` was not delivered to topic `{topic}`: {reason}")]
    Undelivered {
        /// of the signal
        id: String,
        /// where it was to go
        topic: String,
        /// librdkafka's words
        reason: String,
    },
    /// Messages were still on their way when the time was over.
    #[error("topic `{topic}`: not flushed: {reason}")]
    Unflushed {
        /// where they were to go
        topic: String,
        /// librdkafka's words
        reason: String,
    },
}

impl KafkaSink {
    /// A producer that is idempotent: a retry never doubles or reorders.
    pub fn new(brokers: &str, topic: &str) -> Result<Self, SinkError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", "forelay")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("delivery.timeout.ms", DELIVERY.as_millis().to_string())
            .set("reconnect.backoff.max.ms", "2000")
            .create_with_context(Quiet)
            .map_err(|e| SinkError::Settings(e.to_string()))?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
        })
    }

    /// Sends one signal and waits until the broker has it. Calls may run side by side: they leave
    /// in the order of their first poll, and travel in batches.
    pub async fn send(&self, signal: &Signal) -> Result<(), SinkError> {
        let event = encode(signal);
        let headers = OwnedHeaders::new().insert(Header {
            key: "content-type",
            value: Some(&event.content_type),
        });
        let mut record = FutureRecord::<str, [u8]>::to(&self.topic)
            .payload(&event.value)
            .headers(headers)
            // The broker's index of times then speaks of `observedtime`, as `history` does.
            .timestamp(signal.observedtime.as_micros().max(0) / 1_000);
        if let Some(key) = &event.key {
            record = record.key(key);
        }
        match self.producer.send(record, DELIVERY).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(SinkError::Undelivered {
                id: signal.id.clone(),
                topic: self.topic.clone(),
                reason: error.to_string(),
            }),
        }
    }

    /// Waits until everything that was sent has arrived.
    pub async fn flush(&self, within: Duration) -> Result<(), SinkError> {
        let producer = self.producer.clone();
        let unflushed = |reason: String| SinkError::Unflushed {
            topic: self.topic.clone(),
            reason,
        };
        tokio::task::spawn_blocking(move || producer.flush(within))
            .await
            .map_err(|e| unflushed(e.to_string()))?
            .map_err(|e| unflushed(e.to_string()))
    }
}
