//! The thread that polls librdkafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::port::Clock;
use crate::source::admission::{Admission, Lane};
use crate::source::health::Health;
use crate::source::kafka::intake::Intake;
use crate::source::kafka::{KafkaSettings, Quiet, partitions};

/// How long one poll waits: the latency of a stop, and a tenth of the default hold.
const POLL: Duration = Duration::from_millis(50);

/// Polls without a message after which histories count as read: ten seconds.
const PATIENCE: u32 = 200;

/// Time to the next look when the last one found no broker or no topic.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Quiet>>,
    intake: Intake,
    settings: KafkaSettings,
    clock: Arc<dyn Clock>,
    refresh_at: Timestamp,
    idle: u32,
    /// Whether the client reads what `positions` says.
    is_assigned: bool,
    /// Whether the client has queues that were split off.
    is_split: bool,
    /// Partitions that are in their histories.
    histories: BTreeMap<Lane, PartitionQueue<Quiet>>,
}

impl Reader {
    pub(super) fn new(
        settings: KafkaSettings,
        clock: Arc<dyn Clock>,
        health: Arc<Health>,
    ) -> KafkaResult<Self> {
        let consumer = Arc::new(settings.client().create_with_context(Quiet)?);
        let admission = Admission::new(settings.admission);
        let now = clock.now();
        Ok(Self {
            consumer,
            intake: Intake::new(admission, settings.limits, now - settings.history, health),
            settings,
            clock,
            refresh_at: now,
            idle: 0,
            is_assigned: false,
            is_split: false,
            histories: BTreeMap::new(),
        })
    }

    /// Runs until it is stopped or nobody receives.
    pub(super) fn run(
        mut self,
        runtime: &Handle,
        out: &mpsc::Sender<Signal>,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() && !out.is_closed() {
            if self.clock.now() >= self.refresh_at {
                self.refresh();
            }
            self.poll();
            let now = self.clock.now();
            while let Some(signal) = self.intake.admission.next(now) {
                if !hand_on(signal, runtime, out, stop) {
                    return;
                }
                self.intake.health.tally.take();
            }
            if !self.intake.positions.is_empty() && !self.intake.admission.order().has_lanes() {
                self.intake.health.caught_up();
            }
        }
        // What is still held goes too, as far as the receiver has room: a stop loses nothing that
        // was there, and waits for nobody.
        for signal in self.intake.admission.flush() {
            if out.try_send(signal).is_err() {
                return;
            }
            self.intake.health.tally.take();
        }
    }

    /// Looks for partitions that are not read yet.
    fn refresh(&mut self) {
        let found = self.find_new();
        let now = self.clock.now();
        self.refresh_at = match found {
            Ok(()) if !self.intake.positions.is_empty() => now + self.settings.refresh,
            Ok(()) => now + RETRY,
            Err(error) => {
                self.failed(&error);
                now + RETRY
            }
        };
    }

    fn find_new(&mut self) -> KafkaResult<()> {
        let mut keys = partitions::discover(&self.consumer, &self.settings.topics)?;
        self.intake.health.answered();
        keys.retain(|key| !self.intake.positions.contains_key(key));
        if !keys.is_empty() || !self.is_assigned {
            let since = self.intake.since();
            let max = self.settings.history_max;
            for (key, position) in partitions::locate(&self.consumer, &keys, since, max)? {
                tracing::info!(
                    topic = key.0,
                    partition = key.1,
                    next = position.next,
                    history = position.history_end - position.next,
                    "reading"
                );
                self.intake.add(key, position);
            }
            self.assign()?;
        }
        let lag = partitions::lag(&self.consumer, &self.intake.positions)?;
        self.intake.health.set_lag(lag);
        Ok(())
    }

