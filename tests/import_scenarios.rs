//! The scenarios of this repository are what `forelay import` makes of the recordings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use forelay::domain::image::ImageRef;
use forelay::domain::scenario::Header;
use forelay::domain::signal::{Fact, Signal};
use forelay::domain::time::Timestamp;
use forelay::source::recording::{self, About, LoadSource, Options};
use forelay::source::scenario::{ScenarioReader, Strictness};
use serde_json::Value;

const NAMES: [&str; 2] = ["ca-flash-crowd", "karpenter-rollout"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scenario(name: &str) -> (Header, Vec<Signal>) {
    let path = root().join(format!("scenarios/{name}.jsonl.zst"));
    let (header, reader) = ScenarioReader::open(&path, Strictness::Strict).unwrap();
    (header, reader.map(Result::unwrap).collect())
}

/// The raw data, where it is there: beside the repository, or where the variable says. Users have
/// the scenarios alone.
fn shared() -> Option<PathBuf> {
    let beside = root().join("../shared");
    let named = std::env::var_os("FORELAY_TEST_SHARED").map(PathBuf::from);
    let folder = named.unwrap_or(beside);
    folder.join("recordings").is_dir().then_some(folder)
}

fn truth(shared: &Path, name: &str) -> Value {
    let path = shared.join(format!("recordings/kubernetes-1.36/{name}/truth.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn at(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

#[test]
fn both_scenarios_read_strictly_and_hold_together() {
    for name in NAMES {
        let (header, signals) = scenario(name);
        assert_eq!(header.name, name);
        assert!(header.provenance.contains("catalogue"), "{name}");
        let mut ids = HashSet::new();
        let mut nodes: BTreeMap<String, String> = BTreeMap::new();
        let mut bound = BTreeSet::new();
        for signal in &signals {
            assert!((header.start..=header.end).contains(&signal.observedtime));
            assert!(ids.insert((&signal.source, &signal.id)), "{signal:?}");
            match &signal.fact {
                Fact::NodeJoined(f) => {
                    assert!(header.pool(&f.pool).is_some() && !f.pool.is_empty());
                    nodes.insert(f.node.clone(), f.pool.clone());
                }
                Fact::PodBound(f) => {
                    assert!(
                        nodes.contains_key(&f.node),
                        "{} before its node",
                        f.pod.name
                    );
                    bound.extend(f.needs.images.iter().map(|used| used.image.clone()));
                }
                _ => {}
            }
        }
        // One tag of the recordings was made up: pods that name it never start.
        let absent: ImageRef = "traefik:1.4.0-rc99".parse().unwrap();
        let unknown = bound
            .iter()
            .filter(|image| !header.images.contains_key(*image));
        assert!(unknown.into_iter().all(|image| *image == absent), "{name}");
    }
}

#[test]
fn every_platform_that_a_node_has_is_known_for_the_images_it_runs() {
    for name in NAMES {
        let (header, signals) = scenario(name);
        let mut arch: BTreeMap<&str, &str> = BTreeMap::new();
        for signal in &signals {
            match &signal.fact {
                Fact::NodeJoined(f) => {
                    arch.insert(&f.node, f.shape.architecture().unwrap());
                }
                Fact::PodBound(f) => {
                    let known = f
                        .needs
                        .images
                        .iter()
                        .filter_map(|u| header.images.get(&u.image));
                    for manifests in known {
                        let on = arch[f.node.as_str()];
                        assert!(
                            manifests.iter().any(|m| m.platform.arch == on),
                            "{signal:?}"
                        );
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_target_names_a_pool_that_nodes_join() {
    let (_, signals) = scenario("ca-flash-crowd");
    let mut joined = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for signal in &signals {
        match &signal.fact {
            Fact::NodeJoined(f) => drop(joined.insert(&f.pool)),
            Fact::NodeRequested(f) => drop(asked.insert(&f.pool)),
            _ => {}
        }
    }
    assert_eq!(joined, asked);
}

#[test]
fn every_truth_of_the_recordings_is_in_the_scenario_at_its_time() {
    let Some(shared) = shared() else {
        return;
    };
    for name in NAMES {
        let (header, signals) = scenario(name);
        let mut seen: BTreeMap<(&str, &str), Timestamp> = BTreeMap::new();
        for signal in &signals {
            let key = match &signal.fact {
                Fact::NodeJoined(f) => ("joined", f.node.as_str()),
                Fact::NodeReady(f) => ("ready", f.node.as_str()),
                Fact::PodBound(f) => ("bound", f.pod.uid.as_str()),
                Fact::PodStarted(f) => ("started", f.pod.uid.as_str()),
                _ => continue,
            };
            seen.entry(key).or_insert(signal.observedtime);
        }
        let mut checked = 0;
        let mut check = |what, id: &Value, time: &Value, within_s: f64| {
            let Some(time) = at(time).filter(|time| *time > header.start) else {
                return; // before the recording, or never
            };
            let id = id.as_str().unwrap();
            let seen = seen.get(&(what, id)).copied();
            let apart = seen.map(|seen| seen.secs_since(time).abs());
            assert!(
                apart.is_some_and(|apart| apart < within_s),
                "{name}: {what} {id} at {time}, seen {seen:?}"
            );
            checked += 1;
        };
        let truth = truth(&shared, name);
        for node in truth["nodes"].as_array().unwrap() {
            check("joined", &node["node"], &node["object_created_at"], 0.05);
            check("ready", &node["node"], &node["ready_at"], 0.05);
            for pod in node["pods"].as_array().unwrap() {
                check("bound", &pod["uid"], &pod["bound_at"], 0.05);
                // The truth's start is the script's decision, its write follows.
                check("started", &pod["uid"], &pod["started_at"], 0.2);
            }
        }
        assert!(checked > 400, "{name}: only {checked} truths");
    }
}

#[test]
fn sizes_in_the_header_are_those_that_the_kubelet_told() {
    for name in NAMES {
        let (header, signals) = scenario(name);
        let mut compared = 0;
        for signal in &signals {
            let Fact::ImagePulled(pulled) = &signal.fact else {
                continue;
            };
            if let (Some(size), Some(manifests)) = (pulled.size, header.images.get(&pulled.image)) {
                let close = |m: &&_| -> bool {
                    let m: &forelay::domain::image::ImageManifest = m;
                    m.size().0.abs_diff(size.0) < 64 << 10
                };
                assert!(manifests.iter().any(|m| close(&m)), "{}", pulled.image);
                compared += 1;
            }
        }
        assert!(compared > 100, "{name}: {compared}");
    }
}

#[test]
fn importing_the_recordings_again_gives_the_committed_signals() {
    let Some(shared) = shared() else {
        return;
    };
    for name in NAMES {
        let (header, signals) = scenario(name);
        let options = Options {
            about: About {
                name: header.name.clone(),
                story: header.story.clone(),
                ..About::default()
            },
            start: Some(header.start),
            catalogue: Some((
                shared.join("data/images/images.csv.gz"),
                shared.join("data/images/layers.csv.gz"),
            )),
            loads: loads(&shared, name),
            ..Options::default()
        };
        let folder = shared.join("recordings/kubernetes-1.36").join(name);
        let again = recording::import(&folder, &options).unwrap();
        assert!(
            again.signals == signals,
            "{name}: import it again, see scenarios/README.md"
        );
        assert_eq!(again.header.images, header.images);
        assert_eq!(again.header.end, header.end);
        assert!(header.provenance.ends_with(&again.header.provenance));
    }
}

/// The loads that the README's command names, with its paths put where the data is.
fn loads(shared: &Path, name: &str) -> Vec<LoadSource> {
    let readme = std::fs::read_to_string(root().join("scenarios/README.md")).unwrap();
    let command = readme
        .split("forelay import ")
        .find(|text| text.starts_with(&format!("$recordings/{name} ")));
    let data = shared.join("data").display().to_string();
    let words = command.unwrap().split_whitespace();
    let loads: Vec<LoadSource> = words
        .filter(|word| word.contains("=$data/load/"))
        .map(|word| word.replace("$data", &data).parse().unwrap())
        .collect();
    assert!(loads.len() >= 4);
    loads
}
