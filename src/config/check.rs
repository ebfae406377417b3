//! From raw sections to checked ones; what is wrong is reported and stands in by a default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use tracing_subscriber::filter::Targets;

use crate::config::model;
use crate::config::raw::{RawExpander, RawKafka, RawMirror, RawPrometheus, RawQuery};
use crate::config::read::Read;
use crate::config::unit::List;
use crate::config::{
    Agent, Cache, Common, Controller, Expander, Kafka, Kubernetes, Mirror, Prometheus, Query,
    RuntimeKind,
};
use crate::forecast::model::Model;
use crate::plan::policy::Pattern;

pub(crate) fn common(read: &mut Read) -> Common {
    let raw = read.raw.clone();
    if let Err(e) = raw.log.level.parse::<Targets>() {
        read.report(
            "log.level",
            e.to_string(),
            "for example log.level = \"info,forelay=debug\"",
        );
    }
    let shutdown_deadline = raw.shutdown.deadline.0;
    positive(read, "shutdown.deadline", shutdown_deadline);
    Common {
        log_format: raw.log.format,
        log_level: raw.log.level,
        shutdown_deadline,
    }
}

pub(crate) fn controller(read: &mut Read) -> Controller {
    let raw = read.raw.controller.clone();
    for (key, name) in [
        ("controller.namespace", &raw.namespace),
        ("controller.lease.name", &raw.lease.name),
        ("controller.state.name", &raw.state.name),
    ] {
        object_name(read, key, name);
    }
    positive(read, "controller.step_interval", raw.step_interval.0);
    positive(
        read,
        "controller.state.save_interval",
        raw.state.save_interval.0,
    );
    let lease = raw.lease.duration.0;
    if lease < Duration::from_secs(3) || lease.subsec_nanos() != 0 {
        // A Lease counts whole seconds, and a leader renews at a third of them.
        let message = "a lease lasts whole seconds, at least 3";
        read.report(
            "controller.lease.duration",
            message,
            "15s is what Kubernetes itself uses",
        );
    }
    let caches = base_urls(read, "controller.caches", &raw.caches);
    let model = raw.model.as_deref().map_or_else(Model::default, |path| {
        model::read(path).unwrap_or_else(|error| {
            let message = format!("{}: {error}", path.display());
            let mend = "a file like models/default.toml, or leave the key out";
            read.report("controller.model", message, mend);
            Model::default()
        })
    });
    Controller {
        kubernetes: kubernetes(read),
        namespace: raw.namespace,
        identity: raw.identity.filter(|identity| !identity.is_empty()),
        listen: address(read, "controller.listen", &raw.listen),
        step_interval: raw.step_interval.0,
        pool_labels: pool_labels(read, "controller.pool_labels", raw.pool_labels.0),
        model,
        model_file: raw.model,
        caches,
        origins: url_table(read, "controller.origins", raw.origins.0),
        lease_name: raw.lease.name,
        lease_duration: lease,
        lease_follow: lease_follow(read, raw.lease.follow),
        state_name: raw.state.name,
        state_save_interval: raw.state.save_interval.0,
        kafka: kafka(read, raw.kafka),
        prometheus: prometheus(read, raw.prometheus),
        expander: expander(read, raw.expander),
    }
}

pub(crate) fn agent(read: &mut Read) -> Agent {
    let raw = read.raw.agent.clone();
    let node_name = raw.node_name.unwrap_or_default();
    if node_name.is_empty() {
        let mend = "set NODE_NAME from the downward API (fieldRef spec.nodeName)";
        read.report("agent.node_name", "an agent must know its node", mend);
    } else {
        object_name(read, "agent.node_name", &node_name);
    }
    if raw.concurrency.0 == 0 {
        read.report(
            "agent.concurrency",
            "nothing would ever be fetched",
            "at least 1",
        );
    }
    if raw.blobs && matches!(raw.runtime, RuntimeKind::Cri | RuntimeKind::Layout) {
        let message = "only containerd has a store beside what is unpacked";
        let mend = "agent.runtime = \"containerd\" or \"auto\", or agent.blobs = false";
        read.report("agent.blobs", message, mend);
    }
    let caches = base_urls(read, "agent.caches", &raw.caches);
    if raw.caches.0.is_empty() && !raw.origin_fallback {
        let mend = "name a cache in agent.caches, or set agent.origin_fallback = true";
        read.report(
            "agent.origin_fallback",
            "there is nowhere to fetch from",
            mend,
        );
    }
    Agent {
        kubernetes: kubernetes(read),
        node_name,
        pool_labels: pool_labels(read, "agent.pool_labels", raw.pool_labels.0),
        runtime: raw.runtime,
        containerd: raw.containerd,
        cri: raw.cri,
        state: raw.state,
        staging: raw.staging,
        sync: raw.sync,
        blobs: raw.blobs,
        unrecorded: raw.unrecorded.0.into_iter().map(Pattern::new).collect(),
        pin: raw.pin,
        recheck: raw.recheck.0,
        credentials: raw.credentials,
        layout: raw.layout,
        caches,
        origin_fallback: raw.origin_fallback,
        origins: url_table(read, "agent.origins", raw.origins.0),
        concurrency: raw.concurrency.0 as usize,
        bandwidth_limit: raw.bandwidth_limit.map(|rate| rate.0),
        disk_budget: raw.disk_budget.0,
        linger: raw.linger.0,
        listen: address(read, "agent.listen", &raw.listen),
        mirror: mirror(read, raw.mirror, raw.origin_fallback),
    }
}

