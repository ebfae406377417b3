//! Who we are at a registry.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::parser::ChallengeParser;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::registry::Options;
use crate::registry::endpoint::{Endpoint, plain_hosts};
use crate::registry::error::RegistryError;
use crate::registry::request::checked;

/// Authorisations that are remembered; beyond it the memory starts anew. One per repository: a
/// cluster of thousands of nodes has hundreds.
const KNOWN_MAX: usize = 4096;

/// Longest answer of a token server: tokens are some kilobytes.
const TOKEN_MAX: usize = 64 << 10;

/// Credentials by `host[:port]`.
#[derive(Clone, Default)]
pub struct Keychain {
    by_host: BTreeMap<String, RegistryAuth>,
}

/// A Docker configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeychainError {
    /// Not JSON of that form.
    #[error("no Docker configuration: {0}")]
    Form(String),
    /// One entry of `auths` is broken.
    #[error("auths of {host}: `auth` is not base64 of user:password")]
    Auth {
        /// whose entry
        host: String,
    },
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "registrytoken")]
    token: String,
}

/// Asks for tokens and remembers them until they are refused.
pub(super) struct Authority {
    plain_hosts: Vec<String>,
    keychain: Keychain,
    known: Mutex<HashMap<(String, String), HeaderValue>>,
}

/// Where a registry sends those whom it does not know (RFC 6750; distribution, "Token Authentication
/// Specification").
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

/// A token server's answer: one of the two, as that specification has it.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

// === impl Keychain ===

impl Keychain {
    /// Reads the `auths` of a `config.json` or of a pull secret's `.dockerconfigjson`.
    ///
    /// # Errors
    /// When the text has another form or an entry is broken. Credential helpers are not run.
    pub fn from_docker_config(text: &str) -> Result<Self, KeychainError> {
        let config: DockerConfig =
            serde_json::from_str(text).map_err(|e| KeychainError::Form(e.to_string()))?;
        let mut keychain = Self::default();
        for (name, entry) in config.auths {
            let host = host_key(&name);
            let auth = entry.read().ok_or(KeychainError::Auth { host: name })?;
            keychain.by_host.insert(host, auth);
        }
        Ok(keychain)
    }

    /// Adds a user and password for `host[:port]`.
    pub fn add(&mut self, host: &str, user: &str, password: &str) {
        let auth = RegistryAuth::Basic(user.to_owned(), password.to_owned());
        self.by_host.insert(host_key(host), auth);
    }

    fn find(&self, host: &str) -> RegistryAuth {
        let found = self.by_host.get(&host_key(host));
        found.cloned().unwrap_or(RegistryAuth::Anonymous)
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_host.keys()).finish()
    }
}

impl DockerAuth {
    fn read(self) -> Option<RegistryAuth> {
        if !self.token.is_empty() {
            return Some(RegistryAuth::Bearer(self.token));
        }
        if !self.username.is_empty() {
            return Some(RegistryAuth::Basic(self.username, self.password));
        }
        let text = String::from_utf8(STANDARD.decode(self.auth).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(RegistryAuth::Basic(user.into(), password.into()))
    }
}

// === impl Authority ===

impl Authority {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            plain_hosts: plain_hosts(options),
            keychain: options.keychain.clone(),
            known: Mutex::default(),
        }
    }

    /// The header that worked last.
    pub(super) fn known(&self, endpoint: &Endpoint, repository: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(endpoint, repository)).cloned()
    }

    /// Answers the challenge in these headers: a token for this repository, or the password itself.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] where the token server does not answer, or has too much to do;
    /// [`RegistryError::Denied`] where it refuses, or we are nobody.
    pub(super) async fn renew(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        repository: &str,
        challenged: &HeaderMap,
    ) -> Result<HeaderValue, RegistryError> {
        let auth = self.keychain.find(&endpoint.host);
        let text = match (auth, Challenge::find(challenged)) {
            (RegistryAuth::Bearer(token), _) => format!("Bearer {token}"),
            (auth, Some(challenge)) => {
                let url = self.token_url(endpoint, &challenge, repository)?;
                format!("Bearer {}", token(client, endpoint, url, &auth).await?)
            }
            (RegistryAuth::Basic(user, password), None) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            (RegistryAuth::Anonymous, None) => {
                let host = &endpoint.host;
                return Err(RegistryError::Denied(format!("{host} wants credentials")));
            }
        };
        let mut header = HeaderValue::try_from(text).map_err(|_| {
            RegistryError::Broken(format!("{}: token is no header value", endpoint.host))
        })?;
        header.set_sensitive(true);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key(endpoint, repository), header.clone());
        Ok(header)
    }

    /// In clear only where the registry itself is spoken to so, or the configuration says so of that host.
    fn token_url(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        repository: &str,
    ) -> Result<Url, RegistryError> {
        let Challenge { realm, service } = challenge;
        let host = &endpoint.host;
        let url = Url::parse(realm);
        let mut url =
            url.map_err(|e| RegistryError::Broken(format!("{host}: realm `{realm}`: {e}")))?;
        let is_fine = match url.scheme() {
            "https" => true,
            "http" => {
                endpoint.base.starts_with("http://")
                    || self
                        .plain_hosts
                        .iter()
                        .any(|plain| plain == url.authority())
            }
            _ => false,
        };
        if !is_fine {
            let reason = format!("{host} wants its tokens asked for in clear, at {realm}");
            return Err(RegistryError::Denied(reason));
        }
        let scope = format!("repository:{repository}:pull");
        url.query_pairs_mut()
            .extend_pairs(service.iter().map(|service| ("service", service)))
            .append_pair("scope", &scope);
        Ok(url)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", self.keychain)
    }
}

