//! A Kafka cluster in this process: librdkafka's mock cluster.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer};

use crate::source::kafka::Quiet;

/// Brokers on loopback ports of their own, gone when this is dropped.
///
/// It speaks enough of the protocol for producers, consumers and group offsets; it keeps no index of
/// times and knows no retention.
pub struct EmbeddedKafka {
    /// librdkafka ties the cluster to the client that asked for it.
    owner: BaseProducer<Quiet>,
    bootstrap: String,
}

/// A mock cluster that refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("embedded kafka: {what}: {reason}")]
pub struct EmbeddedKafkaError {
    what: String,
    reason: String,
}

impl EmbeddedKafka {
    /// Starts a cluster of so many brokers.
    pub fn start(brokers: u16) -> Result<Self, EmbeddedKafkaError> {
        let owner: BaseProducer<Quiet> = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .create_with_context(Quiet)
            .map_err(|e| error("start", e))?;
        let bootstrap = owner.client().mock_cluster().map(|c| c.bootstrap_servers());
        let bootstrap = bootstrap.ok_or_else(|| error("start", "no cluster was made"))?;
        Ok(Self { owner, bootstrap })
    }

    /// `host:port`, comma separated.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic (the admin protocol's own call is not served).
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<(), EmbeddedKafkaError> {
        self.cluster()
            .create_topic(name, i32::from(partitions), 1)
            .map_err(|e| error(&format!("topic `{name}`"), e))
    }

    /// Cuts every connection and accepts none.
    pub fn down(&self) -> Result<(), EmbeddedKafkaError> {
        self.cluster().broker_down(-1).map_err(|e| error("down", e))
    }

    /// Accepts connections again.
    pub fn up(&self) -> Result<(), EmbeddedKafkaError> {
        self.cluster().broker_up(-1).map_err(|e| error("up", e))
    }

    fn cluster(&self) -> MockCluster<'_, Quiet> {
        self.owner
            .client()
            .mock_cluster()
            .expect("the client was made with a cluster")
    }
}

fn error(what: &str, reason: impl ToString) -> EmbeddedKafkaError {
    EmbeddedKafkaError {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}