/// Tokens pass there in clear: it is nothing for a network.
fn mirror(read: &mut Read, raw: RawMirror, origins: bool) -> Mirror {
    let listen = address(read, "agent.mirror.listen", &raw.listen);
    if !listen.ip().is_loopback() {
        let message = format!("{listen} is no address of loopback");
        read.report("agent.mirror.listen", message, "for example 127.0.0.1:9467");
    }
    Mirror {
        enabled: raw.enabled && origins,
        listen,
        config_path: raw.config_path,
        fresh: raw.fresh.0,
    }
}

pub(crate) fn cache(read: &mut Read) -> Cache {
    let raw = read.raw.cache.clone();
    if raw.upstreams.0.is_empty() {
        let mend = "for example cache.upstreams = {\"quay.io\" = \"https://quay.io\"}";
        read.report(
            "cache.upstreams",
            "a cache without upstreams answers nothing",
            mend,
        );
    }
    if raw.max_bytes.0.0 == 0 {
        read.report(
            "cache.max_bytes",
            "nothing could be kept",
            "for example 100GiB",
        );
    }
    positive(read, "cache.request_timeout", raw.request_timeout.0);
    Cache {
        listen: address(read, "cache.listen", &raw.listen),
        admin_listen: address(read, "cache.admin_listen", &raw.admin_listen),
        directory: raw.directory,
        upstreams: url_table(read, "cache.upstreams", raw.upstreams.0),
        max_bytes: raw.max_bytes.0,
        request_timeout: raw.request_timeout.0,
    }
}

fn kubernetes(read: &mut Read) -> Kubernetes {
    let raw = read.raw.kubernetes.clone();
    if let Some(path) = raw.kubeconfig.as_deref().filter(|path| !path.is_file()) {
        let message = format!("{} is no file", path.display());
        let mend = "the path of a kubeconfig, or leave the key out in a cluster";
        read.report("kubernetes.kubeconfig", message, mend);
    }
    Kubernetes {
        kubeconfig: raw.kubeconfig,
        context: raw.context,
    }
}

fn lease_follow(read: &mut Read, text: Option<String>) -> Option<(String, String)> {
    const KEY: &str = "controller.lease.follow";
    let text = text.filter(|text| !text.is_empty())?;
    let Some((namespace, name)) = text.split_once('/') else {
        let mend = "for example kube-system/cluster-autoscaler";
        read.report(KEY, format!("`{text}` is not `namespace/name`"), mend);
        return None;
    };
    object_name(read, KEY, namespace);
    object_name(read, KEY, name);
    Some((namespace.to_owned(), name.to_owned()))
}

fn kafka(read: &mut Read, raw: RawKafka) -> Option<Kafka> {
    if raw.brokers.0.is_empty() {
        return None;
    }
    for broker in &raw.brokers.0 {
        let sound = broker
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !sound {
            let message = format!("`{broker}` is not `host:port`");
            read.report(
                "controller.kafka.brokers",
                message,
                "for example kafka-0.kafka:9092",
            );
        }
    }
    if raw.topics.0.is_empty() {
        let message = "there are brokers, but no topic to read";
        read.report(
            "controller.kafka.topics",
            message,
            "for example [\"forelay-signals\"]",
        );
    }
    Some(Kafka {
        brokers: raw.brokers.0,
        topics: raw.topics.0,
        group_prefix: raw.group_prefix,
        history: raw.history.0,
        security: raw.security,
    })
}

/// Files that are not there yet are no mistake: in a sidecar they are written while we start.
fn expander(read: &mut Read, raw: RawExpander) -> Option<Expander> {
    let listen = address(read, "controller.expander.listen", &raw.listen?);
    let mut needed = |key, path: Option<PathBuf>| {
        path.unwrap_or_else(|| {
            let mend = "a PEM file: cluster-autoscaler calls over TLS only";
            read.report(key, "the expander needs it", mend);
            PathBuf::new()
        })
    };
    Some(Expander {
        listen,
        certificate: needed("controller.expander.certificate", raw.certificate),
        key: needed("controller.expander.key", raw.key),
    })
}

