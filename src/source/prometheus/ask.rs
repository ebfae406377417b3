//! One question to Prometheus, with bounds on time and bytes.

use std::time::Duration;

use prometheus_http_query::response::Data;
use prometheus_http_query::{Client, Error};
use reqwest::Response;
use serde::Deserialize;
use tokio::time::timeout;

use crate::source::prometheus::grid::Window;

/// Bytes of one answer: 720 instants take about 20 KiB per series, so this is 800 series too many.
const ANSWER: usize = 16 << 20;

/// Asks one Prometheus.
pub(super) struct Asker {
    client: Client,
    timeout: Duration,
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody there, or the connection broke.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// Prometheus refuses, in its own words.
    #[error("refused ({kind}): {words}")]
    Refused {
        /// `bad_data`, `timeout`, ...
        kind: String,
        /// its message
        words: String,
    },
    /// Not an answer of Prometheus.
    #[error("HTTP {status}: {problem}")]
    Foreign {
        /// status code
        status: u16,
        /// what is wrong
        problem: String,
    },
}

/// The envelope of every answer.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: Data,
    },
    Error {
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

impl Asker {
    /// A client of its own. Proxies of the environment are for the outside world, and a Prometheus
    /// that load is read from is inside.
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(timeout)
            .build()
            .map_err(|e| e.to_string())?;
        let client = Client::from(http, url).map_err(|e| e.to_string())?;
        Ok(Self { client, timeout })
    }

    /// The values of a query at the instants of a window.
    pub(super) async fn ask(&self, query: &str, window: Window) -> Result<Data, AskError> {
        match timeout(self.timeout, self.exchange(query, window)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Slow(self.timeout)),
        }
    }

    /// Prometheus is told the limit too, so that it gives up with us.
    async fn exchange(&self, query: &str, window: Window) -> Result<Data, AskError> {
        let Window { start, end, step } = window;
        let limit = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        let response = if start == end {
            let question = self.client.query(query).at(start).timeout(limit);
            question.post_raw().await
        } else {
            let question = self.client.query_range(query, start, end, step as f64);
            question.timeout(limit).post_raw().await
        };
        let response = response.map_err(|e| AskError::Unreachable(words(&e)))?;
        let status = response.status().as_u16();
        let foreign = |problem: String| AskError::Foreign { status, problem };
        let body = body(response).await?;
        match serde_json::from_slice(&body) {
            Ok(Answer::Success { data }) => Ok(data),
            Ok(Answer::Error { kind, error }) => Err(AskError::Refused { kind, words: error }),
            Err(e) => Err(foreign(format!("not an answer of Prometheus: {e}"))),
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, AskError> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER => body.extend(chunk),
            Ok(Some(_)) => {
                let problem = format!("more than {ANSWER} bytes: make the query give one series");
                return Err(AskError::Foreign { status, problem });
            }
            Err(e) => return Err(AskError::Unreachable(chain(&e))),
        }
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Client(client) => {
            std::error::Error::source(client).map_or_else(|| client.to_string(), chain)
        }
        other => other.to_string(),
    }
}

/// An error with its causes: reqwest's own text ends before the interesting part.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
