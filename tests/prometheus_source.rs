//! The Prometheus source against a real Prometheus and against the embedded one: both answer alike.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use forelay::domain::signal::{Fact, LoadSample, Signal};
use forelay::domain::time::Timestamp;
use forelay::embedded::prometheus::{EmbeddedPrometheus, LoadSeries};
use forelay::port::Clock;
use forelay::source::health::Health;
use forelay::source::prometheus::{
    LoadQuery, PrometheusError, PrometheusSettings, PrometheusSource,
};
use forelay::source::rejection::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener as AsyncListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; what waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// 2026-11-20T12:00:00Z: the samples are of the two hours before.
const NOON: i64 = 1_795_176_000;

const STEP: Duration = Duration::from_secs(30);

/// A clock that stands until it is set.
struct SetClock(watch::Sender<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        async move {
            let _ = now.wait_for(|now| *now >= at).await;
        }
        .boxed()
    }
}

fn noon() -> Timestamp {
    Timestamp::from_micros(NOON * 1_000_000)
}

fn clock_at(time: Timestamp) -> Arc<SetClock> {
    Arc::new(SetClock(watch::channel(time).0))
}

/// Series by their expressions: a steady one, one with a label, one that ends early, one with a
/// sample that is not a number. Samples lie between the steps, every 15 seconds.
fn samples() -> Vec<Signal> {
    let mut samples = Vec::new();
    let mut add = |series: &str, second: i64, value: f64| {
        let time = Timestamp::from_micros((NOON - 7_200 + second) * 1_000_000 + 7_000);
        let fact = Fact::LoadSampled(LoadSample {
            series: series.into(),
            workload: None,
            value,
        });
        let id = format!("{series}-{second}");
        samples.push(Signal::new("/recorded", id, time, fact));
    };
    for second in (0..7_200).step_by(15) {
        let wave = (second as f64 / 600.0).sin();
        add("checkout", second, 100.0 + 20.0 * wave);
        add(r#"requests{app="cart"}"#, second, second as f64);
        add(
            r#"requests{app="pay",zone="b"}"#,
            second,
            0.5 * second as f64,
        );
        if second < 5_000 {
            add("early", second, 1e9 + second as f64);
        }
        let broken = if second == 6_015 { f64::NAN } else { 3.0 };
        add("gappy", second, broken);
    }
    samples
}

/// A real Prometheus on the same samples, ended when this is dropped.
struct Real {
    child: Child,
    folder: Arc<TempDir>,
    port: u16,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Real {
    async fn start() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        backfill(folder.path());
        fs::write(folder.path().join("prometheus.yml"), "scrape_configs: []\n").unwrap();
        for _ in 0..5 {
            // It cannot be given port 0; a port that was free a moment ago is nearly always free.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let child = serve(folder.path(), port);
            let mut real = Self {
                child,
                folder: Arc::clone(&folder),
                port,
            };
            if real.is_ready().await {
                return real;
            }
        }
        panic!("prometheus does not start");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn is_ready(&mut self) -> bool {
        let waiting = async {
            loop {
                if self.child.try_wait().unwrap().is_some() {
                    return false;
                }
                let url = format!("http://127.0.0.1:{}/-/ready", self.port);
                match http().get(url).send().await {
                    Ok(answer) if answer.status() == StatusCode::OK => return true,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or(false)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.child = serve(self.folder.path(), self.port);
        assert!(self.is_ready().await, "prometheus does not start again");
    }
}

fn serve(folder: &Path, port: u16) -> Child {
    Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            folder.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("no prometheus here: apt-get install prometheus")
}

/// Samples become blocks of the real thing's storage: nothing has to be scraped and waited for.
fn backfill(folder: &Path) {
    let mut text = String::new();
    let mut samples = samples();
    // OpenMetrics wants the samples of a family together.
    samples.sort_by_key(|signal| series_of(signal).to_owned());
    for signal in &samples {
        let Fact::LoadSampled(sample) = &signal.fact else {
            continue;
        };
        let millis = signal.time.as_micros() / 1_000;
        let (name, value) = (&sample.series, sample.value);
        let value = if value.is_nan() {
            "NaN".into()
        } else {
            value.to_string()
        };
        writeln!(
            text,
            "{name} {value} {}.{:03}",
            millis / 1_000,
            millis % 1_000
        )
        .unwrap();
    }
    text.push_str("# EOF\n");
    fs::write(folder.join("samples"), text).unwrap();
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([folder.join("samples"), folder.join("data")])
        .output()
        .expect("no promtool here: apt-get install prometheus");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

fn series_of(signal: &Signal) -> &str {
    match &signal.fact {
        Fact::LoadSampled(sample) => &sample.series,
        other => panic!("{other:?}"),
    }
}

async fn embedded(clock: Arc<dyn Clock>) -> EmbeddedPrometheus {
    let series: LoadSeries = samples().iter().collect();
    EmbeddedPrometheus::start(series, clock).await.unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Status, and the parts of the answer that a client reads, in an order of their own.
async fn ask(url: &str, path: &str, form: &[(&str, &str)], post: bool) -> (StatusCode, Value) {
    let url = format!("{url}{path}");
    let request = if post {
        http().post(url).form(form)
    } else {
        http().get(url).query(form)
    };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let mut body: Value = answer.json().await.unwrap();
    if let Some(results) = body
        .pointer_mut("/data/result")
        .and_then(Value::as_array_mut)
    {
        results.sort_by_key(|result| result["metric"].to_string());
    }
    if let Some(members) = body.as_object_mut() {
        members.remove("error");
    }
    (status, body)
}

/// Paths and parameters: what is asked of both, good and bad.
fn questions() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let instant = |query: &str, time: String| {
        (
            "/api/v1/query",
            vec![("query", query.to_owned()), ("time", time)],
        )
    };
    let range = |query: &str, start: i64, end: i64, step: Option<&str>| {
        let mut form = vec![
            ("query", query.to_owned()),
            ("start", start.to_string()),
            ("end", end.to_string()),
        ];
        form.extend(step.map(|step| ("step", step.to_owned())));
        ("/api/v1/query_range", form)
    };
    let noon = || NOON.to_string();
    let hour_ago = NOON - 3_600;
    vec![
        instant("checkout", noon()),
        instant("checkout", format!("{}.25", NOON - 100)),
        instant("checkout", "2026-11-20T11:00:00Z".into()),
        instant("requests", noon()),
        instant(r#"requests{app="pay"}"#, noon()),
        instant(r#"requests{zone=""}"#, noon()),
        instant("early", noon()),
        instant("nobody", noon()),
        instant("", noon()),
        instant("checkout{", noon()),
        instant("checkout", "noon".into()),
        range("checkout", hour_ago, NOON, Some("30")),
        range("requests", hour_ago, NOON, Some("30")),
        range("early", hour_ago, NOON, Some("30")),
        range("gappy", hour_ago, NOON, Some("30")),
        range("nobody", hour_ago, NOON, Some("30")),
        range("checkout", hour_ago, NOON, Some("1m")),
        range("checkout", hour_ago, NOON, None),
        range("checkout", hour_ago, NOON, Some("0")),
        range("checkout", NOON, hour_ago, Some("30")),
        range("checkout", 0, NOON, Some("30")),
    ]
}

fn query(name: &str, query: &str) -> LoadQuery {
    LoadQuery {
        name: name.into(),
        query: query.into(),
        workload: Some("Deployment/shop/checkout".parse().unwrap()),
    }
}

fn settings(url: String, queries: Vec<LoadQuery>) -> PrometheusSettings {
    PrometheusSettings {
        url,
        queries,
        interval: STEP,
        timeout: Duration::from_secs(30),
        history: Duration::from_hours(1),
    }
}

struct Running {
    signals: mpsc::Receiver<Signal>,
    health: Arc<Health>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), PrometheusError>>,
}

fn start(settings: PrometheusSettings, clock: Arc<SetClock>) -> Running {
    run(PrometheusSource::new(settings, clock))
}

fn run(source: PrometheusSource) -> Running {
    let health = source.health();
    let (out, signals) = mpsc::channel(10_000);
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
    async fn until(&self, what: &str, holds: impl Fn(&Health) -> bool) {
        let waiting = async {
            while !holds(&self.health) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "never: {what}; {:?}", self.health);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_endpoint_answers_like_a_real_prometheus() {
    let real = Real::start().await;
    let embedded = embedded(clock_at(noon())).await;
    for (path, form) in questions() {
        let form: Vec<_> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        for post in [false, true] {
            let expected = ask(&real.url(), path, &form, post).await;
            let answer = ask(&embedded.url(), path, &form, post).await;
            assert_eq!(answer, expected, "{path} {form:?}");
        }
    }
    for path in ["/api/v1/labels", "/api/v1/label/app/values"] {
        let expected = ask(&real.url(), path, &[], false).await;
        assert_eq!(
            ask(&embedded.url(), path, &[], false).await,
            expected,
            "{path}"
        );
    }
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_reads_the_same_signals_from_both() {
    let real = Real::start().await;
    let clock = clock_at(noon());
    let embedded = embedded(Arc::clone(&clock) as Arc<dyn Clock>).await;
    let queries = vec![
        query("checkout", "checkout"),
        query("cart", r#"requests{app="cart"}"#),
        query("early", "early"),
        query("gappy", "gappy"),
        query("all", "requests"),
    ];
    let mut read = Vec::new();
    for url in [real.url(), embedded.url()] {
        let running = start(settings(url, queries.clone()), Arc::clone(&clock));
        running
            .until("the history is read", Health::is_caught_up)
            .await;
        let refused = |reason| running.health.tally.refused(reason);
        let counts = (refused(Reason::NotFinite), refused(Reason::TooManySeries));
        assert_eq!(running.health.failures(), 0);
        let mut signals = running.end().await;
        signals.sort_by(|a, b| a.id.cmp(&b.id));
        read.push((signals, counts));
    }
    let (signals, (not_finite, too_many)) = &read[0];
    // 121 instants in an hour; `early` ends 2,215 s before noon and is seen for 300 s more.
    let count = |name: &str| signals.iter().filter(|s| series_of(s) == name).count();
    assert_eq!(
        (count("checkout"), count("cart"), count("all")),
        (121, 121, 0)
    );
    assert!(count("early") > 0 && count("early") < 121);
    assert_eq!((*not_finite, *too_many), (1, 242));
    assert!(
        signals
            .iter()
            .all(|s| s.observedtime == noon() && s.time <= noon())
    );
    assert_eq!(read[0], read[1]);
    embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_outage_has_hidden_is_asked_for_when_it_is_over() {
    let mut real = Real::start().await;
    let clock = clock_at(noon() - Duration::from_mins(30));
    let one = settings(real.url(), vec![query("checkout", "checkout")]);
    let running = start(one, Arc::clone(&clock));
    running
        .until("the history is read", |health| health.tally.taken() == 121)
        .await;
    real.kill();
    clock.0.send_replace(noon() - Duration::from_mins(20));
    running
        .until("the outage is noticed", |health| !health.is_reachable())
        .await;
    real.restart().await;
    clock.0.send_replace(noon() - Duration::from_mins(10));
    running
        .until("all is caught up", |health| health.tally.taken() == 161)
        .await;
    let mut times: Vec<Timestamp> = running.end().await.iter().map(|s| s.time).collect();
    times.sort();
    let first = noon() - Duration::from_mins(90);
    let expected: Vec<Timestamp> = (0..161).map(|i| first + STEP * i).collect();
    assert_eq!(times, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_policies_are_asked_from_the_next_step_on_and_forgotten_when_they_go() {
    let clock = clock_at(noon() - Duration::from_mins(30));
    let server = embedded(clock.clone()).await;
    let (policies, asked) = watch::channel(Vec::new());
    let own = query("checkout", "checkout");
    let mut settings = settings(server.url(), vec![own.clone()]);
    settings.history = STEP * 9;
    let running = run(PrometheusSource::new(settings, clock.clone()).with(asked));
    let taken = async |count: u64| {
        let what = format!("{count} samples");
        let all = |health: &Health| health.tally.taken() == count;
        running.until(&what, all).await;
    };
    taken(10).await;
    // A name of the configuration is the configuration's.
    policies.send_replace(vec![query("more", "checkout"), own]);
    clock
        .0
        .send_replace(noon() - Duration::from_mins(30) + STEP);
    taken(10 + 1 + 10).await;
    policies.send_replace(Vec::new());
    clock
        .0
        .send_replace(noon() - Duration::from_mins(30) + STEP * 2);
    taken(10 + 1 + 10 + 1).await;
    // Had the forgotten one been asked again, its sample would be among these by now.
    clock
        .0
        .send_replace(noon() - Duration::from_mins(30) + STEP * 3);
    taken(10 + 1 + 10 + 2).await;
    let names = |signal: &Signal| match &signal.fact {
        Fact::LoadSampled(sample) => sample.series.clone(),
        other => panic!("{other:?}"),
    };
    let series: Vec<String> = running.end().await.iter().map(names).collect();
    assert_eq!(series.iter().filter(|name| *name == "more").count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_never_answers_is_given_up_and_the_source_still_stops() {
    let stalled = AsyncListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", stalled.local_addr().unwrap());
    let mut slow = settings(url.clone(), vec![query("a", "a"), query("b", "b")]);
    slow.timeout = Duration::from_millis(100);
    let running = start(slow, clock_at(noon()));
    running
        .until("both queries are given up", |health| health.failures() == 2)
        .await;
    running
        .until("the round is over", Health::is_caught_up)
        .await;
    assert!(!running.health.is_reachable());
    assert!(running.end().await.is_empty());

    let patient = settings(url, vec![query("a", "a")]);
    let running = start(patient, clock_at(noon()));
    let _waiting = stalled.accept().await.unwrap();
    assert!(running.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_prometheus_is_a_failure_and_not_a_panic() {
    let listener = AsyncListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, "<html>") });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let running = start(settings(url, vec![query("a", "a")]), clock_at(noon()));
    running
        .until("the failure is counted", |health| health.failures() == 1)
        .await;
    assert!(running.end().await.is_empty());
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_are_not_observed_yet_are_not_served() {
    let clock = clock_at(noon() - Duration::from_hours(1));
    let embedded = embedded(Arc::clone(&clock) as Arc<dyn Clock>).await;
    let (noon, form) = (NOON.to_string(), "checkout");
    let form = [("query", form), ("time", noon.as_str())];
    let (_, before) = ask(&embedded.url(), "/api/v1/query", &form, false).await;
    assert_eq!(before["data"]["result"].as_array().unwrap().len(), 0);
    clock.0.send_replace(self::noon());
    let (_, after) = ask(&embedded.url(), "/api/v1/query", &form, false).await;
    assert_eq!(after["data"]["result"].as_array().unwrap().len(), 1);
    embedded.stop().await.unwrap();
}
