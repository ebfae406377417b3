//! Messages are what their definitions say: generated again and compared.
//!
//! `FORELAY_WRITE=1 cargo test --test wire` writes them after a definition was changed. No build needs
//! a compiler for definitions, neither protoc nor ours.

use std::fs;
use std::path::{Path, PathBuf};

/// Definitions by folder; beside each stands what is made of it.
const DEFINITIONS: [(&str, &[&str]); 2] = [
    (
        "src/runtime/wire",
        &[
            "containers",
            "content",
            "cri",
            "diff",
            "events",
            "images",
            "introspection",
            "leases",
            "payloads",
            "snapshots",
            "types",
            "version",
        ],
    ),
    ("src/source/expander/wire", &["core", "expander"]),
];

/// The one service that we serve; of the others we are clients.
const SERVED: &str = "expander";

fn absolute(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The text of `<folder>/<name>.rs`.
fn generated(folder: &str, name: &str) -> String {
    let definition = format!("{name}.proto");
    let files = protox::compile([&definition], [absolute(folder)])
        .unwrap_or_else(|e| panic!("{definition}: {e}"));
    let file = files.file.iter().find(|file| file.name() == definition);
    let package = file.unwrap().package().to_owned();

    let mut config = tonic_prost_build::Config::new();
    // Maps in one order and blobs without a copy; credentials have a Debug of their own.
    config
        .btree_map(["."])
        .bytes(["."])
        .skip_debug([".runtime.v1.AuthConfig"]);
    if name != "types" {
        config.extern_path(".containerd.types", "crate::runtime::wire::types");
    }
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_server(name == SERVED)
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds_with_config(files, config)
        .unwrap();
    let code = fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap();
    format!("//! Generated from {definition} by tests/wire.rs: change that, not this.\n\n{code}")
}

#[test]
fn the_messages_are_what_their_definitions_say() {
    let write = std::env::var_os("FORELAY_WRITE").is_some();
    let mut stale = Vec::new();
    for (folder, names) in DEFINITIONS {
        for name in names {
            let path = absolute(folder).join(format!("{name}.rs"));
            let text = generated(folder, name);
            if write {
                fs::write(&path, &text).unwrap();
            }
            if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                stale.push(path);
            }
        }
    }
    assert!(
        stale.is_empty(),
        "run `FORELAY_WRITE=1 cargo test --test wire`: {stale:?}"
    );
}

#[test]
fn every_definition_is_in_the_list() {
    for (folder, listed) in DEFINITIONS {
        let entries = fs::read_dir(absolute(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".proto").map(str::to_owned))
            .collect();
        names.sort();
        assert_eq!(names, listed);
    }
}
