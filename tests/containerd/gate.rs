//! A gate before a registry: only who has a token, or the password, gets through.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::registry::client;

pub const USER: (&str, &str) = ("user", "secret");

/// `user:secret`, as it is sent.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
const TOKEN: &str = "Bearer a-token-of-user";

/// What the gate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Bearer,
    Basic,
}

/// The gate; ends when dropped.
pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    target: SocketAddr,
    address: SocketAddr,
    scheme: Scheme,
    passed: Mutex<Vec<String>>,
}

impl Gate {
    pub async fn start(target: SocketAddr, scheme: Scheme) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            address,
            scheme,
            passed: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(shared.clone());
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = ended => {}
            }
        });
        Self {
            address,
            shared,
            _end: end.drop_guard(),
        }
    }

    /// What was let through so far: `GET /v2/..`.
    pub fn passed(&self) -> Vec<String> {
        self.shared.passed.lock().unwrap().clone()
    }
}

async fn pass(State(gate): State<Arc<Shared>>, request: Request) -> Response {
    let shown = request.headers().get("authorization");
    let shown = shown.map_or("", |value| value.to_str().unwrap());
    let (wanted, challenge) = match gate.scheme {
        Scheme::Basic => (BASIC, "Basic realm=\"test\"".to_owned()),
        Scheme::Bearer => {
            let realm = format!("http://{}/token", gate.address);
            (TOKEN, format!("Bearer realm=\"{realm}\",service=\"test\""))
        }
    };
    let refused = Response::builder().status(401);
    if request.uri().path() == "/token" {
        if shown != BASIC {
            return refused.body(Body::empty()).unwrap();
        }
        let token = json!({"token": TOKEN.trim_start_matches("Bearer ")});
        return Response::new(Body::from(token.to_string()));
    }
    if shown != wanted {
        let refused = refused.header("www-authenticate", challenge);
        return refused.body(Body::empty()).unwrap();
    }
    let line = format!("{} {}", request.method(), request.uri());
    gate.passed.lock().unwrap().push(line);
    let url = format!("http://{}{}", gate.target, request.uri());
    let mut headers = request.headers().clone();
    headers.remove("authorization");
    headers.remove("host");
    let asked = client().request(request.method().clone(), url);
    let answer = asked.headers(headers).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    *response.headers_mut().unwrap() = answer.headers().clone();
    response
        .body(Body::from_stream(answer.bytes_stream()))
        .unwrap()
}