    fn poll(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        let came = if self.histories.is_empty() {
            self.receive(consumer.poll(POLL))
        } else if let Some(laggard) = self.intake.admission.order().laggard() {
            self.poll_histories(&consumer, laggard)
        } else {
            self.leave_histories()
                .inspect_err(|e| self.failed(e))
                .is_ok()
        };
        self.idle = if came { 0 } else { self.idle.saturating_add(1) };
        if self.idle == PATIENCE {
            self.intake.end_histories();
        }
    }

    /// A merge of histories: the one that is furthest behind is read, and when it has nothing at
    /// hand the others are looked into, as long as there is room to hold what they have.
    fn poll_histories(&mut self, consumer: &BaseConsumer<Quiet>, laggard: Lane) -> bool {
        let histories = std::mem::take(&mut self.histories);
        let polled = histories.get(&laggard).and_then(|queue| queue.poll(POLL));
        let mut came = self.receive(polled);
        if !came {
            let room = self.settings.admission.order.max / 2;
            for queue in histories.values() {
                if self.intake.admission.order().len() < room {
                    came |= self.receive(queue.poll(Duration::ZERO));
                }
            }
            came |= self.receive(consumer.poll(Duration::ZERO));
        }
        self.histories = histories;
        came
    }

    /// Histories are read to their ends: all partitions go back into one queue.
    fn leave_histories(&mut self) -> KafkaResult<()> {
        self.histories.clear();
        self.assign()
    }

    /// Whether a message came.
    fn receive(&mut self, polled: Option<KafkaResult<BorrowedMessage<'_>>>) -> bool {
        match polled {
            Some(Ok(message)) => {
                self.intake.health.answered();
                self.intake.take(&message, self.clock.now());
                if let Err(error) = self.consumer.store_offset_from_message(&message) {
                    tracing::debug!(%error, offset = message.offset(), "offset not stored");
                }
                true
            }
            Some(Err(error)) => {
                self.failed(&error);
                false
            }
            None => false,
        }
    }

    /// Reads on at every position; a partition in its history gets a queue of its own, so that it
    /// can be left alone without throwing away what was fetched.
    ///
    /// Queues are split off before the assignment, against the advice in rdkafka's documentation:
    /// what librdkafka fetches in between would go to the common queue, later messages would overtake
    /// it, and the history would end without it. librdkafka keeps a queue that was split off
    /// (`rd_kafka_toppar_op_fetch_start` asks for `RD_KAFKA_Q_F_FWD_APP`) and never joins it again, so
    /// a client that has split queues is followed by a new one.
    fn assign(&mut self) -> KafkaResult<()> {
        self.is_assigned = false;
        self.histories.clear();
        if self.is_split {
            self.consumer = Arc::new(self.settings.client().create_with_context(Quiet)?);
            self.is_split = false;
        }
        let positions = &self.intake.positions;
        for ((topic, partition), position) in positions {
            if self.intake.admission.order().is_open(position.lane)
                && let Some(queue) = self.consumer.split_partition_queue(topic, *partition)
            {
                self.is_split = true;
                self.histories.insert(position.lane, queue);
            }
        }
        self.consumer.assign(&partitions::assignment(positions)?)?;
        self.is_assigned = true;
        Ok(())
    }

    fn failed(&self, error: &KafkaError) {
        let lasting = !matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure)
        );
        if let Some(count) = self.intake.health.failed() {
            let mend = if lasting {
                "going on; look at the broker's log"
            } else {
                "brokers are away; signals of other sources go on"
            };
            tracing::warn!(%error, count, brokers = self.settings.brokers, "kafka: {mend}");
        }
    }
}

/// Waits for room in the channel; false when the work is over.
fn hand_on(
    signal: Signal,
    runtime: &Handle,
    out: &mpsc::Sender<Signal>,
    stop: &CancellationToken,
) -> bool {
    match out.try_send(signal) {
        Ok(()) => true,
        Err(TrySendError::Closed(_)) => false,
        Err(TrySendError::Full(signal)) => runtime.block_on(async {
            tokio::select! {
                sent = out.send(signal) => sent.is_ok(),
                () = stop.cancelled() => false,
            }
        }),
    }
}
