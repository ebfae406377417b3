//! The Kafka source against librdkafka's mock cluster loses, repeats and stops nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forelay::domain::signal::{Fact, LoadSample, Signal};
use forelay::domain::time::Timestamp;
use forelay::embedded::kafka::EmbeddedKafka;
use forelay::port::Clock;
use forelay::source::admission::{AdmissionLimits, OrderLimits};
use forelay::source::cloudevents::Limits;
use forelay::source::health::Health;
use forelay::source::kafka::{KafkaError, KafkaSettings, KafkaSink, KafkaSource};
use forelay::source::rejection::Reason;
use forelay::telemetry::clock::SystemClock;
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; what waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

const TOPIC: &str = "signals";

struct Running {
    signals: mpsc::Receiver<Signal>,
    health: Arc<Health>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), KafkaError>>,
}

fn settings(kafka: &EmbeddedKafka, replica: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: kafka.bootstrap_servers().to_owned(),
        topics: vec![TOPIC.to_owned()],
        group: format!("forelay-{replica}"),
        history: Duration::from_hours(1),
        history_max: 100_000,
        refresh: Duration::from_secs(1),
        limits: Limits::default(),
        admission: AdmissionLimits::default(),
    }
}

fn start(settings: KafkaSettings, room: usize) -> Running {
    let source = KafkaSource::new(settings, Arc::new(SystemClock));
    let health = source.health();
    let (out, signals) = mpsc::channel(room);
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(out, stop.clone()));
    Running {
        signals,
        health,
        stop,
        task,
    }
}

impl Running {
    async fn take(&mut self, count: usize) -> Vec<Signal> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = timeout(PATIENCE, self.signals.recv()).await;
            let next = next.unwrap_or_else(|_| {
                panic!("{} of {count} signals came; {:?}", taken.len(), self.health)
            });
            taken.push(next.expect("the source runs"));
        }
        taken
    }

    async fn end(self) -> Vec<Signal> {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("it stops")
            .unwrap()
            .unwrap();
        let mut signals = self.signals;
        std::iter::from_fn(|| signals.try_recv().ok()).collect()
    }
}

fn cluster(partitions: u16) -> EmbeddedKafka {
    let kafka = EmbeddedKafka::start(1).unwrap();
    kafka.create_topic(TOPIC, partitions).unwrap();
    kafka
}

/// Signals ten milliseconds apart, all older than a minute, about ten subjects.
fn samples(first: u32, count: u32) -> Vec<Signal> {
    let now = SystemClock.now() - Duration::from_mins(1);
    (first..first + count)
        .map(|id| {
            let at = now - Duration::from_millis(10) * (10_000 - id);
            let fact = Fact::LoadSampled(LoadSample {
                series: "s".into(),
                workload: None,
                value: f64::from(id),
            });
            let mut signal = Signal::new("/test", id.to_string(), at, fact);
            signal.subject = Some(format!("subject-{}", id % 10));
            signal
        })
        .collect()
}

async fn send(kafka: &EmbeddedKafka, signals: &[Signal]) {
    send_to(kafka, TOPIC, signals).await;
}

async fn send_to(kafka: &EmbeddedKafka, topic: &str, signals: &[Signal]) {
    let sink = KafkaSink::new(kafka.bootstrap_servers(), topic).unwrap();
    try_join_all(signals.iter().map(|signal| sink.send(signal)))
        .await
        .unwrap();
    sink.flush(PATIENCE).await.unwrap();
}

