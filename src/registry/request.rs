//! One request to one endpoint, authorised, its status turned into an error.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};

use crate::domain::image::ImageRef;
use crate::registry::Options;
use crate::registry::auth::Authority;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{RegistryError, chain};

/// Connections kept to one host: an agent's concurrency with room for manifests.
const IDLE_PER_HOST: usize = 16;

/// Characters of an error body that are repeated.
const QUOTE: usize = 200;

/// Sends requests, answers challenges.
#[derive(Debug)]
pub(super) struct Requests {
    client: Client,
    authority: Authority,
}

/// What to ask for.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) image: &'a ImageRef,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
}

impl Requests {
    pub(super) fn new(options: &Options) -> Result<Self, RegistryError> {
        let builder = Client::builder()
            .user_agent(concat!("forelay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.idle_timeout)
            .pool_idle_timeout(Duration::from_mins(1))
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .tcp_nodelay(true);
        let builder = if options.system_proxy {
            builder
        } else {
            builder.no_proxy()
        };
        let client = builder.build();
        Ok(Self {
            client: client.map_err(|e| RegistryError::Setup(chain(&e)))?,
            authority: Authority::new(options),
        })
    }

    /// The same connections for somebody with other credentials.
    pub(super) fn beside(&self, options: &Options) -> Self {
        Self {
            client: self.client.clone(),
            authority: Authority::new(options),
        }
    }

    /// The answer to a request, whatever status within 2xx or 416 it has.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        ask: Ask<'_>,
    ) -> Result<Response, RegistryError> {
        let repository = ask.image.repository();
        let known = self.authority.known(endpoint, repository);
        let answer = self.once(&ask, known).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return checked(answer, &ask.url).await;
        }
        let challenged = answer.headers();
        let renewed = self
            .authority
            .renew(&self.client, endpoint, repository, challenged);
        let renewed = renewed.await?;
        let answer = self.once(&ask, Some(renewed)).await?;
        checked(answer, &ask.url).await
    }

    /// The answer to one request with this header, whatever its status.
    pub(super) async fn once(
        &self,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut request = self
            .client
            .request(ask.method.clone(), &ask.url)
            .headers(ask.headers.clone())
            // Digests and ranges are of the bytes as stored, never of a transport encoding.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(|e| RegistryError::request(&e))
    }
}

/// The answer, unless its status is an error's.
pub(super) async fn checked(answer: Response, url: &str) -> Result<Response, RegistryError> {
    let status = answer.status();
    if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(answer);
    }
    let after = retry_after(answer.headers());
    let said = quote(answer).await;
    let reason = format!("{url}: {status}{said}");
    Err(match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => RegistryError::NotFound(url.to_owned()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied(reason),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            RegistryError::busy(reason, after)
        }
        s if s.is_server_error() => RegistryError::busy(reason, after),
        _ => RegistryError::Broken(reason),
    })
}

/// The first words of an error's body, without waiting for a long one.
async fn quote(mut answer: Response) -> String {
    let Ok(Some(chunk)) = answer.chunk().await else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&chunk);
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!(": {}", words.chars().take(QUOTE).collect::<String>())
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}
