//! The house rules that a machine can check: who imports whom, promises, lengths, generated files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use forelay::cli::generate;

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;

use layers::breaches;
use source::Source;

/// Longest file of `src`, in lines.
const LINES_MAX: usize = 600;
/// Messages as long as their definitions make them: tests/wire.rs compares each with its own.
const GENERATED: &str = "src/runtime/wire/";
/// Half of the files are shorter than this.
const LINES_HALF: usize = 180;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` (from the root) with one of these extensions, sorted.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if extensions.iter().any(|ext| name.ends_with(ext)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn sources() -> Vec<Source> {
    let files = files("src", &[".rs"]);
    assert!(
        files.len() > 20,
        "the sources are not where this test looks for them"
    );
    files
        .iter()
        .map(|path| Source::read(root(), path))
        .collect()
}

fn assert_none(rule: &str, breaches: &[String]) {
    let list = breaches.join("\n  ");
    assert!(
        breaches.is_empty(),
        "{rule} ({} breaches):\n  {list}",
        breaches.len()
    );
}

#[test]
fn imports_only_go_down() {
    let found: Vec<String> = sources().iter().flat_map(breaches).collect();
    assert_none(
        "a module may only use what lies below it (tests/tidy/layers.rs)",
        &found,
    );
}

#[test]
fn an_exception_to_the_layers_is_still_needed() {
    let sources = sources();
    let unused: Vec<String> = layers::EXCEPTIONS
        .iter()
        .filter(|exception| {
            !sources
                .iter()
                .any(|source| layers::needs(source, exception))
        })
        .map(|exception| format!("{} -> {}", exception.from, exception.to))
        .collect();
    assert_none("remove what is no longer needed", &unused);
}

#[test]
fn every_file_begins_with_its_promise() {
    let mut found = Vec::new();
    for path in files("src", &[".rs"])
        .into_iter()
        .chain(files("tests", &[".rs"]))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let promise = first.strip_prefix("//! ").unwrap_or_default();
        // The promise may run on, but its first line is long enough to say something.
        if promise.len() < 15 || first.len() > 100 {
            found.push(format!("{}: {first:?}", shown(&path)));
        }
    }
    assert_none(
        "the first line is `//! ` and what the file promises",
        &found,
    );
}

#[test]
fn files_are_short() {
    let lengths: Vec<(usize, String)> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), source.name.clone()))
        .collect();
    let long: Vec<String> = lengths
        .iter()
        .filter(|(lines, name)| *lines > LINES_MAX && !name.starts_with(GENERATED))
        .map(|(lines, name)| format!("{name}: {lines} lines"))
        .collect();
    assert_none("a file this long holds more than one thing", &long);
    let short = lengths
        .iter()
        .filter(|(lines, _)| *lines < LINES_HALF)
        .count();
    let all = lengths.len();
    assert!(
        2 * short >= all,
        "only {short} of {all} files have fewer than {LINES_HALF} lines"
    );
}

#[test]
fn no_module_hides_in_a_mod_rs() {
    let found: Vec<String> = files("src", &["/mod.rs", "mod.rs"])
        .iter()
        .map(|path| shown(path))
        .collect();
    let found: Vec<String> = found
        .into_iter()
        .filter(|name| name.ends_with("/mod.rs"))
        .collect();
    assert_none("foo.rs stands beside foo/", &found);
}

#[test]
fn generated_files_are_up_to_date() {
    let stale: Vec<String> = generate::files()
        .into_iter()
        .filter(|file| {
            std::fs::read_to_string(root().join(file.path))
                .ok()
                .as_deref()
                != Some(&file.text)
        })
        .map(|file| file.path.to_owned())
        .collect();
    assert_none("run `cargo run -- generate`", &stale);
}

#[test]
fn nothing_is_left_undone_or_hidden() {
    // Written in two halves, or this file would be the first breach.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ign", "ore"),
        concat!("allow(dead", "_code"),
        concat!("allow(unus", "ed"),
    ];
    let mut found = Vec::new();
    for path in files("src", &[".rs"])
        .into_iter()
        .chain(files("tests", &[".rs"]))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        for (line, number) in text.lines().zip(1..) {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                found.push(format!("{}:{number}: {mark}", shown(&path)));
            }
        }
    }
    assert_none("finish it, or write an issue", &found);
}

#[test]
fn no_path_of_the_machine_it_was_made_on_is_left() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let kinds = [
        ".rs", ".md", ".toml", ".yaml", ".yml", ".lock", ".sh", "run", "Makefile", "NOTICE",
    ];
    let mut found = Vec::new();
    for path in files("", &kinds) {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (line, number) in text.lines().zip(1..) {
            if places.iter().any(|place| line.contains(place)) {
                found.push(format!("{}:{number}: {line}", shown(&path)));
            }
        }
    }
    assert_none("a path like this exists on one machine only", &found);
}

#[test]
fn production_code_states_invariants_instead_of_unwrapping() {
    let found: Vec<String> = sources()
        .iter()
        .filter_map(|source| {
            let count = source.unwraps();
            (count > 0).then(|| format!("{}: {count}", source.name))
        })
        .collect();
    assert_none(
        "`expect` says which invariant holds; `unwrap` is for tests",
        &found,
    );
}

#[test]
fn imports_stand_at_the_top() {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            source
                .inner_uses()
                .into_iter()
                .map(move |path| (source, path))
        })
        .map(|(source, path)| format!("{}: {path}", source.name))
        .collect();
    assert_none("no imports inside functions", &found);
}

#[test]
fn make_test_installs_the_programs_that_tests_start_and_no_others() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let (_, rule) = makefile.split_once("\ntest-needs:\n").unwrap();
    let recipe = rule.split("\n\n").next().unwrap();
    let installed: BTreeSet<&str> = recipe
        .split_whitespace()
        .filter_map(|need| need.split_once(':'))
        .map(|(program, _)| program)
        .collect();
    let mut started = BTreeSet::new();
    for path in files("src", &[".rs"])
        .into_iter()
        .chain(files("tests", &[".rs"]))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let starts = text.split(concat!("Command::", "new(\"")).skip(1);
        started.extend(
            starts
                .filter_map(|rest| rest.split('"').next())
                .map(str::to_owned),
        );
    }
    let started: BTreeSet<&str> = started.iter().map(String::as_str).collect();
    assert_eq!(installed, started);
}

#[test]
fn there_is_one_tls_provider_and_it_is_aws_lc_rs() {
    // Cargo.lock also names what optional features of dependencies could bring; what is compiled
    // for this machine is what `cargo tree` prints.
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--edges", "normal,build"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains(&"aws-lc-rs") && names.contains(&"rustls"),
        "{tree}"
    );
    for other in ["ring", "native-tls", "openssl", "openssl-sys", "boring"] {
        assert!(
            !names.contains(&other),
            "{other} is compiled: see `cargo tree -i {other}`"
        );
    }
}

#[test]
fn every_dependency_comes_from_crates_io() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let elsewhere: Vec<String> = lock
        .lines()
        .filter(|line| line.starts_with("source = ") && !line.contains("rust-lang/crates.io-index"))
        .map(str::to_owned)
        .collect();
    assert_none(
        "a fork or a mirror has no place in the lock file",
        &elsewhere,
    );
}
