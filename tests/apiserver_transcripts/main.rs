//! The embedded API server answers as a recorded Kubernetes 1.36 did.

mod compare;
mod correspondence;
mod exceptions;
mod setup;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use forelay::domain::time::Timestamp;
use forelay::embedded::apiserver::{ApiServer, Handle, Options};
use forelay::telemetry::clock::ScaledClock;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};
use tower::ServiceExt;

use crate::compare::Comparer;
use crate::correspondence::Correspondence;
use crate::exceptions::{IGNORED, SKIPPED};
use crate::setup::{Step, before, widgets};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A recorded conversation.
pub struct Transcript {
    name: String,
    exchanges: Vec<Value>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn read(name: &str) -> Transcript {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let exchanges = document["exchanges"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap();
    Transcript {
        name: name.to_owned(),
        exchanges,
    }
}

/// A fresh server, and what is known of how it relates to the recorded one.
struct Replay {
    router: Router,
    handle: Handle,
    known: Correspondence,
}

/// What came back.
struct Answer {
    status: u16,
    content_type: String,
    warnings: BTreeSet<String>,
    retry_after: Option<String>,
    body: String,
}

impl Replay {
    fn start() -> Self {
        let start = Timestamp::from_micros(1_795_423_200_000_000);
        let mut options = Options::new(Arc::new(ScaledClock::starting_at(start, 1.0)));
        options.history_max = 1000;
        let server = ApiServer::new(options);
        let handle = server.handle();
        for name in ["demo", "other"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            handle.put(namespace).unwrap();
        }
        handle.put(widgets(&read("crd-lifecycle"))).unwrap();
        Self {
            router: server.router(),
            handle,
            known: Correspondence::default(),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &Value,
        body: String,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers.as_object().into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap());
        }
        let request = request.body(Body::from(body)).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn step(&self, step: Step) {
        match step {
            Step::Put(object) => {
                self.handle.put(object).unwrap();
            }
            Step::Wait(time) => advance(time).await,
            Step::Forget => self.handle.expire_watches(),
            Step::Send(method, path, body) => {
                let media = match method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                };
                let headers = json!({"Content-Type": media, "User-Agent": "transcript/v1"});
                let body = if body.is_null() {
                    String::new()
                } else {
                    body.to_string()
                };
                let response = self.send(method, &path, &headers, body).await;
                assert!(
                    response.status().is_success(),
                    "{method} {path}: {response:?}"
                );
            }
            Step::LeasesElsewhere => {
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    for n in 0..12 {
                        sleep(Duration::from_secs(if n == 0 { 5 } else { 10 })).await;
                        let lease = json!({
                            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                            "metadata": {"name": "elsewhere", "namespace": "demo"},
                            "spec": {"leaseTransitions": n},
                        });
                        handle.put(lease).unwrap();
                    }
                });
            }
        }
    }

    /// Sends a recorded request; returns what came back until the recorded end.
    async fn exchange(&self, exchange: &Value) -> Answer {
        let request = &exchange["request"];
        let path = self.known.path(request["path"].as_str().unwrap());
        let mut body = match (&request["body"], &request["body_text"]) {
            (Value::Null, Value::String(text)) => text.clone(),
            (Value::Null, _) => String::new(),
            (body, _) => self.known.body(body).to_string(),
        };
        if let Some(bytes) = body
            .strip_prefix('<')
            .and_then(|b| b.strip_suffix(" bytes>"))
        {
            body = big_config_map(bytes.parse().unwrap());
        }
        let method = request["method"].as_str().unwrap();
        let response = self.send(method, &path, &request["headers"], body).await;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let warnings = response.headers().get_all("warning");
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: header("content-type").unwrap_or_default(),
            retry_after: header("retry-after"),
            warnings: warnings
                .iter()
                .map(|w| w.to_str().unwrap().to_owned())
                .collect(),
            body: String::new(),
        };
        let body = response.into_body();
        if exchange["response"]["ended"] == "client-closed" {
            let wanted = exchange["response"]["stream"].as_array().unwrap().len();
            let mut pieces = body.into_data_stream();
            while answer.body.lines().count() < wanted {
                let piece = pieces.next().await.expect("the watch goes on").unwrap();
                answer.body.push_str(std::str::from_utf8(&piece).unwrap());
            }
        } else {
            let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap();
            answer.body = String::from_utf8(bytes.to_vec()).unwrap();
        }
        answer
    }

    /// The differences between the recorded answer and ours.
    fn compare(&mut self, recorded: &Value, answer: &Answer) -> Vec<String> {
        let mut comparer = Comparer::new(&mut self.known);
        if recorded["status"] != json!(answer.status) {
            let how = format!("{} instead of {}", answer.status, recorded["status"]);
            comparer.differs(".status", &format!("{how}: {}", answer.body));
            return comparer.differences;
        }
        let headers = &recorded["headers"];
        let recorded_type = headers["Content-Type"].as_str().unwrap_or_default();
        if recorded_type != answer.content_type {
            let how = format!("{} instead of {recorded_type}", answer.content_type);
            comparer.differs(".headers.content-type", &how);
        }
        let warning: BTreeSet<String> = headers["Warning"]
            .as_str()
            .map(str::to_owned)
            .into_iter()
            .collect();
        if warning != answer.warnings {
            let how = format!("{:?} instead of {warning:?}", answer.warnings);
            comparer.differs(".headers.warning", &how);
        }
        if headers["Retry-After"].as_str() != answer.retry_after.as_deref() {
            comparer.differs(".headers.retry-after", &format!("{:?}", answer.retry_after));
        }
        if let Some(stream) = recorded.get("stream").and_then(Value::as_array) {
            let lines: Vec<Value> = answer
                .body
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            if lines.len() != stream.len() {
                let how = format!(
                    "{} lines instead of {}: {lines:?}",
                    lines.len(),
                    stream.len()
                );
                comparer.differs(".stream", &how);
            }
            for (index, (recorded, actual)) in stream.iter().zip(&lines).enumerate() {
                comparer.event(index, &recorded["event"], actual);
            }
        } else if let Some(text) = recorded.get("body_text").and_then(Value::as_str) {
            if text != answer.body {
                comparer.differs(
                    ".body_text",
                    &format!("{:?} instead of {text:?}", answer.body),
                );
            }
        } else if let Some(body) = recorded.get("body") {
            comparer.body(
                body,
                &serde_json::from_str(&answer.body).unwrap_or(Value::Null),
            );
        }
        comparer.differences
    }
}

