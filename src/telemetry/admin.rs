//! The admin server: `/livez`, `/readyz`, `/healthz` and `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::telemetry::metric::{CONTENT_TYPE, Metrics};

/// What has to be true before a process is ready: named gates, all of them open.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

/// One of them, in the hands of who knows.
#[derive(Clone, Debug)]
pub struct Gate {
    gates: Gates,
    name: &'static str,
}

/// What the admin server shows.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    gates: Gates,
}

// === impl Gates ===

impl Gates {
    /// A new gate, closed because it is still `starting`.
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate {
            gates: self.clone(),
            name,
        };
        gate.close("starting");
        gate
    }

    /// Whether all gates are open.
    pub fn are_open(&self) -> bool {
        self.with(|gates| gates.values().all(Result::is_ok))
    }

    /// One line per gate in the API server's own form, and whether all are open.
    fn report(&self) -> (bool, String) {
        self.with(|gates| {
            let mut page = String::new();
            for (name, state) in gates.iter() {
                // Writing to a String cannot fail.
                let _ = match state {
                    Ok(()) => writeln!(page, "[+]{name} ok"),
                    Err(reason) => writeln!(page, "[-]{name} not ready: {reason}"),
                };
            }
            let ready = gates.values().all(Result::is_ok);
            page.push_str(if ready { "ready\n" } else { "not ready\n" });
            (ready, page)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, Result<(), String>>) -> T) -> T {
        // A panic elsewhere leaves the map whole: each change is one insertion.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Gate ===

impl Gate {
    /// Ready, as far as this gate knows.
    pub fn open(&self) {
        self.gates.with(|gates| gates.insert(self.name, Ok(())));
    }

    /// Not ready, and why.
    pub fn close(&self, reason: impl Into<String>) {
        self.gates
            .with(|gates| gates.insert(self.name, Err(reason.into())));
    }
}

// === impl Admin ===

impl Admin {
    /// Shows these metrics and gates.
    pub fn new(metrics: Arc<Metrics>, gates: Gates) -> Self {
        Self { metrics, gates }
    }

    /// The routes, for a server of one's own.
    pub fn router(self) -> Router {
        Router::new()
            // Alive means: this runtime still answers. Whatever else is wrong, a restart would
            // only throw away what was learned.
            .route("/livez", get(|| async { "ok\n" }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// Serves on a bound listener until `shutdown` completes.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(listener, self.router())
            .with_graceful_shutdown(shutdown)
            .await
    }
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let (ready, page) = admin.gates.report();
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        page,
    )
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    async fn get(base: &str, path: &str) -> (u16, String, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("{base}{path}")).send().await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE).cloned();
        let kind = kind.map_or_else(String::new, |kind| kind.to_str().unwrap().to_owned());
        (status, kind, response.text().await.unwrap())
    }

    #[tokio::test]
    async fn readiness_names_the_gate_that_is_closed() {
        let gates = Gates::default();
        let (watch, kafka) = (gates.gate("watch"), gates.gate("kafka"));
        let admin = Admin::new(Arc::new(Metrics::new("test")), gates.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(admin.serve(listener, async {
            let _ = stopped.await;
        }));

        watch.open();
        let (status, _, body) = get(&base, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (
                503,
                "[-]kafka not ready: starting\n[+]watch ok\nnot ready\n"
            )
        );
        assert_eq!(get(&base, "/livez").await.0, 200);

        kafka.open();
        assert_eq!(get(&base, "/readyz").await.0, 200);
        watch.close("expired");
        assert_eq!(get(&base, "/readyz").await.0, 503);
        assert!(!gates.are_open());

        let (status, kind, page) = get(&base, "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, CONTENT_TYPE));
        assert!(
            page.contains("role=\"test\"") && page.ends_with("# EOF\n"),
            "{page}"
        );

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
