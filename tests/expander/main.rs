//! The expander call over TLS, from a client that does what cluster-autoscaler's does.

mod autoscaler;
mod decoding;
mod write;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use autoscaler::{Autoscaler, certificate, certify, choice, request};
use bytes::Bytes;
use forelay::source::expander::certificate::CertificatePaths;
use forelay::source::expander::{ExpanderCounters, ExpanderSettings, ExpanderSource};
use forelay::source::kubernetes::offers::Offer;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use forelay::telemetry::metric::name::Name;
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Long enough for a busy machine; what waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// The autoscaler's own patience is 5 s; where it is meant to lose it, less will do.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// Largest request (src/source/expander/answer.rs).
const REQUEST_MAX: usize = 128 << 20;

/// A server that ends with the test.
struct Served {
    port: u16,
    folder: TempDir,
    offers: mpsc::Receiver<Offer>,
    counters: ExpanderCounters,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path(), "localhost");
        Self::of(folder).await
    }

    async fn of(folder: TempDir) -> Self {
        let mut metrics = Metrics::new("test");
        let counters = ExpanderCounters {
            calls: metrics.counters(Name::ExpanderCalls),
            skipped: metrics.counters(Name::SkippedObjects),
        };
        let settings = ExpanderSettings {
            paths: CertificatePaths {
                certificate: folder.path().join("tls.crt"),
                key: folder.path().join("tls.key"),
            },
            look: Duration::from_millis(50),
        };
        let source = ExpanderSource::new(settings, Arc::new(SystemClock), counters.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (out, offers) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let running = source.run(listener, out, stop.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        Self {
            port,
            folder,
            offers,
            counters,
            stop,
            task,
        }
    }

    fn autoscaler(&self) -> Autoscaler {
        Autoscaler::new(self.port, certificate(self.folder.path()), PATIENCE)
    }

    async fn offer(&mut self) -> Offer {
        let offer = tokio::time::timeout(PATIENCE, self.offers.recv()).await;
        offer.expect("an offer comes").expect("the server runs")
    }

    fn calls(&self, outcome: &str) -> u64 {
        self.counters.calls.of(outcome).get()
    }
}

fn ids(options: &[forelay::source::expander::wire::expander::Option]) -> Vec<&str> {
    options
        .iter()
        .map(|one| one.node_group_id.as_str())
        .collect()
}

fn two_groups() -> forelay::source::expander::wire::expander::BestOptionsRequest {
    request(vec![choice("a", 1, []), choice("b", 2, [])])
}

#[tokio::test]
async fn every_id_comes_back_in_its_place_whatever_is_in_the_pods() {
    let mut served = Served::new().await;
    let groups = [
        "eks-web-1f",
        "",
        "https://cloud/zones/z1/instanceGroups/gpu",
        "eks-web-1f",
        "ü",
    ];
    let broken = || vec![b"no pod".to_vec(), vec![0xff; 100], Vec::new()];
    let mut asked = request(groups.iter().map(|id| choice(id, 3, broken())).collect());
    let sample = Bytes::from_static(b"no node");
    asked.node_bytes_map.insert("eks-web-1f".into(), sample);
    let answer = served.autoscaler().ask(asked).await.unwrap();
    assert_eq!(ids(&answer.options), groups);
    // Nothing but the ids: the autoscaler looks its own options up by them.
    assert!(answer.options.iter().all(|one| one.pod_bytes.is_empty()));

    let offer = served.offer().await;
    assert_eq!(offer.choices.len(), groups.len());
    // An empty message is a pod without anything; the others are none.
    assert_eq!(offer.pods.len(), 1);
    assert!(offer.samples.is_empty());
    let skipped = |kind| served.counters.skipped.of(kind).get();
    assert_eq!((skipped("pods"), skipped("nodes")), (2, 1));
}

#[tokio::test]
async fn a_request_without_options_is_an_error_and_never_an_empty_answer() {
    let served = Served::new().await;
    let error = served
        .autoscaler()
        .ask(request(Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(served.calls("unreadable"), 1);
}

#[tokio::test]
async fn answers_do_not_wait_for_anybody_who_takes_what_was_heard() {
    let served = Served::new().await;
    let autoscaler = served.autoscaler();
    // Nobody takes offers: one waits in the channel, one before it, four calls in the queue.
    for asked in 1..=20 {
        let left = autoscaler.best_options(two_groups()).await;
        assert_eq!(left, ["a", "b"]);
        assert_eq!(served.calls("answered"), asked);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        served.calls("not_decoded") >= 20 - 6,
        "{}",
        served.calls("not_decoded")
    );
    assert!(served.calls("not_decoded") < 20);
}

#[tokio::test]
async fn requests_up_to_128_mib_are_answered_and_larger_ones_leave_all_options() {
    let mut served = Served::new().await;
    let autoscaler = served.autoscaler();
    let pods = (0..4_000u32).map(|n| {
        let mut pod = vec![0x0a, 0xfd, 0x26];
        pod.extend(n.to_be_bytes());
        pod.resize(5_000, 0);
        pod
    });
    let asked = request(vec![choice("a", 40, pods), choice("b", 1, [])]);
    assert!(asked.encoded_len() > 20_000_000);
    let answer = autoscaler.ask(asked).await.unwrap();
    assert_eq!(ids(&answer.options), ["a", "b"]);
    assert_eq!(served.offer().await.choices.len(), 2);

    let filled = |total: usize| {
        let empty = request(vec![choice("a", 1, [Vec::new()])]).encoded_len();
        // Lengths of more than 2 MiB and up to 256 MiB take four bytes each, thrice.
        let pod = vec![0; total - empty - 6];
        let asked = request(vec![choice("a", 1, [pod])]);
        assert_eq!(asked.encoded_len(), total);
        asked
    };
    let largest = autoscaler.ask(filled(REQUEST_MAX)).await.unwrap();
    assert_eq!(ids(&largest.options), ["a"]);
    let error = autoscaler.ask(filled(REQUEST_MAX + 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    assert_eq!(served.calls("too_large"), 1);
    assert_eq!(
        autoscaler.best_options(filled(REQUEST_MAX + 1)).await,
        ["a"]
    );
}

#[tokio::test]
async fn a_forelay_that_is_stopped_silent_or_badly_certified_leaves_all_options() {
    let served = Served::new().await;
    let mine = certificate(served.folder.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = certify(elsewhere.path(), "localhost");
    let stranger = tempfile::tempdir().unwrap();
    certify(stranger.path(), "forelay.example");
    let misnamed = Served::of(stranger).await;
    let bare = Served::of(tempfile::tempdir().unwrap()).await;
    // Bound and never accepted from: the kernel greets, nobody else does. Closed: nobody at all.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        gone.local_addr().unwrap().port()
    };
    let cases = [
        ("well", served.port, mine.clone()),
        ("another certificate", served.port, other),
        (
            "another name",
            misnamed.port,
            certificate(misnamed.folder.path()),
        ),
        ("no certificate", bare.port, mine.clone()),
        ("silent", silent.local_addr().unwrap().port(), mine.clone()),
        ("stopped", closed, mine),
    ];
    for (case, port, trusted) in cases {
        let patience = if case == "silent" {
            IMPATIENCE
        } else {
            PATIENCE
        };
        let autoscaler = Autoscaler::new(port, trusted, patience);
        let began = Instant::now();
        let answered = autoscaler.ask(two_groups()).await.is_ok();
        assert_eq!(answered, case == "well", "{case}");
        let left = autoscaler.best_options(two_groups()).await;
        assert_eq!(left, ["a", "b"], "{case}");
        assert!(began.elapsed() < PATIENCE, "{case}");
    }
    assert!(served.calls("no_tls") > 0 && bare.calls("no_tls") > 0);
}

#[tokio::test]
async fn calls_that_never_arrive_cost_others_an_error_and_no_option() {
    let served = Served::new().await;
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let autoscaler = served.autoscaler();
            tokio::spawn(async move { autoscaler.stall().await })
        })
        .collect();
    let autoscaler = served.autoscaler();
    let deadline = Instant::now() + PATIENCE;
    while served.calls("busy") == 0 {
        assert_eq!(autoscaler.best_options(two_groups()).await, ["a", "b"]);
        assert!(Instant::now() < deadline, "two that stall keep nobody out");
    }
    // Whoever stalls is given up after a while; whoever goes, at once.
    stalled.iter().for_each(tokio::task::JoinHandle::abort);
    while autoscaler.ask(two_groups()).await.is_err() {
        assert!(Instant::now() < deadline, "their places are not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_without_a_restart() {
    let served = Served::new().await;
    let old = served.autoscaler();
    old.ask(two_groups()).await.unwrap();
    let new = certify(served.folder.path(), "localhost");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let autoscaler = Autoscaler::new(served.port, new.clone(), PATIENCE);
        if autoscaler.ask(two_groups()).await.is_ok() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the new certificate is never used"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who is connected stays so.
    old.ask(two_groups()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_expander_call_is_refused_and_told_so() {
    let served = Served::new().await;
    // Plain HTTP on the TLS port.
    let url = format!("http://127.0.0.1:{}/metrics", served.port);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(url).send().await.is_err());
    let autoscaler = served.autoscaler();
    assert_eq!(autoscaler.best_options(two_groups()).await, ["a", "b"]);
}

#[tokio::test]
async fn it_ends_when_told_although_an_autoscaler_stays_connected() {
    let mut served = Served::new().await;
    let autoscaler = served.autoscaler();
    autoscaler.ask(two_groups()).await.unwrap();
    served.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, &mut served.task).await;
    ended.expect("it ends").unwrap();
    assert_eq!(autoscaler.best_options(two_groups()).await, ["a", "b"]);
}