fn big_config_map(bytes: usize) -> String {
    let body = |filler: usize| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"},
            "data": {"a": "x".repeat(filler)},
        })
        .to_string()
    };
    body(bytes - body(0).len())
}

/// Replays one transcript; fails with every difference that no table explains, and with every row
/// of the tables that explains nothing.
async fn replay(name: &str) {
    let transcript = read(name);
    let mut replay = Replay::start();
    let mut failures = Vec::new();
    for (index, exchange) in transcript.exchanges.iter().enumerate() {
        for step in before(&transcript, index) {
            replay.step(step).await;
        }
        let answer = replay.exchange(exchange).await;
        let here = |row: (&str, usize)| row == (name, index);
        let skipped = SKIPPED.iter().find(|row| here((row.0, row.1)));
        let known = replay.known.clone();
        let mut differences = replay.compare(&exchange["response"], &answer);
        if skipped.is_some() {
            // What differs says nothing of what stands for what.
            replay.known = known;
        }
        for (_, _, place, reason) in IGNORED.iter().filter(|row| here((row.0, row.1))) {
            let before = differences.len();
            differences.retain(|difference| !difference.starts_with(place));
            if differences.len() == before {
                failures.push(format!(
                    "[{index}] stale row, nothing differs at {place} ({reason})"
                ));
            }
        }
        match (skipped, differences.is_empty()) {
            (Some((_, _, reason)), true) => {
                failures.push(format!("[{index}] stale row, it agrees ({reason})"));
            }
            (Some(_), false) | (None, true) => {}
            (None, false) => {
                let request = &exchange["request"];
                let line = format!("[{index}] {} {}", request["method"], request["path"]);
                failures.push(format!("{line}\n    {}", differences.join("\n    ")));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{name} differs:\n{}",
        failures.join("\n")
    );
}

/// One test per transcript, and the list of them all.
macro_rules! transcripts {
    ($($test:ident => $file:literal,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                replay($file).await;
            }
        )*

        const TRANSCRIPTS: &[&str] = &[$($file),*];
    };
}

transcripts! {
    create_errors => "create-errors",
    crd_lifecycle => "crd-lifecycle",
    crd_validation => "crd-validation",
    delete_finalizers_preconditions => "delete-finalizers-preconditions",
    discovery_classic => "discovery-classic",
    events => "events",
    field_selectors => "field-selectors",
    field_validation => "field-validation",
    health_endpoints => "health-endpoints",
    json_patch => "json-patch",
    label_selectors => "label-selectors",
    lease => "lease",
    list_limit_continue => "list-limit-continue",
    list_resource_version => "list-resource-version",
    merge_patch => "merge-patch",
    namespace_terminating => "namespace-terminating",
    not_found_and_media_types => "not-found-and-media-types",
    owner_references_gc => "owner-references-gc",
    server_side_apply => "server-side-apply",
    ssa_status_subresource => "ssa-status-subresource",
    status_and_generation => "status-and-generation",
    table_and_metadata => "table-and-metadata",
    update_conflict => "update-conflict",
    version => "version",
    watch_and_list_expired => "watch-and-list-expired",
    watch_bad_parameters => "watch-bad-parameters",
    watch_basic => "watch-basic",
    watch_bookmarks => "watch-bookmarks",
    watch_rv_zero => "watch-rv-zero",
    watch_selector_transition => "watch-selector-transition",
    watch_timeout => "watch-timeout",
}

#[test]
fn every_transcript_is_replayed_and_every_row_names_one() {
    let on_disk: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    let replayed: BTreeSet<String> = TRANSCRIPTS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(on_disk, replayed);
    let rows = SKIPPED.iter().map(|row| (row.0, row.1));
    for (name, index) in rows.chain(IGNORED.iter().map(|row| (row.0, row.1))) {
        assert!(
            index < read(name).exchanges.len(),
            "{name} has no exchange {index}"
        );
    }
}
