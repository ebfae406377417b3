//! Signals from Kafka: every replica reads every partition, its recent history first.
//!
//! Partitions are assigned by hand, never by a group's balancing: a replica that is about to lead
//! must know what the leader knows. The group (prefix and identity) is there to commit offsets, so
//! that the usual tools show the lag; nothing is ever resumed from them. At start each partition is
//! read again from `history` ago; identities make that harmless.
//!
//! Back-pressure: a full channel stops the thread, a stopped thread fills librdkafka's queue (2
//! MiB), a full queue stops fetching. While histories are read every partition has such a queue of
//! its own and the one that is furthest behind is read first: a merge, in bounded memory.

mod intake;
mod partitions;
mod quiet;
mod reader;
mod sink;

pub use quiet::Quiet;
pub use sink::{KafkaSink, SinkError};

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::domain::signal::Signal;
use crate::port::Clock;
use crate::source::admission::AdmissionLimits;
use crate::source::cloudevents::Limits;
use crate::source::health::Health;
use crate::source::kafka::reader::Reader;

/// What to read, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Topics that carry CloudEvents; one that does not exist yet is waited for.
    pub topics: Vec<String>,
    /// The group's name: prefix, dash, identity of this replica.
    pub group: String,
    /// How much is read again at start.
    pub history: Duration,
    /// Messages of one partition that are read again at most.
    pub history_max: i64,
    /// Time between two looks for new partitions and topics.
    pub refresh: Duration,
    /// Bounds of one message.
    pub limits: Limits,
    /// Bounds of de-duplication and ordering.
    pub admission: AdmissionLimits,
}

/// Reads topics until it is told to stop.
pub struct KafkaSource {
    settings: KafkaSettings,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
}

/// A source that could not start, or whose thread died.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka refuses the settings.
    #[error("kafka: {0}")]
    Settings(String),
    /// A defect: the reading thread panicked.
    #[error("kafka: the reading thread ended: {0}")]
    Thread(String),
}

impl KafkaSettings {
    /// The settings of a replica called `identity`.
    #[must_use]
    pub fn new(kafka: &config::Kafka, identity: &str) -> Self {
        match kafka.security {
            config::KafkaSecurity::Plain => Self {
                brokers: kafka.brokers.join(","),
                topics: kafka.topics.clone(),
                group: format!("{}-{identity}", kafka.group_prefix),
                history: kafka.history,
                history_max: 100_000,
                refresh: Duration::from_secs(30),
                limits: Limits::default(),
                admission: AdmissionLimits::default(),
            },
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group)
            .set("client.id", &self.group)
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            // Offsets that retention has removed meanwhile: the oldest that is left.
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", "2048")
            // 1 s by default: how long a full queue, or a failed fetch, is left alone.
            .set("fetch.queue.backoff.ms", "100")
            .set("fetch.error.backoff.ms", "200")
            // 10 s by default: a broker that is back is noticed within this.
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        config
    }
}

impl KafkaSource {
    /// Nothing is connected before `run`.
    #[must_use]
    pub fn new(settings: KafkaSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            health: Arc::default(),
        }
    }

    /// Its counts and state, readable while it runs.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Reads until `stop` or until nobody receives; a dropped future stops it too.
    ///
    /// librdkafka's calls block, so it has a thread of its own. A broker that is away is waited
    /// for, however long; what is wrong with a message is counted, and the message skipped.
    pub async fn run(
        self,
        out: mpsc::Sender<Signal>,
        stop: CancellationToken,
    ) -> Result<(), KafkaError> {
        let stop = stop.child_token();
        let _dropped = stop.clone().drop_guard();
        let runtime = Handle::current();
        let reading = move || {
            Reader::new(self.settings, self.clock, self.health)
                .map(|reader| reader.run(&runtime, &out, &stop))
                .map_err(|e| KafkaError::Settings(e.to_string()))
        };
        tokio::task::spawn_blocking(reading)
            .await
            .unwrap_or_else(|e| Err(KafkaError::Thread(e.to_string())))
    }
}