// === impl Challenge ===

impl Challenge {
    /// The first `Bearer` challenge with a realm.
    fn find(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let texts = texts.filter_map(|value| value.to_str().ok());
        let mut challenges = texts.flat_map(|text| ChallengeParser::new(text).flatten());
        challenges.find_map(|challenge| {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let is_bearer = challenge.scheme.eq_ignore_ascii_case("bearer");
            Some(Self {
                realm: parameter("realm").filter(|_| is_bearer)?,
                service: parameter("service"),
            })
        })
    }
}

/// Fetches a token.
async fn token(
    client: &Client,
    endpoint: &Endpoint,
    url: Url,
    auth: &RegistryAuth,
) -> Result<String, RegistryError> {
    let named = url.to_string();
    let mut request = client.get(url);
    if let RegistryAuth::Basic(user, password) = auth {
        request = request.basic_auth(user, Some(password));
    }
    let answer = request.send().await;
    let answer = answer.map_err(|e| RegistryError::request(&e))?;
    let mut answer = checked(answer, &named).await.map_err(|error| match error {
        busy @ RegistryError::Unavailable { .. } => busy,
        // Whatever it says of itself, of the image it says no.
        other => RegistryError::Denied(format!("{}: {other}", endpoint.host)),
    })?;
    let mut text = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| RegistryError::request(&e))?
    {
        text.extend_from_slice(&chunk);
        if text.len() > TOKEN_MAX {
            let reason = format!("{named}: its answer does not end");
            return Err(RegistryError::Broken(reason));
        }
    }
    let token = serde_json::from_slice::<Token>(&text).ok();
    let token = token.map(|token| {
        if token.token.is_empty() {
            token.access_token
        } else {
            token.token
        }
    });
    // Nothing of the answer is repeated: it may be a token after all.
    token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| RegistryError::Broken(format!("{named}: there is no token in its answer")))
}

fn key(endpoint: &Endpoint, repository: &str) -> (String, String) {
    (endpoint.base.clone(), repository.to_owned())
}

/// Docker writes its own registry as `https://index.docker.io/v1/`.
fn host_key(name: &str) -> String {
    let rest = name.split_once("://").map_or(name, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_configuration_gives_credentials_by_host() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "quay.io": {"username": "me", "password": "x"}}, "credsStore": "ignored"}"#;
        let keychain = Keychain::from_docker_config(text).unwrap();
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());
        assert_eq!(keychain.find("index.docker.io"), basic("user", "pa:ss"));
        assert_eq!(keychain.find("quay.io"), basic("me", "x"));
        assert_eq!(keychain.find("ghcr.io"), RegistryAuth::Anonymous);
        assert!(!format!("{keychain:?}").contains("pa:ss"));
    }

    fn challenge(texts: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(text));
        }
        Challenge::find(&headers)
    }

    #[test]
    fn the_bearer_challenge_is_found_among_others_and_only_with_a_realm() {
        let bearer = r#"bearer Realm="https://auth.test/token",service="a, b",scope="x""#;
        let found = Challenge {
            realm: "https://auth.test/token".into(),
            service: Some("a, b".into()),
        };
        assert_eq!(challenge(&["Basic realm=\"x\"", bearer]), Some(found));
        for none in ["Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer", ",,"] {
            assert_eq!(challenge(&[none]), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_asked_for_in_clear_only_of_a_registry_that_is_asked_so() {
        let url = |base: &str, realm: &str| {
            let endpoint = Endpoint {
                base: base.into(),
                host: "r.test".into(),
                ns: None,
                from: "origin",
            };
            let options = Options {
                plain_http: vec!["plain.test:5000".into()],
                ..Options::default()
            };
            let challenge = Challenge {
                realm: realm.into(),
                service: Some("s".into()),
            };
            let url = Authority::new(&options).token_url(&endpoint, &challenge, "team/web");
            url.map(|url| url.to_string())
        };
        let asked = "?service=s&scope=repository%3Ateam%2Fweb%3Apull";
        for (base, realm) in [
            ("https://r.test", "https://auth.test/token"),
            ("http://r.test", "http://auth.test/token"),
            ("https://r.test", "http://plain.test:5000/token"),
        ] {
            assert_eq!(url(base, realm).unwrap(), format!("{realm}{asked}"));
        }
        let error = url("https://r.test", "http://auth.test/token").unwrap_err();
        assert!(matches!(&error, RegistryError::Denied(why) if why.contains("in clear")));
        for realm in ["token", "file:///token"] {
            assert!(url("http://r.test", realm).is_err(), "{realm}");
        }
    }

    #[test]
    fn a_broken_entry_is_named() {
        let error = Keychain::from_docker_config(r#"{"auths": {"quay.io": {"auth": "!"}}}"#);
        assert!(error.unwrap_err().to_string().contains("quay.io"));
    }
}