fn prometheus(read: &mut Read, raw: RawPrometheus) -> Option<Prometheus> {
    const QUERIES: &str = "controller.prometheus.queries";
    let Some(url) = raw.url else {
        if !raw.queries.is_empty() {
            let mend = "set controller.prometheus.url";
            read.report(QUERIES, "there are queries, but no Prometheus to ask", mend);
        }
        return None;
    };
    positive(read, "controller.prometheus.timeout", raw.timeout.0);
    positive(read, "controller.prometheus.interval", raw.interval.0);
    if raw.timeout.0 >= raw.interval.0 && !raw.interval.0.is_zero() {
        let mend = format!(
            "below controller.prometheus.interval, which is {}",
            raw.interval
        );
        read.report(
            "controller.prometheus.timeout",
            "queries would pile up",
            mend,
        );
    }
    let mut names = BTreeSet::new();
    for query in &raw.queries {
        if !names.insert(query.name.clone()) {
            let message = format!("the name `{}` is used twice", query.name);
            read.report(QUERIES, message, "every series has a name of its own");
        }
    }
    let queries = raw
        .queries
        .into_iter()
        .map(|raw| query(read, QUERIES, raw))
        .collect();
    Some(Prometheus {
        url: base_url(read, "controller.prometheus.url", &url),
        interval: raw.interval.0,
        timeout: raw.timeout.0,
        queries,
    })
}

fn query(read: &mut Read, key: &str, raw: RawQuery) -> Query {
    let workload = raw.workload.and_then(|text| {
        let workload = text.parse().ok();
        if workload.is_none() {
            let message = format!("query `{}`: `{text}` is not a workload", raw.name);
            let mend = "Kind/namespace/name, for example Deployment/shop/checkout";
            read.report(key, message, mend);
        }
        workload
    });
    if raw.name.is_empty() || raw.query.is_empty() {
        let message = format!("query `{}`: it has no name, or asks nothing", raw.name);
        read.report(key, message, "give it both `name` and `query`");
    }
    Query {
        name: raw.name,
        query: raw.query,
        workload,
    }
}

fn positive(read: &mut Read, key: &str, span: Duration) {
    if span.is_zero() {
        read.report(key, "must be longer than nothing", "for example 15s");
    }
}

fn address(read: &mut Read, key: &str, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        let mend = "for example 0.0.0.0:9464, [::]:9464 or 127.0.0.1:0";
        read.report(key, format!("`{text}` is not an address and a port"), mend);
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    })
}

fn base_urls(read: &mut Read, key: &str, texts: &List) -> Vec<String> {
    let urls = texts.0.iter().map(|text| base_url(read, key, text));
    urls.collect()
}

fn base_url(read: &mut Read, key: &str, text: &str) -> String {
    let sound = Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if !sound {
        let message = format!("`{text}` is not an http or https URL of a host");
        read.report(
            key,
            message,
            "for example http://forelay-cache.forelay:5000",
        );
    }
    text.trim_end_matches('/').to_owned()
}

fn url_table(
    read: &mut Read,
    key: &str,
    table: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let sound = table.into_iter().map(|(name, url)| {
        // A table in a file has one origin per entry, one in a variable has one for all.
        let quoted = if name.contains('.') {
            format!("\"{name}\"")
        } else {
            name.clone()
        };
        let entry = format!("{key}.{quoted}");
        let key = if read.holds(&entry) {
            entry
        } else {
            key.to_owned()
        };
        let url = base_url(read, &key, &url);
        (name, url)
    });
    sound.collect()
}

fn pool_labels(read: &mut Read, key: &str, labels: Vec<String>) -> Vec<String> {
    if labels.is_empty() {
        let mend = "for example [\"karpenter.sh/nodepool\"]; leave it out for the usual ones";
        read.report(key, "no node would belong to a pool", mend);
    }
    labels
}

/// Names of objects are DNS subdomains (RFC 1123): the API server would refuse others, later.
fn object_name(read: &mut Read, key: &str, name: &str) {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let sound = name.len() <= 253
        && name.starts_with(word)
        && name.ends_with(word)
        && name.chars().all(|c| word(c) || c == '-' || c == '.');
    if !sound {
        let mend = "lower-case letters, digits, `-` and `.`, beginning and ending with a letter \
                    or digit, at most 253";
        read.report(
            key,
            format!("`{name}` is not the name of a Kubernetes object"),
            mend,
        );
    }
}
