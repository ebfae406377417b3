//! Who we are at a registry.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::registry::Options;
use crate::registry::endpoint::{Endpoint, plain_hosts};
use crate::registry::error::RegistryError;

/// Authorisations that are remembered; beyond it the memory starts anew. One per repository: a
/// cluster of thousands of nodes has hundreds.
const KNOWN_MAX: usize = 4096;

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
    /// To connect, and of silence.
    timeouts: (Duration, Duration),
    client: OnceLock<Client>,
    keychain: Keychain,
    known: Mutex<HashMap<(String, String), HeaderValue>>,
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
            timeouts: (options.connect_timeout, options.idle_timeout),
            client: OnceLock::new(),
            keychain: options.keychain.clone(),
            known: Mutex::default(),
        }
    }

    /// Made when the first registry asks who we are: it reads all root certificates, twice, which is 20 of
    /// the 90 ms that an agent takes to start.
    fn client(&self) -> Result<&Client, RegistryError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let (connect, idle) = self.timeouts;
        let client = Client::try_from(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(self.plain_hosts.clone()),
            connect_timeout: Some(connect),
            read_timeout: Some(idle),
            ..ClientConfig::default()
        });
        let client = client.map_err(|e| RegistryError::Setup(e.to_string()))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The header that worked last.
    pub(super) fn known(&self, endpoint: &Endpoint, repository: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(endpoint, repository)).cloned()
    }

    /// Answers the registry's challenge: a token for this repository, or the password itself.
    pub(super) async fn renew(
        &self,
        endpoint: &Endpoint,
        repository: &str,
    ) -> Result<HeaderValue, RegistryError> {
        let auth = self.keychain.find(&endpoint.host);
        let host = endpoint.host.clone();
        let reference = Reference::with_tag(host, repository.to_owned(), "latest".to_owned());
        let asked = self
            .client()?
            .auth(&reference, &auth, RegistryOperation::Pull);
        let token = asked.await.map_err(|e| refusal(endpoint, &e))?;
        let text = match (token, auth) {
            (Some(token), _) | (None, RegistryAuth::Bearer(token)) => format!("Bearer {token}"),
            (None, RegistryAuth::Basic(user, password)) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            (None, RegistryAuth::Anonymous) => {
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
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", self.keychain)
    }
}

fn refusal(endpoint: &Endpoint, error: &OciDistributionError) -> RegistryError {
    match error {
        OciDistributionError::RequestError(e) => RegistryError::request(e),
        other => RegistryError::Denied(format!("{}: {other}", endpoint.host)),
    }
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

    #[test]
    fn a_broken_entry_is_named() {
        let error = Keychain::from_docker_config(r#"{"auths": {"quay.io": {"auth": "!"}}}"#);
        assert!(error.unwrap_err().to_string().contains("quay.io"));
    }
}
