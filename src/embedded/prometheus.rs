//! A Prometheus HTTP API over the load series of a scenario, as far as its clock has come.
//!
//! Answers what [`crate::source::prometheus`] asks, in Prometheus' own words: instant and range
//! queries whose expression is a name or `name{label="value"}`, in GET and POST; everything else is
//! an error as Prometheus writes errors. A test asks it and a real Prometheus the same.

mod answer;
mod selector;
mod series;

pub use selector::{Selector, SelectorError};
pub use series::LoadSeries;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::time::Timestamp;
use crate::embedded::prometheus::answer::{ApiError, instant, range};
use crate::port::Clock;

/// The server, on a loopback port of its own.
pub struct EmbeddedPrometheus {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

struct World {
    series: LoadSeries,
    clock: Arc<dyn Clock>,
}

/// Parameters as forms carry them: all texts, all optional.
#[derive(Debug, Default, Deserialize)]
struct Params {
    query: Option<String>,
    time: Option<String>,
    start: Option<String>,
    end: Option<String>,
    step: Option<String>,
}

impl EmbeddedPrometheus {
    /// Serves `series`; samples that `clock` has not reached are not there yet.
    pub async fn start(series: LoadSeries, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let ended = stop.clone().cancelled_owned();
        let server = axum::serve(listener, routes(World { series, clock }));
        let task = tokio::spawn(async move { server.with_graceful_shutdown(ended).await });
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers what is under way, then ends.
    pub async fn stop(self) -> io::Result<()> {
        self.stop.cancel();
        self.task.await.map_err(io::Error::other)?
    }
}

fn routes(world: World) -> Router {
    Router::new()
        .route(
            "/-/ready",
            get(|| async { "Prometheus Server is Ready.\n" }),
        )
        .route(
            "/-/healthy",
            get(|| async { "Prometheus Server is Healthy.\n" }),
        )
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(label_values))
        .with_state(Arc::new(world))
}

async fn query(
    State(world): State<Arc<World>>,
    Form(params): Form<Params>,
) -> Result<Response, ApiError> {
    let now = world.clock.now();
    let at = answer::time("time", params.time.as_deref(), Some(now))?;
    let selector = answer::selector(params.query.as_deref())?;
    Ok(success(instant(&world.series.seen_by(now), &selector, at)))
}

async fn query_range(
    State(world): State<Arc<World>>,
    Form(params): Form<Params>,
) -> Result<Response, ApiError> {
    let start = answer::time("start", params.start.as_deref(), None)?;
    let end = answer::time("end", params.end.as_deref(), None)?;
    let steps = answer::steps(start, end, params.step.as_deref())?;
    let selector = answer::selector(params.query.as_deref())?;
    let seen = world.series.seen_by(world.clock.now());
    Ok(success(range(&seen, &selector, &steps)))
}

async fn labels(State(world): State<Arc<World>>) -> Response {
    let seen = world.series.seen_by(world.clock.now());
    success(json!(seen.label_names()))
}

async fn label_values(State(world): State<Arc<World>>, Path(name): Path<String>) -> Response {
    let seen = world.series.seen_by(world.clock.now());
    success(json!(seen.label_values(&name)))
}

fn success(data: serde_json::Value) -> Response {
    Json(json!({"status": "success", "data": data})).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"status": "error", "errorType": "bad_data", "error": self.to_string()});
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }
}

/// Milliseconds, the resolution of Prometheus.
fn millis(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000)
}
