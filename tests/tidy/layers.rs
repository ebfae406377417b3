//! The layers of the code, and whether a source keeps to them.

use crate::source::{Named, Source};

/// The modules of each layer, L0 first. The table of docs/architecture.md, read by a machine.
const LAYERS: [&[&str]; 7] = [
    &["domain"],
    &["forecast"],
    &["plan"],
    &["engine", "port"],
    &[
        "source",
        "registry",
        "store",
        "runtime",
        "api",
        "config",
        "telemetry",
    ],
    &["controller", "agent", "cache", "sim", "compose", "embedded"],
    &["cli", "main", "bin"],
];

/// Open to their own layer and to everything above.
const OPEN: [&str; 2] = ["config", "telemetry"];

/// What the simulator may use of layer 4: a replay must not depend on a socket.
const SIM: [&str; 2] = ["config", "telemetry"];

/// Up to here code is pure: inputs and a time in, values out.
const PURE_MAX: usize = 3;

/// What pure code has no business with: waiting, sockets, files, threads, clocks, log lines.
const IMPURE: [&str; 17] = [
    "tokio",
    "tokio_util",
    "futures",
    "tracing",
    "kube",
    "k8s_openapi",
    "reqwest",
    "axum",
    "rdkafka",
    "oci_client",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// A use against the rules that has its reason.
pub struct Exception {
    /// Path of the module that may, and of all below it: `plan::order`.
    pub from: &'static str,
    /// What it may use: a module of ours, or an entry of `IMPURE`.
    pub to: &'static str,
    /// Why. Read by people only.
    #[expect(
        dead_code,
        reason = "an exception without a reason does not compile; people read it"
    )]
    pub why: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[Exception {
    from: "port",
    to: "futures",
    why: "ports are where waiting begins: their methods return boxed futures and streams",
}];

/// Whether the source would break a rule without the exception.
pub fn needs(source: &Source, exception: &Exception) -> bool {
    applies(source, exception)
        && source
            .named()
            .iter()
            .any(|named| refusal(source, named).is_some_and(|target| target == exception.to))
}

/// Every use of the source that goes up or sideways, as a line for people.
pub fn breaches(source: &Source) -> Vec<String> {
    let named = source.named();
    let refused = named
        .iter()
        .filter_map(|named| Some((named, refusal(source, named)?)));
    refused
        .filter(|(_, target)| {
            let allowed = |e: &&Exception| applies(source, e) && e.to == target.as_str();
            EXCEPTIONS.iter().find(allowed).is_none()
        })
        .map(|(named, target)| {
            let from = source.module.first().map_or("lib", String::as_str);
            format!(
                "{}: {from} may not use {target}: {}",
                source.name, named.path
            )
        })
        .collect()
}

fn applies(source: &Source, exception: &Exception) -> bool {
    let module = source.module.join("::");
    module == exception.from || module.starts_with(&format!("{}::", exception.from))
}

/// What is refused: the module of ours, or the entry of `IMPURE`.
fn refusal(source: &Source, named: &Named) -> Option<String> {
    // lib.rs declares the modules and uses none.
    let from = source.module.first()?;
    let Some(level) = level(from) else {
        return Some(format!(
            "anything: {from} is in no layer of tests/tidy/layers.rs"
        ));
    };
    if named.ours {
        let refused = named.root != *from && !may_use(from, level, &named.root);
        return refused.then(|| named.root.clone());
    }
    let impure = IMPURE
        .iter()
        .find(|impure| named.path == **impure || named.path.starts_with(&format!("{impure}::")));
    impure
        .filter(|_| level <= PURE_MAX)
        .map(|impure| (*impure).to_owned())
}

fn may_use(from: &str, from_level: usize, to: &str) -> bool {
    match level(to) {
        // An item of the crate's root, or a glob over it, hides where it comes from.
        None => false,
        Some(_) if from == "sim" => {
            level(to).is_some_and(|level| level <= PURE_MAX) || SIM.contains(&to)
        }
        Some(6) => from_level == 6,
        Some(to_level) if to_level == from_level => OPEN.contains(&to),
        Some(to_level) => to_level < from_level,
    }
}

fn level(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Breaches of a made-up file.
fn judge(module: &str, text: &str) -> Vec<String> {
    let module = module.split("::").map(str::to_owned).collect();
    breaches(&Source::parse(
        "made-up.rs".to_owned(),
        module,
        text.to_owned(),
    ))
}

#[test]
fn an_import_upwards_is_found_however_it_is_written() {
    for text in [
        "use crate::engine::cluster::Cluster;",
        "use crate::{domain::time::Timestamp, plan::{self, Plan}, controller};",
        "use crate::agent as helper;",
        "pub use crate::cli::*;",
        "use crate::*;",
        "use super::super::engine;",
        "fn f() { let _ = crate::engine::cluster::Cluster::new(); }",
        "struct S(Vec<crate::engine::node::Node>);",
        "fn f() { println!(\"{}\", crate::engine::VERSION); }",
        "#[serde(with = \"crate::engine::text\")] struct S;",
        "mod inner { use super::super::super::engine::x; }",
        "fn f() { use crate::engine; }",
        "impl crate::engine::T for u8 {}",
        "fn f() { match x { crate::engine::X::A => {} } }",
    ] {
        assert!(
            !judge("forecast::model", text).is_empty(),
            "not found: {text}"
        );
    }
}

#[test]
fn an_import_sideways_is_found() {
    for (module, text) in [
        ("store::ingest", "use crate::registry::fetch;"),
        ("cache", "use crate::agent::Agent;"),
        ("sim::world", "use crate::source::scenario;"),
        ("engine::node", "use crate::port::Clock;"),
        ("config", "use crate::cli::Exit;"),
        ("nowhere", "use crate::domain::time;"),
    ] {
        assert!(
            !judge(module, text).is_empty(),
            "not found: {module}: {text}"
        );
    }
}

#[test]
fn impure_names_are_found_in_pure_layers_only() {
    for text in [
        "use tokio::sync::mpsc;",
        "use std::{fs, fmt};",
        "fn f() { std::fs::read(\"x\"); }",
        "use std::time::{Duration, Instant};",
    ] {
        assert!(!judge("plan::order", text).is_empty(), "not found: {text}");
        assert_eq!(judge("store", text), [""; 0], "{text}");
    }
}

#[test]
fn imports_downwards_within_a_module_and_of_open_ones_are_fine() {
    for (module, text) in [
        (
            "engine::node::tests",
            "use super::super::blobs; use crate::plan::Plan; use super::*;",
        ),
        (
            "controller",
            "use crate::{api, config, engine, source::scenario, telemetry::log};",
        ),
        (
            "source::kafka",
            "use crate::config::Kafka; use crate::telemetry::metric::Metrics;",
        ),
        (
            "sim",
            "use crate::engine::cluster::Cluster; use crate::config::Layers;",
        ),
        ("main", "use forelay::cli::{self, Exit};"),
        (
            "domain::time",
            "use std::time::Duration; use serde::Serialize;",
        ),
        ("port", "use futures::future::BoxFuture;"),
        ("plan", "pub(crate) fn f() {} pub(in crate::plan) struct S;"),
        (
            "cli::demo",
            "use crate::embedded; use crate::agent; use super::Context;",
        ),
    ] {
        assert_eq!(judge(module, text), [""; 0], "{module}: {text}");
    }
}
