//! The scenario pack: every spec has its file, and makes it again byte for byte.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use forelay::compose::read::read;
use forelay::compose::spec::{Part, Spec};
use forelay::source::scenario::{ScenarioReader, Strictness};

/// Largest committed scenario: what a clone of the repository can bear a dozen of.
const BYTES_MAX: u64 = 500_000;

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("scenarios").join(name)
}

/// Paths of a folder's files with this ending, in the order of their names.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// File names without an ending.
fn stems(folder: &Path, ending: &str) -> Vec<String> {
    let stem = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.strip_suffix(ending).unwrap().to_owned()
    };
    files(folder, ending).into_iter().map(stem).collect()
}

/// Specs of pack and held-out set with their paths.
fn specs() -> Vec<(PathBuf, Spec)> {
    let all = ["", "held-out"].map(|name| files(&folder(name), ".toml"));
    let read = |path: PathBuf| {
        let spec = read(&path).unwrap_or_else(|e| panic!("{e}"));
        (path, spec)
    };
    all.into_iter().flatten().map(read).collect()
}

#[test]
fn every_spec_has_its_file_and_every_file_its_spec() {
    let pack = folder("");
    assert_eq!(stems(&pack, ".toml"), stems(&pack, ".jsonl.zst"));
    assert!(stems(&pack, ".toml").len() >= 12);
    for file in files(&pack, ".jsonl.zst") {
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", file.display());
    }
}

#[test]
fn every_spec_has_a_name_of_its_own_a_story_and_bounds() {
    let mut names = BTreeSet::new();
    for (path, spec) in specs() {
        let stem = path.file_stem().unwrap().to_string_lossy();
        assert_eq!(spec.name, stem, "{}", path.display());
        assert!(names.insert(spec.name.clone()), "{} twice", spec.name);
        // Three sentences: who, what happens, what would be good.
        assert!(spec.story.len() > 120, "{}: {}", spec.name, spec.story);
        assert!(!spec.bounds.is_empty(), "{} has no bounds", spec.name);
        let apart = path.parent().unwrap().ends_with("held-out");
        assert_eq!(apart, spec.part == Part::HeldOut, "{}", spec.name);
    }
}

#[test]
fn held_out_scenarios_share_neither_load_nor_seed_with_the_pack() {
    let mut loads = BTreeSet::new();
    let mut seeds = BTreeSet::new();
    for (path, spec) in specs() {
        let apart = path.parent().unwrap().ends_with("held-out");
        assert!(seeds.insert(spec.seed) || !apart, "{}", spec.name);
        for load in spec.workloads.iter().filter_map(|w| w.load.as_ref()) {
            let name = load.file.as_ref().and_then(|file| file.file_name());
            let name = name.unwrap().to_owned();
            if apart {
                assert!(!loads.contains(&name), "{}: {}", spec.name, name.display());
            } else {
                loads.insert(name);
            }
        }
    }
}

#[test]
fn composing_a_spec_again_gives_the_committed_bytes() {
    let out = tempfile::tempdir().unwrap();
    for (path, spec) in specs() {
        if spec.recorded.is_some() || spec.part == Part::HeldOut {
            continue;
        }
        let made = out.path().join("made.jsonl.zst");
        let run = Command::new(env!("CARGO_BIN_EXE_forelay"))
            .args([Path::new("compose"), &path, Path::new("--out"), &made])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{}: {words}", spec.name);
        let committed = std::fs::read(path.with_extension("jsonl.zst")).unwrap();
        let same = std::fs::read(&made).unwrap() == committed;
        assert!(same, "{}: compose it again and commit it", spec.name);
    }
}

#[test]
fn committed_files_tell_the_story_of_their_spec() {
    for (path, spec) in specs() {
        let file = path.with_extension("jsonl.zst");
        if spec.recorded.is_some() || !file.exists() {
            continue;
        }
        let (header, reader) = ScenarioReader::open(&file, Strictness::Strict).unwrap();
        assert_eq!(header.name, spec.name);
        assert_eq!(header.story, spec.story);
        let signals = reader.map(|signal| signal.map(|_| ()));
        signals.collect::<Result<(), _>>().unwrap();
    }
}