fn ids(signals: &[Signal]) -> BTreeSet<&str> {
    signals.iter().map(|signal| signal.id.as_str()).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_reads_the_recent_history_in_order_and_goes_on() {
    let kafka = cluster(4);
    let history = samples(0, 300);
    send(&kafka, &history).await;
    let mut running = start(settings(&kafka, "a"), 64);
    let read = running.take(300).await;
    assert!(read.is_sorted_by_key(|signal| signal.observedtime));
    assert_eq!(ids(&read), ids(&history));
    let more = samples(300, 50);
    send(&kafka, &more).await;
    assert_eq!(ids(&running.take(50).await), ids(&more));
    assert!(running.health.is_caught_up() && running.health.is_reachable());
    assert_eq!(running.health.tally.refusals().count(), 0);
    let health = Arc::clone(&running.health);
    assert!(running.end().await.is_empty());
    assert_eq!(health.tally.taken(), 350);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_history_is_left_out_and_counted() {
    let kafka = cluster(2);
    let mut old = samples(0, 20);
    for signal in &mut old {
        signal.observedtime = signal.observedtime - Duration::from_hours(2);
    }
    let young = samples(20, 20);
    send(&kafka, &old).await;
    send(&kafka, &young).await;
    let mut running = start(settings(&kafka, "a"), 64);
    assert_eq!(ids(&running.take(20).await), ids(&young));
    assert_eq!(running.health.tally.refused(Reason::BeforeHistory), 20);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_reads_everything_and_a_restart_reads_it_again() {
    let kafka = cluster(3);
    let all = samples(0, 100);
    send(&kafka, &all).await;
    let mut first = start(settings(&kafka, "a"), 64);
    let mut second = start(settings(&kafka, "b"), 64);
    assert_eq!(ids(&first.take(100).await), ids(&all));
    assert_eq!(ids(&second.take(100).await), ids(&all));
    first.end().await;
    let mut again = start(settings(&kafka, "a"), 64);
    assert_eq!(ids(&again.take(100).await), ids(&all));
    again.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_sent_twice_comes_once() {
    let kafka = cluster(3);
    let mut running = start(settings(&kafka, "a"), 64);
    let all = samples(0, 60);
    send(&kafka, &all).await;
    send(&kafka, &all).await;
    assert_eq!(ids(&running.take(60).await), ids(&all));
    until("60 duplicates", || {
        running.health.tally.refused(Reason::Duplicate) == 60
    })
    .await;
    assert!(running.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_are_counted_by_reason_and_never_stop_the_stream() {
    let kafka = cluster(1);
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .create()
        .unwrap();
    let event = |kind: &str, version: &str| {
        let text = r#"{"specversion":"V","id":"1","source":"/t","type":"T","data":{}}"#;
        text.replace('V', version).replace('T', kind).into_bytes()
    };
    let broken = [
        Some(b"\xff\x00not json".to_vec()),
        Some(event("com.example.order.placed", "1.0")),
        Some(event("dev.forelay.node.ready.v1", "0.3")),
        Some(event("dev.forelay.node.ready.v1", "1.0")),
        Some(vec![b' '; 900_000]),
        None,
    ];
    for value in &broken {
        let mut record = FutureRecord::<str, [u8]>::to(TOPIC);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record, PATIENCE).await.unwrap();
    }
    let null_header = OwnedHeaders::new().insert(Header::<&[u8]> {
        key: "ce_id",
        value: None,
    });
    let record = FutureRecord::<str, [u8]>::to(TOPIC)
        .payload(b"{}")
        .headers(null_header);
    producer.send(record, PATIENCE).await.unwrap();
    let good = samples(0, 5);
    send(&kafka, &good).await;

    let mut small = settings(&kafka, "a");
    small.limits.value = 500_000;
    let mut running = start(small, 64);
    assert_eq!(ids(&running.take(5).await), ids(&good));
    // They lie before the good ones in the only partition, so they are counted by now.
    let refused: Vec<_> = running.health.tally.refusals().collect();
    let expected = [
        (Reason::Malformed, 3),
        (Reason::UnknownType, 1),
        (Reason::UnknownVersion, 1),
        (Reason::TooLarge, 1),
        (Reason::Tombstone, 1),
    ];
    assert_eq!(refused, expected);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_and_comes_back_costs_nothing_but_time() {
    let kafka = cluster(2);
    let mut running = start(settings(&kafka, "a"), 64);
    let before = samples(0, 20);
    send(&kafka, &before).await;
    assert_eq!(ids(&running.take(20).await), ids(&before));
    kafka.down().unwrap();
    until("the outage is noticed", || !running.health.is_reachable()).await;
    kafka.up().unwrap();
    let after = samples(20, 20);
    send(&kafka, &after).await;
    assert_eq!(ids(&running.take(20).await), ids(&after));
    until("the broker is back", || running.health.is_reachable()).await;
    assert!(running.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_starts_without_brokers_waits_for_them_and_stops_when_told() {
    let kafka = cluster(1);
    let all = samples(0, 10);
    send(&kafka, &all).await;
    kafka.down().unwrap();
    let idle = start(settings(&kafka, "b"), 64);
    let mut running = start(settings(&kafka, "a"), 64);
    until("both fail", || {
        running.health.failures() > 0 && idle.health.failures() > 0
    })
    .await;
    assert!(idle.end().await.is_empty());
    kafka.up().unwrap();
    assert_eq!(ids(&running.take(10).await), ids(&all));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_noticed() {
    let kafka = cluster(1);
    let mut both = settings(&kafka, "a");
    both.topics.push("later".into());
    let mut running = start(both, 64);
    let first = samples(0, 10);
    send(&kafka, &first).await;
    assert_eq!(ids(&running.take(10).await), ids(&first));
    kafka.create_topic("later", 2).unwrap();
    let second = samples(10, 10);
    send_to(&kafka, "later", &second).await;
    assert_eq!(ids(&running.take(10).await), ids(&second));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_and_a_small_order_lose_nothing_of_a_large_history() {
    let kafka = cluster(4);
    let all = samples(0, 4_000);
    send(&kafka, &all).await;
    let mut small = settings(&kafka, "a");
    small.admission.order = OrderLimits {
        hold: Duration::from_millis(500),
        lateness: Duration::from_millis(500),
        max: 400,
    };
    let mut running = start(small, 4);
    let read = running.take(4_000).await;
    assert!(read.is_sorted_by_key(|signal| signal.observedtime));
    let stamps = |signals: &[Signal]| -> BTreeSet<(String, Timestamp)> {
        signals
            .iter()
            .map(|s| (s.id.clone(), s.observedtime))
            .collect()
    };
    assert_eq!(stamps(&read), stamps(&all));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_does_not_keep_the_source_from_stopping() {
    let kafka = cluster(1);
    send(&kafka, &samples(0, 100)).await;
    let mut running = start(settings(&kafka, "a"), 1);
    running.take(1).await;
    assert!(running.end().await.len() <= 1);
}
