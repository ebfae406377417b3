//! Whom to ask for an image, in which order.

use std::net::IpAddr;

use oci_client::Reference;
use reqwest::Url;

use crate::domain::image::ImageRef;
use crate::registry::Options;
use crate::registry::error::RegistryError;

/// One server that may have an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// URL without a trailing slash; `/v2/...` is appended.
    pub(super) base: String,
    /// `host[:port]`, the key of credentials.
    pub(super) host: String,
    /// For mirrors: which registry is meant.
    pub(super) ns: Option<String>,
    /// `cache` or `origin`.
    pub(super) from: &'static str,
}

impl Endpoint {
    /// URL of a manifest or blob.
    pub(super) fn url(&self, image: &ImageRef, kind: &str, reference: &str) -> String {
        let base = &self.base;
        let repository = image.repository();
        let ns = self
            .ns
            .as_ref()
            .map_or(String::new(), |ns| format!("?ns={ns}"));
        format!("{base}/v2/{repository}/{kind}/{reference}{ns}")
    }
}

/// Refuses base URLs that no request can be made of.
pub(super) fn check(options: &Options) -> Result<(), RegistryError> {
    for base in options.mirrors.iter().chain(options.origins.values()) {
        let usable = Url::parse(base).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.query().is_none()
        });
        if !usable {
            return Err(RegistryError::Setup(format!(
                "`{base}` is no base URL of a registry: write http(s)://host[:port]"
            )));
        }
    }
    Ok(())
}

/// Mirrors first, then the origin; without those that sent wrong bytes.
pub(super) fn order(options: &Options, image: &ImageRef, avoid: &[String]) -> Vec<Endpoint> {
    let registry = image.registry();
    let mirrors = options.mirrors.iter().map(|base| Endpoint {
        base: trimmed(base),
        host: host_of(base),
        ns: Some(registry.to_owned()),
        from: "cache",
    });
    let origin = options.use_origins.then(|| {
        let base = options
            .origins
            .get(registry)
            .map_or_else(|| default_base(options, registry), |base| trimmed(base));
        Endpoint {
            host: host_of(&base),
            base,
            ns: None,
            from: "origin",
        }
    });
    mirrors
        .chain(origin)
        .filter(|endpoint| !avoid.contains(&endpoint.base))
        .collect()
}

/// Hosts of all endpoints that are spoken to without TLS.
pub(super) fn plain_hosts(options: &Options) -> Vec<String> {
    let bases = options.mirrors.iter().chain(options.origins.values());
    let plain = bases.filter(|base| base.starts_with("http://"));
    plain
        .map(|base| host_of(base))
        .chain(options.plain_http.iter().cloned())
        .collect()
}

fn default_base(options: &Options, registry: &str) -> String {
    let plain = is_loopback(registry) || options.plain_http.iter().any(|host| host == registry);
    let scheme = if plain { "http" } else { "https" };
    // `docker.io` is a name; the library knows the host that serves it.
    let named = Reference::with_tag(registry.to_owned(), "x".to_owned(), "x".to_owned());
    format!("{scheme}://{}", named.resolve_registry())
}

/// A registry on this machine is spoken to without TLS, as containerd and Docker do (containerd,
/// docs/hosts.md: "localhost" and 127.0.0.1 default to HTTP).
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn trimmed(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}

fn host_of(base: &str) -> String {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_are_told_the_registry() {
        let options = Options {
            mirrors: vec!["http://cache:5000/".into()],
            ..Options::default()
        };
        let image: ImageRef = "nginx:1".parse().unwrap();
        let found = order(&options, &image, &[]);
        let urls: Vec<_> = found
            .iter()
            .map(|e| e.url(&image, "manifests", "1"))
            .collect();
        assert_eq!(
            urls,
            [
                "http://cache:5000/v2/library/nginx/manifests/1?ns=docker.io",
                "https://index.docker.io/v2/library/nginx/manifests/1"
            ]
        );
        let rest = order(&options, &image, &["http://cache:5000".into()]);
        assert_eq!(rest, found[1..]);
    }

    #[test]
    fn a_registry_on_this_machine_needs_no_tls() {
        for (registry, scheme) in [
            ("localhost:5000", "http"),
            ("127.0.0.1:5000", "http"),
            ("[::1]:5000", "http"),
            ("127.0.0.1.example.com", "https"),
            ("quay.io", "https"),
        ] {
            let base = default_base(&Options::default(), registry);
            assert!(base.starts_with(&format!("{scheme}://")), "{base}");
        }
    }

    #[test]
    fn a_base_that_is_no_url_is_refused_with_the_right_form() {
        for bad in ["cache:5000", "ftp://x", "http://", "http://a/?ns=b"] {
            let options = Options {
                mirrors: vec![bad.into()],
                ..Options::default()
            };
            let error = check(&options).unwrap_err().to_string();
            assert!(error.contains("http(s)://host"), "{error}");
        }
    }
}
