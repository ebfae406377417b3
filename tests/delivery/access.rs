//! A registry that asks who is there, the way Docker Hub does.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that waits asks the clock itself"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use forelay::domain::image::ImageRef;
use forelay::port::{ImageResolver, ResolveError};
use forelay::registry::{Keychain, Options, Registry};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::upstream::{Pushed, Upstream, client};

/// `user:secret` in base64.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// How the gate wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Basic,
}

/// A gate before a registry: lets requests with the right header through, gives out tokens.
struct Gate {
    target: SocketAddr,
    address: SocketAddr,
    scheme: Scheme,
    /// Tokens given out; only the last one is good, as after an expiry.
    tokens: Mutex<u32>,
    /// Questions for a token that are answered by 429 or 503 first.
    busy: Mutex<Vec<u16>>,
}

struct Running {
    gate: Arc<Gate>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(target: SocketAddr, scheme: Scheme) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Arc::new(Gate {
            target,
            address: listener.local_addr().unwrap(),
            scheme,
            tokens: Mutex::new(0),
            busy: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(gate.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { gate, serving }
    }

    fn image(&self) -> ImageRef {
        format!("{}/team/web:1", self.gate.address).parse().unwrap()
    }

    fn registry(&self, password: Option<&str>) -> Registry {
        let host = self.gate.address.to_string();
        let mut keychain = Keychain::default();
        if let Some(password) = password {
            keychain.add(&host, "user", password);
        }
        let options = Options {
            plain_http: vec![host],
            keychain,
            system_proxy: false,
            ..Options::default()
        };
        Registry::new(options).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Gate {
    fn refusal(&self) -> Response {
        let challenge = match self.scheme {
            Scheme::Bearer => {
                format!(
                    "Bearer realm=\"http://{}/token\",service=\"test\"",
                    self.address
                )
            }
            Scheme::Basic => "Basic realm=\"test\"".to_owned(),
        };
        let refused = Response::builder().status(401);
        refused
            .header("www-authenticate", challenge)
            .body(Body::empty())
            .unwrap()
    }

    fn is_open_to(&self, header: &str) -> bool {
        match self.scheme {
            Scheme::Bearer => header == format!("Bearer token-{}", self.tokens.lock().unwrap()),
            Scheme::Basic => header == BASIC,
        }
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let header = request.headers().get("authorization");
    let header = header.map_or("", |value| value.to_str().unwrap());
    if request.uri().path() == "/token" {
        if let Some(status) = gate.busy.lock().unwrap().pop() {
            let busy = Response::builder()
                .status(status)
                .header("retry-after", "1");
            return busy.body(Body::empty()).unwrap();
        }
        if header != BASIC {
            return gate.refusal();
        }
        let mut tokens = gate.tokens.lock().unwrap();
        *tokens += 1;
        let token = json!({"token": format!("token-{tokens}")});
        return Response::new(Body::from(token.to_string()));
    }
    if !gate.is_open_to(header) {
        return gate.refusal();
    }
    let url = format!("http://{}{}", gate.target, request.uri());
    let answer = client().request(request.method().clone(), url);
    let answer = answer.headers(accept(&request)).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    *response.headers_mut().unwrap() = answer.headers().clone();
    response
        .body(Body::from_stream(answer.bytes_stream()))
        .unwrap()
}

fn accept(request: &Request) -> axum::http::HeaderMap {
    let accepted = request.headers().get("accept").cloned();
    accepted
        .map(|value| (axum::http::header::ACCEPT, value))
        .into_iter()
        .collect()
}

async fn pushed(origin: &Upstream) -> Pushed {
    origin
        .push(&"x.test/team/web:1".parse().unwrap(), &[(1, 1000)])
        .await
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_is_refused() {
    let origin = Upstream::start();
    let pushed = pushed(&origin).await;
    let gate = Running::start(origin.address, Scheme::Bearer).await;
    let registry = gate.registry(Some("secret"));
    for tokens in [1, 1] {
        let found = registry.resolve(&gate.image()).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&pushed.manifest));
        assert_eq!(*gate.gate.tokens.lock().unwrap(), tokens);
    }
    // All tokens given out so far expire.
    *gate.gate.tokens.lock().unwrap() += 1;
    registry.resolve(&gate.image()).await.unwrap();
    assert_eq!(*gate.gate.tokens.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_password_is_sent_where_the_registry_wants_it() {
    let origin = Upstream::start();
    let pushed = pushed(&origin).await;
    let gate = Running::start(origin.address, Scheme::Basic).await;
    let found = gate
        .registry(Some("secret"))
        .resolve(&gate.image())
        .await
        .unwrap();
    assert_eq!(found, [pushed.manifest]);
}

#[tokio::test]
async fn no_credentials_or_wrong_ones_are_a_denial_that_names_the_registry() {
    let origin = Upstream::start();
    for scheme in [Scheme::Bearer, Scheme::Basic] {
        let gate = Running::start(origin.address, scheme).await;
        for password in [None, Some("wrong")] {
            let error = gate
                .registry(password)
                .resolve(&gate.image())
                .await
                .unwrap_err();
            let denied = matches!(error, ResolveError::Denied { .. });
            assert!(denied, "{scheme:?} {password:?}: {error}");
            assert!(
                error.to_string().contains(&gate.gate.address.to_string()),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_server_that_has_too_much_to_do_is_asked_again_and_denies_nothing() {
    let origin = Upstream::start();
    let pushed = pushed(&origin).await;
    let gate = Running::start(origin.address, Scheme::Bearer).await;
    let registry = gate.registry(Some("secret"));
    *gate.gate.busy.lock().unwrap() = vec![429, 503];
    let begun = Instant::now();
    let found = registry.resolve(&gate.image()).await.unwrap();
    assert_eq!(found, [pushed.manifest]);
    // As it asked for, twice.
    assert!(begun.elapsed() >= Duration::from_secs(2));
    *gate.gate.tokens.lock().unwrap() += 1;
    *gate.gate.busy.lock().unwrap() = vec![429; 100];
    let error = registry.resolve(&gate.image()).await.unwrap_err();
    let passes = matches!(error, ResolveError::Unavailable { .. });
    assert!(passes && error.to_string().contains("429"), "{error}");
}

#[tokio::test]
async fn a_registry_on_this_machine_is_asked_for_tokens_in_clear_without_being_told() {
    let origin = Upstream::start();
    let pushed = pushed(&origin).await;
    let gate = Running::start(origin.address, Scheme::Bearer).await;
    let mut keychain = Keychain::default();
    keychain.add(&gate.gate.address.to_string(), "user", "secret");
    let registry = Registry::new(Options {
        keychain,
        system_proxy: false,
        ..Options::default()
    });
    let found = registry.unwrap().resolve(&gate.image()).await.unwrap();
    assert_eq!(found, [pushed.manifest]);
}
